"""Evaluations as tables for the terminal and as JSON; costs.py and rescore_tables.py use the same layout."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
"""Fields that Evaluation and Comparison share, with their titles; longer titles do not fit 80 columns."""

CONTAMINATED = "contaminated: official EMPA test cases were training scenarios"
"""Note in reports whose scores measure memorization as well."""

UNITS = "EPM-Q: score; passed: share of dialogues; mean IDR: points per turn"


def terminal_table(
    title: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str = "",
    num_texts: int = 1,
) -> Table:
    """Return a table that shows every cell as it is, even if a name looks like markup.

    Args:
        title: above the table.
        heads: one heading per column.
        rows: one text per column.
        caption: below the table.
        num_texts: number of text columns, which come first; they are folded when the terminal is narrow.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title, caption=caption or None, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False
    )
    for number, head in enumerate(heads):
        is_text = number < num_texts
        table.add_column(
            head,
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=not is_text,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def comparison_table(
    title: str, before: Evaluation, after: Evaluation, comparison: Comparison, *, contaminated: bool = False
) -> Table:
    """Return before, after and difference, each with its 95 % interval."""
    rows = [
        [label, *(format_interval(getattr(item, field)) for item in (before, after, comparison))]
        for field, label in MEASURES.items()
    ]
    caption = _caption(after, contaminated=contaminated)
    return terminal_table(title, ("", "before", "after", "difference"), rows, caption=caption)


def evaluations_table(
    title: str, evaluations: Mapping[str, Evaluation], *, contaminated: bool = False
) -> Table:
    """Return one row per evaluated policy."""
    rows = [
        [name, *(format_interval(getattr(evaluation, field)) for field in MEASURES)]
        for name, evaluation in evaluations.items()
    ]
    caption = _caption(*evaluations.values(), contaminated=contaminated)
    return terminal_table(title, ("", *MEASURES.values()), rows, caption=caption)


def format_interval(interval: Interval) -> str:
    """Return an interval as `estimate [low, high]`, with one decimal from 10 on and two below."""
    digits = 1 if max(abs(interval.low), abs(interval.high), abs(interval.estimate)) >= 10 else 2
    return f"{interval.estimate:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def evaluation_record(evaluation: Evaluation, *, contaminated: bool = False) -> dict[str, object]:
    """Return an evaluation as plain JSON values, without its dialogues."""
    return {
        "contaminated": contaminated,
        **{field: asdict(getattr(evaluation, field)) for field in MEASURES},
        "alignment": evaluation.alignment,
        "alignment_dynamic": evaluation.alignment_dynamic,
        "num_dialogues": sum(row.samples for row in evaluation.rows),
        "num_failed_dialogues": evaluation.num_failed_dialogues,
        "num_failed_judgements": evaluation.num_failed_judgements,
        "num_silent_replies": evaluation.num_silent_replies,
        "scenarios": [asdict(row) for row in evaluation.rows],
    }


def comparison_record(comparison: Comparison) -> dict[str, object]:
    """Return a comparison as plain JSON values."""
    return {field: asdict(getattr(comparison, field)) for field in MEASURES}


def _caption(*evaluations: Evaluation, contaminated: bool) -> str:
    dialogues = sum(row.samples for item in evaluations for row in item.rows)
    failed = sum(item.num_failed_dialogues for item in evaluations)
    judgements = sum(item.num_failed_judgements for item in evaluations)
    scenarios = len(evaluations[-1].rows) if evaluations else 0
    failures = (
        f"; {failed} dialogues and {judgements} judgements failed and are left out"
        if failed or judgements
        else ""
    )
    silent = sum(item.num_silent_replies for item in evaluations)
    failures += f"; {silent} replies said nothing and have no score" if silent else ""
    note = f"\n{UNITS}\n{CONTAMINATED}" if contaminated else f"\n{UNITS}"
    failures += _alignment_text(evaluations[0]) if len(evaluations) == 1 else ""
    units = "95 % intervals over scenarios, of passed over dialogues"
    return f"{scenarios} scenarios, {dialogues} dialogues, {units}{failures}{note}"


def _alignment_text(evaluation: Evaluation) -> str:
    """Return the alignments, and nothing for evaluations that have none."""
    if math.isnan(evaluation.alignment):
        return ""
    fixed, dynamic = evaluation.alignment, evaluation.alignment_dynamic
    return f"; alignment {fixed:.2f} with the direction from P_0, {dynamic:.2f} with that from each state"
