"""The outputs of `mica judges card`: page, JSON, table and MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mica_ray.cli.judges.asking import CardQuestions

if TYPE_CHECKING:
    from mica_ray.judges.card.findings import Findings
    from mica_ray.judges.card.record import Card

PAGE, RECORD = "card.html", "card.json"


def card_of(asked: CardQuestions, source: Path, found: Sequence[Findings]) -> Card:
    """Return the card of all judges."""
    import numpy as np

    from mica_ray.judges.card.conclusion import conclude
    from mica_ray.judges.card.noise import Bootstrap
    from mica_ray.judges.card.record import Card, CardSettings, agreement_between
    from mica_ray.judges.card.turns import point_levels
    from mica_ray.valid_text import valid_text

    cases = np.array([turn.case for turn in asked.turns])
    settings = CardSettings(
        source=valid_text(source.name),
        domain=asked.domain.name,
        num_turns=len(asked.turns),
        num_dialogues=len(set(cases.tolist())),
        repeats=asked.repeats,
        temperature=asked.config.roles.temperature,
        seed=asked.seed,
        num_unknown_people=sum(not turn.scenario.persona for turn in asked.turns),
    )
    between = agreement_between(found, asked.turns, Bootstrap(cases, asked.seed), point_levels(asked.domain))
    return Card(settings, asked.turns, tuple(found), tuple(map(conclude, found)), between)


def write_card(card: Card, folder: Path) -> None:
    """Write page and JSON.

    Raises:
        OSError: the folder is not writable.
    """
    from mica_ray.files import write_json, write_whole
    from mica_ray.judges.card.record import card_record
    from mica_ray.reporting.judges.page import card_page

    write_json(folder / RECORD, card_record(card))
    write_whole(folder / PAGE, card_page(card))


def show_card(card: Card, folder: Path, console: Console) -> None:
    """Print the requirements and the conclusion of every judge."""
    from mica_ray.reporting.drawing.text_table import TextTable
    from mica_ray.reporting.judges.tables import check_rows

    for found, conclusion in zip(card.judges, card.conclusions, strict=True):
        header = ("", "value", "limit", "")
        TextTable(found.name, header, tuple(check_rows(conclusion))).show(console)
        console.print(f"{found.name}: {conclusion.line}\n", highlight=False, soft_wrap=True)
    console.print(f"{folder / PAGE}: opens offline", highlight=False, soft_wrap=True)


def track_card(source: Path, folder: Path, card: Card, uri: str | None, console: Console) -> None:
    """Add the card to MLflow: to a run of its own in a store, or to that of the run folder."""
    from mica_ray.config import ConfigError, RunConfig
    from mica_ray.runs.folder import RunFolder
    from mica_ray.runs.mlflow_run import open_tracking, start_sweep_tracking, sweep_store

    if uri is not None:
        params = {"source": card.settings.source, "judges": ", ".join(one.name for one in card.judges)}
        lines = "\n".join(line.line for line in card.conclusions)
        tracker = start_sweep_tracking(
            "judge-card", folder, uri=sweep_store(folder, uri), params=params, description=lines
        )
    elif RunFolder.holds_run(source):
        run = RunFolder.open(source)
        try:
            tracker = open_tracking(RunConfig.read(run.config_file, trusted=True), run)
        except ConfigError as error:
            console.print(f"The card is not in MLflow: {error}", highlight=False, soft_wrap=True)
            return
    else:
        return
    for name in (PAGE, RECORD):
        tracker.artifact(folder / name)
    if uri is None:
        tracker.flush()
    else:
        tracker.close()
