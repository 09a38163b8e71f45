"""The paper's Table 1 for runs of one's own: a row per arm, as texts and as records. Nothing is read here."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass

from mica_ray.config.run_config import RunConfig
from mica_ray.evaluation.arms import difference, mean, verdict
from mica_ray.evaluation.evaluate import ScenarioRow
from mica_ray.evaluation.tables import CONTAMINATED, UNITS, format_interval
from mica_ray.reporting.drawing.text_table import TextTable
from mica_ray.runs.arms import RunArm
from mica_ray.statistics import Interval, wilson

METRIC = "EPM-Q"
INTERVALS = (
    "95 % intervals: over the seeds within each scenario where an arm has several, else over scenarios; "
    "of passed: Wilson"
)


@dataclass(frozen=True, slots=True)
class RunRow:
    """What an arm's runs came to. NaN where no run of it has finished."""

    name: str
    policy: str
    estimator: str
    reward: str
    steps: int
    seeds: tuple[int, ...]
    """Of the finished runs, from which all numbers are."""
    before: Interval
    """EPM-Q."""
    after: Interval
    """EPM-Q."""
    passes: int
    dialogues: int
    passed: Interval
    """Share of the dialogues after training."""
    idr: Interval
    """After training, points per turn."""
    gain: Interval
    """EPM-Q after minus before, paired by scenario and seed."""
    against: Interval | None
    """EPM-Q after training minus that of the base arm; None without a base, and for the base itself."""
    verdict: str | None
    """`against` as a sentence."""
    usd: float | None
    """Of all finished runs together; None where one of them kept no costs."""
    contaminated: bool
    failed_dialogues: int
    """After training, left out of every number."""
    unfinished: tuple[str, ...]
    """One text per run that has not finished."""


def run_rows(arms: Sequence[RunArm], base: RunArm | None = None) -> tuple[RunRow, ...]:
    """Measure arms.

    Args:
        arms: one row each.
        base: the arm that the others are compared with, which may be one of them.
    """
    return tuple(_row(arm, base) for arm in arms)


def run_text_table(rows: Sequence[RunRow], *, base: str | None = None) -> TextTable:
    """Lay rows out; what all of them share stands below the table instead of in a column.

    Args:
        rows: at least one.
        base: name of the arm they are compared with.
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


def run_csv(rows: Sequence[RunRow]) -> str:
    """Write rows with a column per number; an empty cell is a number that does not exist."""
    flat = [_flat(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


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
        f"{METRIC} before": [_shown(row.before) for row in rows],
        f"{METRIC} after": [_shown(row.after) + ("*" if row.contaminated else "") for row in rows],
        "gain": [_shown(row.gain) for row in rows],
        "passed": [_share(row) for row in rows],
        "mean IDR": [_shown(row.idr) for row in rows],
    }
    if base is not None:
        columns[f"against {base}"] = ["-" if row.against is None else _shown(row.against) for row in rows]
    if any(row.usd for row in rows):
        columns["USD"] = ["-" if row.usd is None else f"{row.usd:.2f}" for row in rows]
    remarks = ["; ".join([*row.unfinished, *_failures(row)]) for row in rows]
    return columns | ({"remarks": remarks} if any(remarks) else {})


def _failures(row: RunRow) -> list[str]:
    return [f"{row.failed_dialogues} dialogues failed"] if row.failed_dialogues else []


def _shown(interval: Interval) -> str:
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
    """Give a name and the fields that are not as by default, such as `Mica alpha=1.0`."""
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
            bounds = {"estimate": None, "low": None, "high": None} if value is None else asdict(value)
            cells |= {f"{field.name}_{name}": _cell(bound) for name, bound in bounds.items()}
        else:
            cells[field.name] = "; ".join(map(str, value)) if isinstance(value, tuple) else _cell(value)
    return cells


def _cell(value: object) -> object:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
