"""Evaluations as a table for the terminal and as JSON for programs. No dialogue is played here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from mica_ray.evaluation.evaluate import Comparison, Evaluation
from mica_ray.statistics import Interval

if TYPE_CHECKING:
    from rich.table import Table

MEASURES: Mapping[str, str] = {
    "epm_q": "EPM-Q",
    "pass_fraction": "passed",
    "idr": "mean IDR",
}
"""Fields that Evaluation and Comparison share, with their titles; 80 columns hold no longer ones."""


CONTAMINATED = "contaminated: official EMPA test cases were training scenarios"
"""How a report says that its scores measure memory too."""

UNITS = "EPM-Q: score; passed: share of dialogues; mean IDR: points per turn"


def comparison_table(
    title: str, before: Evaluation, after: Evaluation, comparison: Comparison, *, contaminated: bool = False
) -> Table:
    """Lay out before, after and difference, each with its 95 % interval."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, caption=_caption(after, contaminated=contaminated), box=SIMPLE_HEAD)
    for column in ("", "before", "after", "difference"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for field, label in MEASURES.items():
        table.add_row(label, *(show_interval(getattr(item, field)) for item in (before, after, comparison)))
    return table


def evaluations_table(
    title: str, evaluations: Mapping[str, Evaluation], *, contaminated: bool = False
) -> Table:
    """Lay out one row per evaluated policy."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    caption = _caption(*evaluations.values(), contaminated=contaminated)
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD)
    for column in ("", *MEASURES.values()):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for name, evaluation in evaluations.items():
        table.add_row(name, *(show_interval(getattr(evaluation, field)) for field in MEASURES))
    return table


def show_interval(interval: Interval) -> str:
    """Write an interval as `estimate [low, high]`, with digits to suit its size."""
    digits = 1 if max(abs(interval.low), abs(interval.high), abs(interval.estimate)) >= 10 else 2
    return f"{interval.estimate:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def evaluation_record(evaluation: Evaluation, *, contaminated: bool = False) -> dict[str, object]:
    """Give an evaluation as plain JSON values, its dialogues left out."""
    return {
        "contaminated": contaminated,
        **{field: asdict(getattr(evaluation, field)) for field in MEASURES},
        "num_dialogues": sum(row.samples for row in evaluation.rows),
        "num_failed_dialogues": evaluation.num_failed_dialogues,
        "num_failed_judgements": evaluation.num_failed_judgements,
        "scenarios": [asdict(row) for row in evaluation.rows],
    }


def comparison_record(comparison: Comparison) -> dict[str, object]:
    """Give a comparison as plain JSON values."""
    return {field: asdict(getattr(comparison, field)) for field in MEASURES}


def _caption(*evaluations: Evaluation, contaminated: bool) -> str:
    dialogues = sum(row.samples for item in evaluations for row in item.rows)
    failed = sum(item.num_failed_dialogues for item in evaluations)
    judgements = sum(item.num_failed_judgements for item in evaluations)
    scenarios = len(evaluations[-1].rows) if evaluations else 0
    lost = (
        f"; {failed} dialogues and {judgements} judgements failed and are left out"
        if failed or judgements
        else ""
    )
    mark = f"\n{CONTAMINATED}" if contaminated else ""
    return f"{scenarios} scenarios, {dialogues} dialogues, 95 % intervals over scenarios{lost}\n{UNITS}{mark}"
