"""What a card states about one judge: agreement, noise, drift, biases, invalid answers, cost.

conclusion.py decides whether the judge may be used; reporting/judges draws the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.chat.ledger import Tally
from mica_ray.judges.agreement import Agreement
from mica_ray.judges.card.log import Judged
from mica_ray.judges.card.noise import (
    ALL,
    Bootstrap,
    Noise,
    agreements,
    by_scope,
    correlation,
    mean_of,
    pooled_noise,
    sign_flips,
    slopes,
)
from mica_ray.judges.card.presentations import AS_IS, WORDINGS, Presentation, canaries, main_language
from mica_ray.judges.card.turns import RecordedTurn
from mica_ray.statistics import Interval, wilson
from mica_ray.types import Status

RECORDED = "recorded"
"""Name of the recorded judge among the raters."""
Answers = Mapping[tuple[str, str, int], Judged]
ByScope = Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the questions."""

    asked: int
    valid: int
    invalid: Mapping[str, int]
    """Invalid answers by reason."""
    failed: int
    """Questions without an answer: timeouts, unreachable endpoints. They are not answers of the judge."""
    repaired: int
    """Valid answers that needed a second attempt."""
    unfound_evidence: int
    """Quotations in valid answers that occur nowhere in the dialogue."""

    @property
    def invalid_fraction(self) -> Interval:
        """Invalid answers among all answers, Wilson."""
        invalid = sum(self.invalid.values())
        return wilson(invalid, invalid + self.valid)


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of the judge, over all answers in the log."""

    total: Tally
    seconds: Sequence[float]
    """Duration of each judgement, with its repair and its wait for the endpoint."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What another wording, or an empty addition, changes."""

    shift: ByScope
    """Mean of v_t in the condition minus the mean of the repeats, points."""
    agreement: Mapping[str, Agreement]
    """Of the first repeat with the condition."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Slope of v_t, points per turn."""

    judge: ByScope
    beyond_recorded: ByScope
    """Of the difference to the recorded judge: replies get worse or better, which both judges see."""


@dataclass(frozen=True, slots=True)
class Bias:
    """Correlation of v_t (mean over the axes) with what should not earn points."""

    judge: Interval
    recorded: Interval
    """The same of the recorded judge."""


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """The card of one judge. Statistics that were not measured are absent or None."""

    name: str
    counts: Counts
    cost: Cost
    noise: Noise
    self_agreement: Mapping[str, Agreement] | None
    """Of the repeats, by axis and over all axes; None with one repeat."""
    sign_flips: ByScope | None
    """Pairs of repeats with opposite signs; None with one repeat."""
    with_recorded: Mapping[str, Agreement] | None
    """Of the first repeat with the recorded judge; None if no turn has a recorded judgement."""
    sensitivity: Mapping[str, Sensitivity]
    """By condition: those of WORDINGS, and padding."""
    drift: Mapping[str, Drift]
    """Along "turn" and "dialogue_length"."""
    bias: Mapping[str, Bias]
    """"length" (characters of the reply, logarithm) and "echo" (share of the message repeated)."""
    echo_points: ByScope | None
    """Mean of v_t of a reply that is the user's own message; no progress is right."""
    canaries: Mapping[str, tuple[str, ...]] | None
    """Problems by canary, empty for a right judgement; invalid answers are left out. None if not asked."""
    late_shift: ByScope | None
    """Mean of v_t of a canary after empty turns minus that of the same canary at the start."""
    turns: np.ndarray
    """[N, R, 3] points, v_t of the repeats, NaN where there is no valid answer."""


