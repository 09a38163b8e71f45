"""Play the evaluation scenarios with a policy and score the dialogues; no learner is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from mica_ray.checks import at_least, one_of
from mica_ray.dialogue.answer_counts import count_silent
from mica_ray.dialogue.play import Policy
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.evaluation.epm_q import score_trajectory
from mica_ray.rewards import zone_distance
from mica_ray.rollout.collect import NewEnvironment, PolicyPrompt, RolloutConfig, collect
from mica_ray.statistics import Interval, bootstrap_mean, paired_difference, wilson
from mica_ray.types import Sampling, Scenario, Split, Stop, Trajectory

SAMPLING_FIELDS = ("temperature", "top_p", "presence_penalty", "max_tokens")
"""Fields of Sampling that an evaluation can have of its own."""


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """Which dialogues an evaluation plays. Equal configs play the same scenarios with the same seeds."""

    split: Split = "test"
    max_scenarios: int | None = None
    """Number of scenarios, the first of the split; None for all."""
    samples: int = 1
    """Dialogues per scenario."""
    temperature: float | None = None
    """Sampling temperature of the policy's replies; None for the training temperature."""
    seed: int = 20_000
    """Seed of the dialogues and intervals; independent of the run's seed, so that runs are comparable."""
    top_p: float | None = None
    """Of the policy's replies; None for that of training. So are the next two."""
    presence_penalty: float | None = None
    max_tokens: int | None = None
    """Maximum number of tokens of one reply."""
    rules: ProgressRules | None = None
    """Rules that end a dialogue of an evaluation; None for those of training."""

    def __post_init__(self) -> None:
        """Check that there is something to evaluate."""
        one_of(get_args(Split), split=self.split)
        at_least(1, samples=self.samples)
        self.sampling_after(Sampling())
        if self.max_scenarios is not None:
            at_least(1, max_scenarios=self.max_scenarios)

    def sampling_after(self, trained: Sampling) -> Sampling:
        """Return how the policy is sampled, given how it is sampled in training."""
        own = {name: getattr(self, name) for name in SAMPLING_FIELDS}
        return replace(trained, **{name: value for name, value in own.items() if value is not None})


@dataclass(frozen=True, slots=True)
class ScenarioRow:
    """The scores of one scenario's dialogues."""

    scenario: str
    category: str
    dominant_axis: str
    epm_q: float
    """Mean over the scored dialogues; NaN if none could be scored."""
    passes: int
    samples: int
    """Number of scored dialogues; failed ones are not counted."""
    idr: float
    """Mean incremental distance reward per judged turn, points; NaN without any."""
    num_turns: float
    """Mean judged turns of a dialogue; NaN without any."""
    alignment: float = math.nan
    """Mean cosine between a turn's move and the direction from P_0 to the origin; NaN without any, and in
    evaluations of earlier versions."""
    alignment_dynamic: float = math.nan
    """As `alignment`, with the direction from the state before the turn."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of a policy over the scenarios."""

    epm_q: Interval
    """Mean over scenarios, bootstrap interval over scenarios."""
    pass_fraction: Interval
    """Share of dialogues in which the user's needs were met, Wilson interval."""
    idr: Interval
    """Mean over scenarios of the mean per turn, points."""
    rows: tuple[ScenarioRow, ...]
    dialogues: tuple[Trajectory, ...]
    num_failed_dialogues: int
    """Dialogues left out of every number above."""
    num_failed_judgements: int
    """Judged turns left out of every number above."""
    num_silent_replies: int = 0
    """Turns in which the policy said nothing, left out of every number above."""

    @property
    def alignment(self) -> float:
        """Mean over scenarios of the alignment with the fixed direction, -1 to 1; NaN if unknown."""
        return _mean([row.alignment for row in self.rows if row.samples])

    @property
    def alignment_dynamic(self) -> float:
        """Mean over scenarios of the alignment with the dynamic direction, -1 to 1; NaN if unknown."""
        return _mean([row.alignment_dynamic for row in self.rows if row.samples])


@dataclass(frozen=True, slots=True)
class Comparison:
    """After minus before over the scenarios scored in both; paired bootstrap intervals."""

    epm_q: Interval
    pass_fraction: Interval
    idr: Interval


async def evaluate(
    policy: Policy,
    new_environment: NewEnvironment,
    scenarios: Sequence[Scenario],
    *,
    config: EvaluationConfig,
    rollout: RolloutConfig,
    policy_prompt: str | PolicyPrompt,
    progress: Callable[[Trajectory], None] | None = None,
) -> Evaluation:
    """Play `config.samples` dialogues of every scenario and score them.

    A dialogue's seed depends only on config.seed, scenario and sample, so two policies meet the same users.

    Args:
        policy: replies in every dialogue.
        new_environment: makes one environment per dialogue.
        scenarios: those of the split, of which the first `config.max_scenarios` are played.
        config: number of dialogues and seeds.
        rollout: sampling and limits of the policy; its group size is ignored, and its sampling as far as the
            config has its own.
        policy_prompt: system prompt of the policy, or a function from a scenario to its prompt.
        progress: called with each finished dialogue.

    Raises:
        EngineError: every dialogue failed.
        ValueError: there is no scenario.
    """
    chosen = scenarios[: config.max_scenarios]
    if not chosen:
        raise ValueError(f"Split {config.split!r} has no scenarios. Choose another evaluation.split.")
    sampling = config.sampling_after(rollout.sampling)
    dialogues = await collect(
        chosen,
        new_environment,
        policy,
        replace(rollout, group_size=config.samples, sampling=sampling),
        step=0,
        seed=config.seed,
        policy_prompt=policy_prompt,
        progress=progress,
    )
    return summarize(dialogues, seed=config.seed)


