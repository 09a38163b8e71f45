"""`mica judges card`: ask judges about recorded turns in many ways, and report how reliable they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mica_ray.cli.empa import DOMAIN, slug
from mica_ray.cli.judges.asking import CardQuestions, judged
from mica_ray.cli.judges.card_output import card_of, show_card, track_card, write_card
from mica_ray.cli.options import (
    JUDGE_VALUES,
    ROLE_FORMS,
    InlineOption,
    SetOption,
    TrustOption,
    new_console,
    writing,
)

if TYPE_CHECKING:
    from mica_ray.config import RunConfig
    from mica_ray.config.role_config import Player, Recording


def card_command(
    source: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_FILE", help="A run folder, or judged dialogues as JSON lines."),
    ],
    judge: Annotated[list[str], typer.Option("--judge", help=f"A judge; repeatable: {ROLE_FORMS}.")],
    turns: Annotated[int, typer.Option(min=1, help="Recorded turns to judge.")] = 60,
    repeats: Annotated[int, typer.Option(min=1, help="Judgements of the same turn by a judge.")] = 3,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--condition",
            metavar="NAME",
            help="Only these conditions besides the repeats; repeatable: axis_order, paraphrase, language, "
            "padding, echo, canary, late_canary.",
        ),
    ] = None,
    temperature: Annotated[
        float,
        typer.Option(min=0, help="Temperature of the judge. At 0, repeats differ little or not at all."),
    ] = 0.7,
    cards: Annotated[
        Path | None, typer.Option(metavar="DIR", help="EMPA cards: who the recorded users are.")
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="Domain with rubric. Default: the run's, or EMPA."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of turns and of the judges.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions in flight.")] = 4,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the card. Default: runs/judge-card-SOURCE."),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(metavar="URI", help="MLflow store. Default: the run's own, if there is one."),
    ] = None,
    inline: InlineOption = False,
    sets: SetOption = None,
    trust: TrustOption = False,
) -> None:
    """Measure how reliable judges are on recorded turns: a page, and the same as JSON.

    Each turn is judged again with other seeds, other wording and changed replies. Every answer is kept: the
    same command continues where an earlier one stopped.
    """
    console = new_console()
    base = _base_config(source, domain, cards, temperature, sets or ())
    folder = out or Path("runs") / f"judge-card-{slug(source.name if source.is_dir() else source.stem)}"
    asked = _question(
        source, base, turns, conditions, repeats=repeats, seed=seed, concurrency=concurrency, folder=folder,
        inline=inline,
    )  # fmt: skip
    found = [judged(asked, name, config, console) for name, config in _judges(base, judge, sets or ())]
    card = card_of(asked, source, found)
    with writing("--out", folder):
        write_card(card, folder)
    show_card(card, folder, console)
    track_card(source, folder, card, mlflow, console)


def _base_config(
    source: Path, domain: str | None, cards: Path | None, temperature: float, sets: Sequence[str]
) -> RunConfig:
    """Return the config in which a judge is set: domain and people of a run folder, or of the options."""
    from mica_ray.config import RunConfig
    from mica_ray.config.overrides import override
    from mica_ray.config.role_config import RoleConfig
    from mica_ray.runs.folder import RunFolder

    base, values = RunConfig(), {**JUDGE_VALUES, "roles.temperature": temperature}
    if RunFolder.holds_run(source):
        stored = RunConfig.read(RunFolder.open(source).config_file)
        base = stored.model_copy(update={"roles": RoleConfig()})
    elif domain is None:
        domain = DOMAIN
    if domain is not None:
        values |= {"domain": domain, "scenarios_file": None, "cards": None}
    if cards is not None:
        values["cards"] = str(cards)
    return override(base, [one for one in sets if not one.startswith("roles.judge")], values=values)


def _judges(base: RunConfig, judges: Sequence[str], sets: Sequence[str]) -> list[tuple[str, RunConfig]]:
    """Return every judge's name, unique on the card, and its config."""
    from mica_ray.config.overrides import override, read_value

    found: list[tuple[str, RunConfig]] = []
    for judge in judges:
        config = override(base, sets, values={"roles.judge": read_value(judge)})
        name = _name(config.roles.judge)
        same = sum(other == name or other.startswith(f"{name} (") for other, _ in found)
        found.append((f"{name} ({same + 1})" if same or name == "recorded" else name, config))
    return found


def _name(judge: Player | Recording) -> str:
    from mica_ray.chat.openai_api import Endpoint
    from mica_ray.config.role_config import VLLM_PREFIX, Recording
    from mica_ray.valid_text import valid_text

    if isinstance(judge, Recording):
        return judge.recording.stem if judge.inner is None else _name(judge.inner)
    if isinstance(judge, Endpoint):
        return valid_text(judge.model)
    if isinstance(judge, str):
        place = Path(judge.removeprefix(VLLM_PREFIX))
        return valid_text(place.name if place.is_absolute() else str(place))
    return type(judge).__name__


def _question(
    source: Path,
    base: RunConfig,
    turns: int,
    conditions: Sequence[str] | None,
    *,
    repeats: int,
    seed: int,
    concurrency: int,
    folder: Path,
    inline: bool,
) -> CardQuestions:
    """Read the dialogues and choose the turns.

    Raises:
        ConfigError: the dialogues, the domain or a condition cannot be used.
    """
    from mica_ray.checks import one_of
    from mica_ray.config import ConfigError
    from mica_ray.judges.card.presentations import AS_IS, CONDITIONS
    from mica_ray.judges.card.turns import choose_turns
    from mica_ray.launch.domain_source import read_judged_domain
    from mica_ray.recordings.dialogue_files import DIALOGUES, read_state_paths
    from mica_ray.recordings.recorded_dialogue import RecordingError

    played = read_judged_domain(base)
    if played.potential is not None:
        raise ConfigError(f"{played.name}: its judge returns one value. A card needs levels on three axes.")
    try:
        for name in conditions or ():
            one_of(CONDITIONS, **{"--condition": name})
        dialogues = read_state_paths(source / DIALOGUES if source.is_dir() else source)
        chosen = choose_turns(dialogues, played, num_turns=turns, seed=seed, scenarios=played.scenarios)
    except (RecordingError, ValueError) as error:
        raise ConfigError(f"{source}: {error}" if str(source) not in str(error) else str(error)) from error
    names = tuple(CONDITIONS) if conditions is None else (AS_IS, *conditions)
    return CardQuestions(base, played, chosen, names, repeats, seed, concurrency, folder, inline)