def findings(
    name: str,
    turns: Sequence[RecordedTurn],
    asked: Sequence[Presentation],
    answers: Answers,
    *,
    levels: Sequence[float],
    repeats: int,
    bootstrap: Bootstrap,
) -> Findings:
    """Compute the card of one judge.

    Args:
        name: of the judge.
        turns: the recorded turns.
        asked: all questions.
        answers: those that have one.
        levels: all points that a judgement can have, ascending.
        repeats: repeats in condition `as_is`.
        bootstrap: over the dialogues of the turns.
    """
    conditions = {one.condition for one in asked}
    own = _points(turns, answers, AS_IS, repeats)
    other = {name: _points(turns, answers, name, 1)[:, 0] for name in (*WORDINGS, "padding", "echo")}
    recorded = recorded_points(turns)
    mean = _mean_of_repeats(own)
    first = own[:, 0]
    has_record = bool(np.isfinite(recorded).any())
    along = {
        "turn": np.array([turn.number for turn in turns], dtype=np.float64),
        "dialogue_length": np.array([turn.num_turns for turn in turns], dtype=np.float64),
    }
    traits = {
        "length": np.log([max(1, len(turn.reply)) for turn in turns]),
        "echo": np.array([turn.echo for turn in turns]),
    }
    repeat_names = [f"repeat {number + 1}" for number in range(repeats)]
    return Findings(
        name=name,
        counts=_counts(asked, answers),
        cost=_cost(answers),
        noise=pooled_noise(own),
        self_agreement=agreements(own.transpose(1, 0, 2), repeat_names, bootstrap, levels)
        if repeats > 1
        else None,
        sign_flips=sign_flips(own, bootstrap) if repeats > 1 else None,
        with_recorded=agreements(np.stack([first, recorded]), (name, RECORDED), bootstrap, levels)
        if has_record
        else None,
        sensitivity={
            condition: Sensitivity(
                mean_of(other[condition] - mean, bootstrap),
                agreements(np.stack([first, other[condition]]), (AS_IS, condition), bootstrap, levels),
            )
            for condition in (*WORDINGS, "padding")
            if condition in conditions
        },
        drift={
            place: Drift(slopes(mean, row, bootstrap), slopes(mean - recorded, row, bootstrap))
            for place, row in along.items()
        },
        bias={
            trait: Bias(*(correlation(by_scope(one)[ALL], row, bootstrap) for one in (mean, recorded)))
            for trait, row in traits.items()
        },
        echo_points=mean_of(other["echo"], bootstrap) if "echo" in conditions else None,
        canaries=_canary_problems(turns, answers) if "canary" in conditions else None,
        late_shift=_late_shift(turns, answers, bootstrap) if "late_canary" in conditions else None,
        turns=own,
    )


def recorded_points(turns: Sequence[RecordedTurn]) -> np.ndarray:
    """Return v_t of the recorded judge, [N, 3] points, NaN where there is none."""
    return np.array([turn.recorded for turn in turns]).reshape(-1, 3)


def _points(turns: Sequence[RecordedTurn], answers: Answers, condition: str, repeats: int) -> np.ndarray:
    """Return v_t of a condition, [N, R, 3] points, NaN where there is no valid answer."""
    found = np.full((len(turns), repeats, 3), np.nan)
    for row, turn in enumerate(turns):
        for repeat in range(repeats):
            judged = answers.get((turn.id, condition, repeat))
            if judged is not None and judged.delta is not None:
                found[row, repeat] = judged.delta
    return found


def _mean_of_repeats(values: np.ndarray) -> np.ndarray:
    """Return the mean over the valid repeats, [N, 3]; NaN without one."""
    count = (~np.isnan(values)).sum(axis=1)
    return np.where(count > 0, np.nansum(values, axis=1) / np.maximum(count, 1), np.nan)


def _counts(asked: Sequence[Presentation], answers: Answers) -> Counts:
    valid = [one for one in answers.values() if one.delta is not None]
    reasons = Counter(one.reason for one in answers.values() if one.reason is not None)
    return Counts(
        asked=len(asked),
        valid=len(valid),
        invalid=dict(reasons.most_common()),
        failed=len(asked) - len(answers),
        repaired=sum(one.status == Status.REPAIRED for one in valid),
        unfound_evidence=sum(one.unfound_evidence for one in valid),
    )


def _cost(answers: Answers) -> Cost:
    tallies = [Tally(**one.cost) for one in answers.values() if one.cost]  # pyright: ignore[reportArgumentType]
    return Cost(sum(tallies, Tally()), [tally.seconds for tally in tallies])


def _canary_problems(turns: Sequence[RecordedTurn], answers: Answers) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for canary in canaries("canary", main_language(turns)):
        judged = answers.get((canary.name, "canary", 0))
        if judged is not None and judged.progress is not None:
            found[canary.name] = canary.problems(judged.judgement)
    return found


def _late_shift(turns: Sequence[RecordedTurn], answers: Answers, bootstrap: Bootstrap) -> ByScope:
    names = [canary.name for canary in canaries("late_canary", main_language(turns))]
    points = np.full((2, len(names), 3), np.nan)
    for row, condition in enumerate(("canary", "late_canary")):
        for column, name in enumerate(names):
            judged = answers.get((name, condition, 0))
            if judged is not None and judged.delta is not None:
                points[row, column] = judged.delta
    # Canaries are separate people: each is a case of its own.
    over_canaries = Bootstrap(np.array(names), bootstrap.seed, bootstrap.resamples)
    return mean_of(points[1] - points[0], over_canaries)
