"""Charts of a run report with all runs overlaid: by training step, and by turn of the dialogue."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.reporting.dialogues.turns import FEWEST, turn_means
from mica_ray.reporting.drawing.line_chart import Curve, LineChart, Panel
from mica_ray.runs.stored_run import RunFiles
from mica_ray.training.audit.metrics import (
    AUDIT_REWARD,
    CUSUM,
    GAP,
    PROBE_FAILURES,
    THRESHOLD,
    TRAINING_REWARD,
)

_LEARNING = (
    ("reward of a turn", "reward_mean", "mean reward", 1.0),
    ("training dialogues that succeed", "success_fraction", "success (%)", 100.0),
    ("EPM-Q in evaluations", "eval_epm_q", "EPM-Q", 1.0),
    ("evaluation dialogues that pass", "eval_pass_fraction", "passed (%)", 100.0),
)
"""Title of the panel, metric (training/metrics.py), axis label, factor."""
_UPDATES = (
    ("gradient norm before clipping", "grad_norm", "norm", 1.0),
    ("divergence from the reference", "kl", "KL (nats)", 1.0),
    ("entropy of the sampled tokens", "entropy", "entropy (nats)", 1.0),
)
_MOST_BANDS = 2
"""Maximum number of runs with bands: more would hide each other."""
_DIFFERENCE = ("engine against learner, largest", "logprob_difference_max", "|Δ log p| (nats)", 1.0)


def run_charts(runs: Sequence[RunFiles]) -> tuple[LineChart, ...]:
    """Return the charts in the order of the report. Charts by turn need recorded dialogues."""
    charts = [_learning_chart(runs), _update_chart(runs)]
    if any(run.series(GAP)[0] for run in runs):
        charts.append(_audit_chart(runs))
    if any(run.dialogues for run in runs):
        charts += [_earned_chart(runs), _survivor_chart(runs)]
    return tuple(charts)


def first_and_last_steps(dialogues: Sequence[RecordedDialogue]) -> tuple[frozenset[int], frozenset[int]]:
    """Return the first and last quarter of the steps with dialogues, at least one step each."""
    steps = sorted({dialogue.step for dialogue in dialogues if dialogue.step is not None})
    count = max(1, len(steps) // 4)
    return frozenset(steps[:count]), frozenset(steps[-count:])


def survivors(dialogues: Sequence[RecordedDialogue]) -> np.ndarray:
    """Return the share of dialogues that reach each turn, [T] from turn 1, without failed dialogues."""
    lengths = np.array([one.num_turns for one in dialogues if not one.is_failed], dtype=np.int64)
    turns = np.arange(1, int(lengths.max(initial=0)) + 1)
    return (lengths >= turns[:, None]).mean(axis=1) if len(turns) else np.zeros(0)


def _learning_chart(runs: Sequence[RunFiles]) -> LineChart:
    return LineChart(
        name="learning",
        title="What the policy learns",
        caption="Reward: as defined in the run's config. Success: of the training dialogues. EPM-Q and "
        "passed: from the evaluations, which only some steps have. Step s shows the policy after s updates.",
        panels=tuple(_panel(runs, *row) for row in _LEARNING),
    )


def _update_chart(runs: Sequence[RunFiles]) -> LineChart:
    return LineChart(
        name="updates",
        title="Policy updates",
        caption="Means over the optimizer steps of an update. Engine against learner: largest difference "
        "in log probability over the tokens of a batch, before the update. KL is 0 if the loss has no KL "
        "term.",
        panels=(*(_panel(runs, *row) for row in _UPDATES), _panel(runs, *_DIFFERENCE, is_log=True)),
    )


def _audit_chart(runs: Sequence[RunFiles]) -> LineChart:
    judges = (
        _panel(runs, "rewards under both judges", TRAINING_REWARD, "mean reward", 1.0),
        _panel(runs, "", AUDIT_REWARD, "", 1.0, dashed_as="audit judge"),
    )
    sums = (
        _panel(runs, "sum S and its threshold", CUSUM, "S", 1.0),
        _panel(runs, "", THRESHOLD, "", 1.0, dashed_as="threshold"),
    )
    return LineChart(
        name="audit",
        title="Audit by a second judge",
        caption="Rewards of audited training dialogues, under the training judge (solid) and the audit judge "
        "(dashed). A gap that grows while the policy learns is a sign that it exploits the training judge: "
        "an alarm, while S (solid) is above its threshold (dashed). Probes: replies that deserve nothing and "
        "got progress from the training judge.",
        panels=(
            _joined(*judges),
            _panel(runs, "training judge minus audit judge", GAP, "gap per turn", 1.0),
            _joined(*sums),
            _panel(runs, "credited probes", PROBE_FAILURES, "probes", 1.0),
        ),
    )


def _joined(left: Panel, right: Panel) -> Panel:
    """Return the curves of both panels in the first one."""
    return replace(left, curves=(*left.curves, *right.curves))


def _panel(
    runs: Sequence[RunFiles],
    title: str,
    metric: str,
    label: str,
    factor: float,
    *,
    is_log: bool = False,
    dashed_as: str = "",
) -> Panel:
    curves: list[Curve] = []
    for number, run in enumerate(runs):
        steps, values = run.series(metric)
        if any(math.isfinite(value) for value in values):
            scaled = [factor * value if not is_log or value > 0 else math.nan for value in values]
            name = f"{run.name}, {dashed_as}" if dashed_as else run.name
            curves.append(Curve(name, number, steps, scaled, is_dashed=bool(dashed_as)))
    return Panel(title, "step", label, tuple(curves), is_log=is_log)


def _earned_chart(runs: Sequence[RunFiles]) -> LineChart:
    banded = ", with a band of one standard deviation" if len(runs) <= _MOST_BANDS else ""
    return LineChart(
        name="rewards_by_turn",
        title="Rewards and returns by turn",
        caption="Mean over the training dialogues that reached a turn. Solid lines: last quarter of the "
        f"steps{banded}. Dashed lines: first quarter. Returns use the discount of the run's credit "
        f"estimator. Turns reached by fewer than {FEWEST} dialogues are not drawn.",
        panels=(
            Panel("immediate reward", "turn", "reward r", _turn_curves(runs, lambda one: one.rewards)),
            Panel("return", "turn", "return G", _turn_curves(runs, lambda one: one.returns)),
        ),
    )


def _survivor_chart(runs: Sequence[RunFiles]) -> LineChart:
    def curve(number: int, run: RunFiles, steps: frozenset[int], *, is_first: bool) -> Curve:
        shares = survivors([one for one in run.dialogues if one.step in steps])
        turns = [float(turn) for turn in range(1, len(shares) + 1)]
        return Curve(_part_name(run, is_first), number, turns, list(100 * shares), is_dashed=is_first)

    return LineChart(
        name="survivors_by_turn",
        title="Dialogue length",
        caption="Share of the training dialogues that reach a turn. Solid lines: last quarter of the "
        "steps. Dashed lines: first quarter. Credit compares a turn only with dialogues that reach it, so "
        "it is noisy where few do.",
        panels=(Panel("dialogues that reach the turn", "turn", "share (%)", _both_parts(runs, curve)),),
    )


def _turn_curves(
    runs: Sequence[RunFiles], values: Callable[[RecordedDialogue], np.ndarray]
) -> tuple[Curve, ...]:
    def curve(number: int, run: RunFiles, steps: frozenset[int], *, is_first: bool) -> Curve:
        rows = [values(one) for one in run.dialogues if one.step in steps and not one.is_failed]
        turns, mean, deviation, _ = turn_means(rows) if rows else (np.zeros(0),) * 4
        return Curve(
            _part_name(run, is_first), number, list(turns.astype(float)), list(mean), is_dashed=is_first,
            band=None if is_first or len(runs) > _MOST_BANDS else list(deviation),
        )  # fmt: skip

    return _both_parts(runs, curve)


def _both_parts(runs: Sequence[RunFiles], curve: Callable[..., Curve]) -> tuple[Curve, ...]:
    """Return curves for the first and last steps of every run with dialogues; one if they are equal."""
    curves: list[Curve] = []
    for number, run in enumerate(runs):
        if run.dialogues:
            first, last = first_and_last_steps(run.dialogues)
            curves += [curve(number, run, first, is_first=True)] if first != last else []
            curves.append(curve(number, run, last, is_first=False))
    return tuple(curve for curve in curves if curve.x)


def _part_name(run: RunFiles, is_first: bool) -> str:
    return f"{run.name}, first steps" if is_first else run.name