def summarize(dialogues: Sequence[Trajectory], *, seed: int) -> Evaluation:
    """Score recorded dialogues.

    A dialogue that failed, or in which no turn was judged, is no evidence about the policy. It is left out
    and counted.

    Args:
        dialogues: one or more per scenario; rows keep the order in which scenarios first appear.
        seed: of the bootstrap.
    """
    by_scenario: dict[str, list[Trajectory]] = {}
    for dialogue in dialogues:
        by_scenario.setdefault(dialogue.scenario.id, []).append(dialogue)
    rows = tuple(_score_scenario(members) for members in by_scenario.values())
    turns = [turn for dialogue in dialogues for turn in dialogue.turns]
    return summary_of_rows(
        rows,
        dialogues=tuple(dialogues),
        num_failed_dialogues=len(dialogues) - sum(row.samples for row in rows),
        num_failed_judgements=sum(not turn.judgement.is_valid and not turn.is_silent for turn in turns),
        num_silent_replies=count_silent(dialogues),
        seed=seed,
    )


def summary_of_rows(
    rows: tuple[ScenarioRow, ...],
    *,
    num_failed_dialogues: int,
    num_failed_judgements: int,
    num_silent_replies: int = 0,
    seed: int,
    dialogues: tuple[Trajectory, ...] = (),
) -> Evaluation:
    """Combine scored scenarios into an evaluation; also used for rows read from a run folder.

    Args:
        rows: one per scenario; those without a scored dialogue are left out of every number.
        num_failed_dialogues: dialogues left out of the rows.
        num_failed_judgements: turns left out of the rows.
        num_silent_replies: turns in which the policy said nothing.
        seed: of the bootstrap.
        dialogues: the source of the rows, if available.
    """
    scored = [row for row in rows if row.samples]
    return Evaluation(
        epm_q=bootstrap_mean([row.epm_q for row in scored], seed=seed),
        pass_fraction=wilson(sum(row.passes for row in scored), sum(row.samples for row in scored)),
        idr=bootstrap_mean([row.idr for row in scored], seed=seed),
        rows=rows,
        dialogues=dialogues,
        num_failed_dialogues=num_failed_dialogues,
        num_failed_judgements=num_failed_judgements,
        num_silent_replies=num_silent_replies,
    )


def compare(before: Evaluation, after: Evaluation, *, seed: int) -> Comparison:
    """Pair two evaluations by scenario.

    Args:
        before: evaluation of one policy.
        after: evaluation of another policy over the same scenarios.
        seed: of the bootstrap.

    Raises:
        ValueError: the scenarios differ.
    """
    first, second = ({row.scenario: row for row in item.rows} for item in (before, after))
    if first.keys() != second.keys():
        different = sorted(first.keys() ^ second.keys())
        raise ValueError(
            f"Evaluations must have the same scenarios; only one of them has {', '.join(different[:5])}."
        )
    pairs = [(row, second[key]) for key, row in first.items() if row.samples and second[key].samples]

    def difference(value: Callable[[ScenarioRow], float]) -> Interval:
        return paired_difference([value(a) for a, _ in pairs], [value(b) for _, b in pairs], seed=seed)

    return Comparison(
        epm_q=difference(lambda row: row.epm_q),
        pass_fraction=difference(lambda row: row.passes / row.samples),
        idr=difference(lambda row: row.idr),
    )


def evaluation_metrics(evaluation: Evaluation) -> Mapping[str, float]:
    """Return the numbers a tracker logs, by name."""
    return {
        "eval_epm_q": evaluation.epm_q.estimate,
        "eval_pass_fraction": evaluation.pass_fraction.estimate,
        "eval_idr_mean": evaluation.idr.estimate,
        "eval_failed_dialogues": float(evaluation.num_failed_dialogues),
        "eval_failed_judgements": float(evaluation.num_failed_judgements),
        "eval_silent_replies": float(evaluation.num_silent_replies),
    }


def _score_scenario(members: Sequence[Trajectory]) -> ScenarioRow:
    scenario = members[0].scenario
    usable = [member for member in members if member.stop is not Stop.FAILED]
    pairs = [(member, score) for member in usable if (score := score_trajectory(member)) is not None]
    return ScenarioRow(
        scenario=scenario.id,
        category=scenario.category,
        dominant_axis=scenario.dominant_axis,
        epm_q=_mean([score.score for _, score in pairs]),
        passes=sum(member.is_success for member, _ in pairs),
        samples=len(pairs),
        idr=_mean([_mean_idr(member) for member, _ in pairs]),
        num_turns=_mean([float(score.num_turns) for _, score in pairs]),
        alignment=_mean([score.alignment_fixed for _, score in pairs]),
        alignment_dynamic=_mean([score.alignment_dynamic for _, score in pairs]),
    )


def _mean_idr(trajectory: Trajectory) -> float:
    """Return the mean reward per judged turn; increments telescope, so both ends of the path suffice."""
    num_judged = sum(turn.judgement.is_valid for turn in trajectory.turns)
    start, end = zone_distance(trajectory.states[[0, -1]])
    return float(start - end) / num_judged


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
