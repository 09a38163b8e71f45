"""Tables of a sweep: a row per cell, as text and as CSV. tuning/sweep_result.py computes the numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mica_ray.evaluation.tables import format_interval
from mica_ray.reporting.drawing.text_table import TextTable
from mica_ray.statistics import Interval
from mica_ray.tuning.sweep import Sweep
from mica_ray.tuning.sweep_result import CellRow, SweepResult

if TYPE_CHECKING:
    import pandas as pd

INTERVALS = "95 % stratified bootstrap intervals, not corrected for choosing the best of several cells"


def sweep_text_table(sweep: Sweep, outcome: SweepResult) -> TextTable:
    """Return a table with a row per cell; question and answer are below it."""
    against = f"difference to {outcome.reference}" if outcome.reference else "difference"
    left_out = [f"Not all trials ran: {outcome.unplayed}."] if outcome.unplayed else []
    return TextTable(
        title=f"{sweep.name}: {sweep.metric} by cell",
        header=("cell", "seeds", "interquartile mean", "mean", against, "P(higher)"),
        rows=tuple(
            (row.cell.name, _counts(row), *map(_show, (row.middle, row.mean, row.gain, row.chance)))
            for row in outcome.rows
        ),
        notes=(INTERVALS, *left_out, sweep.question, outcome.answer),
    )


def cells_frame(outcome: SweepResult) -> pd.DataFrame:
    """Return one row per cell and one column per number; NaN where a number is not defined.

    Columns: cell, finished (number of finished trials), trials, and estimate, low and high of each of
    interquartile_mean, mean, difference and probability_of_improvement.
    """
    import pandas as pd

    undefined = Interval(math.nan, math.nan, math.nan)
    return pd.DataFrame(
        {
            "cell": row.cell.name,
            "finished": row.trials.get("finished", 0),
            "trials": sum(row.trials.values()),
            **_bounds("interquartile_mean", row.middle),
            **_bounds("mean", row.mean),
            **_bounds("difference", row.gain or undefined),
            **_bounds("probability_of_improvement", row.chance or undefined),
        }
        for row in outcome.rows
    )


def sweep_csv(outcome: SweepResult) -> str:
    """Return the cells as CSV; a field is empty where a number is not defined."""
    return cells_frame(outcome).to_csv(index=False, lineterminator="\n")


def _bounds(name: str, interval: Interval) -> dict[str, float]:
    return {f"{name}_estimate": interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _counts(row: CellRow) -> str:
    finished, every = row.trials.get("finished", 0), sum(row.trials.values())
    return str(finished) if finished == every else f"{finished} of {every}"


def _show(interval: Interval | None) -> str:
    return "" if interval is None or math.isnan(interval.estimate) else format_interval(interval)
