"""Comparison of runs as in the paper's Table 1: a row per arm, as text table and CSV. Reads no files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING

from mica_ray.config.run_config import RunConfig
from mica_ray.evaluation.arms import difference, mean, verdict
from mica_ray.evaluation.evaluate import ScenarioRow
from mica_ray.evaluation.tables import CONTAMINATED, UNITS, format_interval
from mica_ray.reporting.drawing.text_table import TextTable
from mica_ray.runs.arms import RunArm
from mica_ray.statistics import Interval, wilson

if TYPE_CHECKING:
    import pandas as pd

METRIC = "EPM-Q"
INTERVALS = (
    "Brackets: 95 % intervals, over seeds within each scenario if an arm has several seeds, otherwise over "
    "scenarios; for passed, Wilson intervals"
)


@dataclass(frozen=True, slots=True)
class RunRow:
    """Scores of one arm. NaN if none of its runs has finished."""

    name: str
    policy: str
    estimator: str
    reward: str
    steps: int
    seeds: tuple[int, ...]
    """Seeds of the finished runs, which all numbers are computed from."""
    before: Interval
    """EPM-Q before training."""
    after: Interval
    """EPM-Q after training."""
    passes: int
    dialogues: int
    passed: Interval
    """Share of dialogues passed after training."""
    idr: Interval
    """Mean incremental distance reward after training, points per turn."""
    gain: Interval
    """EPM-Q after minus before, paired by scenario and seed."""
    against: Interval | None
    """EPM-Q after training minus that of the base arm; None without a base and for the base itself."""
    verdict: str | None
    """`against` as a sentence."""
    usd: float | None
    """Cost of all finished runs together in USD; None if one of them recorded no costs."""
    contaminated: bool
    failed_dialogues: int
    """Failed dialogues after training; no number includes them."""
    unfinished: tuple[str, ...]
    """One text per unfinished run."""


def run_rows(arms: Sequence[RunArm], base: RunArm | None = None) -> tuple[RunRow, ...]:
    """Return the scores of arms.

    Args:
        arms: one row each.
        base: the arm that the others are compared with; may be one of them.
    """
    return tuple(_row(arm, base) for arm in arms)


def run_text_table(rows: Sequence[RunRow], *, base: str | None = None) -> TextTable:
    """Return rows as a table. Settings that all rows share are in a note instead of a column.

    Args:
        rows: at least one.
        base: name of the arm that they are compared with.
    """
    described = {
        "policy": [row.policy.rstrip("/").rpartition("/")[2] for row in rows],
        "credit": [row.estimator for row in rows],
        "reward": [row.reward for row in rows],
        "steps": [str(row.steps) for row in rows],
        "seeds": [", ".join(map(str, row.seeds)) or "-" for row in rows],
    }
    shared = {title: cells[0] for title, cells in described.items() if len(set(cells)) == 1}
    columns = {"": [row.name for row in rows]}
    columns |= {title: cells for title, cells in described.items() if title not in shared}
    columns |= _numbers(rows, base)
    notes = [f"all rows: {', '.join(f'{title} {text}' for title, text in shared.items())}"] if shared else []
    notes += [INTERVALS, UNITS]
    notes += [f"* {CONTAMINATED}"] if any(row.contaminated for row in rows) else []
    notes += [row.verdict for row in rows if row.verdict is not None]
    return TextTable(
        title="Runs before and after training",
        header=tuple(columns),
        rows=tuple(zip(*columns.values(), strict=True)),
        notes=tuple(notes),
    )


def runs_frame(rows: Sequence[RunRow]) -> pd.DataFrame:
    """Return one row per arm and one column per number or text; missing where it is not defined."""
    import pandas as pd

    return pd.DataFrame([_flat(row) for row in rows])


def run_csv(rows: Sequence[RunRow]) -> str:
    """Return rows as CSV with a column per number; a field is empty where a number is not defined."""
    return runs_frame(rows).to_csv(index=False, lineterminator="\n")


def _row(arm: RunArm, base: RunArm | None) -> RunRow:
    seed = arm.config.evaluation.seed
    before, after = arm.before_scores(_epm_q), arm.after_scores(_epm_q)
    counted = [row for evaluation in arm.after for row in evaluation.rows]
    passes, dialogues = sum(row.passes for row in counted), sum(row.samples for row in counted)
    compared = (
        base.after_scores(_epm_q) if base is not None and base.name != arm.name and arm.finished else None
    )
    costs = [run.usd for run in arm.finished if run.usd is not None]
    return RunRow(
        name=arm.name,
        policy=arm.config.policy,
        estimator=_changed(arm.config.credit, type(arm.config.credit).__name__),
        reward=_reward(arm.config),
        steps=arm.config.loop.num_steps,
        seeds=after.seeds,
        before=mean(before, seed=seed),
        after=mean(after, seed=seed),
        passes=passes,
        dialogues=dialogues,
        passed=wilson(passes, dialogues),
        idr=mean(arm.after_scores(lambda row: row.idr), seed=seed),
        gain=difference(after, before, seed=seed),
        against=None if compared is None else difference(after, compared, seed=seed),
        verdict=None if compared is None else verdict(after, compared, METRIC, seed=seed),
        usd=math.fsum(costs) if costs and len(costs) == len(arm.finished) else None,
        contaminated=arm.config.contaminated,
        failed_dialogues=sum(evaluation.num_failed_dialogues for evaluation in arm.after),
        unfinished=tuple(
            f"seed {run.config.seed} unfinished, {run.steps_done} of {run.config.loop.num_steps} steps"
            for run in arm.unfinished
        ),
    )


def _numbers(rows: Sequence[RunRow], base: str | None) -> dict[str, list[str]]:
    columns = {
        f"{METRIC} before": [_show(row.before) for row in rows],
        f"{METRIC} after": [_show(row.after) + ("*" if row.contaminated else "") for row in rows],
        "gain": [_show(row.gain) for row in rows],
        "passed": [_share(row) for row in rows],
        "mean IDR": [_show(row.idr) for row in rows],
    }
    if base is not None:
        columns[f"against {base}"] = ["-" if row.against is None else _show(row.against) for row in rows]
    if any(row.usd for row in rows):
        columns["USD"] = ["-" if row.usd is None else f"{row.usd:.2f}" for row in rows]
    remarks = ["; ".join([*row.unfinished, *_failures(row)]) for row in rows]
    return columns | ({"remarks": remarks} if any(remarks) else {})


def _failures(row: RunRow) -> list[str]:
    return [f"{row.failed_dialogues} dialogues failed"] if row.failed_dialogues else []


def _show(interval: Interval) -> str:
    return "-" if math.isnan(interval.estimate) else format_interval(interval)


def _share(row: RunRow) -> str:
    if not row.dialogues:
        return "-"
    share, low, high = (100 * value for value in (row.passed.estimate, row.passed.low, row.passed.high))
    return f"{row.passes} of {row.dialogues}, {share:.0f} % [{low:.0f}, {high:.0f}]"


def _epm_q(row: ScenarioRow) -> float:
    return row.epm_q


def _reward(config: RunConfig) -> str:
    return _changed(config.rewards, config.rewards.kind.upper(), shown=("kind",))


def _changed(value: object, name: str, *, shown: Sequence[str] = ()) -> str:
    """Return a name and the fields that differ from their default, such as `Mica alpha=1.0`."""
    if not is_dataclass(value):
        return name
    changed = [
        f"{field.name}={given}"
        for field in fields(value)
        if field.name not in shown and (given := getattr(value, field.name)) != field.default
    ]
    return " ".join([name, *changed])


def _flat(row: RunRow) -> dict[str, object]:
    cells: dict[str, object] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        if field.name in ("before", "after", "passed", "idr", "gain", "against"):
            interval = value or Interval(math.nan, math.nan, math.nan)
            cells |= {f"{field.name}_{name}": bound for name, bound in asdict(interval).items()}
        else:
            cells[field.name] = "; ".join(map(str, value)) if isinstance(value, tuple) else value
    return cells
