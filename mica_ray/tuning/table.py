"""Tables of a sweep: a row per cell, as text and as CSV. sweep_result.py computes the numbers."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict

from mica_ray.evaluation.report import show_interval
from mica_ray.reporting.drawing.text_table import TextTable
from mica_ray.statistics import Interval
from mica_ray.tuning.sweep import Sweep
from mica_ray.tuning.sweep_result import CellRow, SweepResult

INTERVALS = "95 % stratified bootstrap intervals; not widened for having chosen the best of several"


def sweep_text_table(sweep: Sweep, outcome: SweepResult) -> TextTable:
    """Lay out a row per cell; question and answer stand below."""
    against = f"against {outcome.reference}" if outcome.reference else "difference"
    left_out = [f"not all trials were played: {outcome.unplayed}"] if outcome.unplayed else []
    return TextTable(
        title=f"{sweep.name}: {sweep.metric} by cell",
        header=("cell", "seeds", "interquartile mean", "mean", against, "P(better)"),
        rows=tuple(
            (row.cell.name, _counts(row), *map(_shown, (row.middle, row.mean, row.gain, row.chance)))
            for row in outcome.rows
        ),
        notes=(INTERVALS, *left_out, sweep.question, outcome.answer),
    )


def sweep_csv(outcome: SweepResult) -> str:
    """Write the rows with a column per number; an empty field is a number that does not exist."""
    numbers = ("interquartile_mean", "mean", "difference", "probability_of_improvement")
    columns = [f"{name}_{bound}" for name in numbers for bound in ("estimate", "low", "high")]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["cell", "finished", "trials", *columns], lineterminator="\n")
    writer.writeheader()
    for row in outcome.rows:
        values = dict(zip(numbers, (row.middle, row.mean, row.gain, row.chance), strict=True))
        writer.writerow(
            {"cell": row.cell.name, "finished": row.trials.get("finished", 0)}
            | {"trials": sum(row.trials.values())}
            | {
                f"{name}_{bound}": "" if math.isnan(value) else value
                for name, interval in values.items()
                if interval is not None
                for bound, value in asdict(interval).items()
            }
        )
    return text.getvalue()


def _counts(row: CellRow) -> str:
    finished, every = row.trials.get("finished", 0), sum(row.trials.values())
    return str(finished) if finished == every else f"{finished} of {every}"


def _shown(interval: Interval | None) -> str:
    return "" if interval is None or math.isnan(interval.estimate) else show_interval(interval)
