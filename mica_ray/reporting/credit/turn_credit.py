"""Credit of every turn of a run, term by term, and where MICA and GRPO disagree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from mica_ray.config.overrides import build_object
from mica_ray.config.references import ConfigError
from mica_ray.config.trust import untrusted
from mica_ray.credit import Grpo, Mica
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.runs.stored_run import RunFiles
from mica_ray.types import TurnRewards

NUM_INSTRUCTIVE = 10


@dataclass(frozen=True, slots=True, eq=False)
class DialogueCredit:
    """The credit of one training dialogue; every array is [T], NaN where the turn does not count."""

    dialogue: RecordedDialogue
    """The dialogue; the run trained on its `advantages`."""
    turn_term: np.ndarray
    """MICA's A_turn."""
    group_term: np.ndarray
    """MICA's A_group."""
    mica: np.ndarray
    """The mixed credit, alpha A_turn + (1 - alpha) A_group."""
    grpo: np.ndarray
    """GRPO's credit, equal for all turns of the dialogue."""
    token_weight: np.ndarray
    """Weight of each token of the reply in the loss, relative to the largest of the run: in [-1, 1]."""

    @property
    def disagreement(self) -> float:
        """Mean |MICA - GRPO| over the turns that count, dimensionless; 0 if none counts."""
        gaps = np.abs(self.mica - self.grpo)
        return float(np.nanmean(gaps)) if np.isfinite(gaps).any() else 0.0

    @property
    def num_flips(self) -> int:
        """Number of turns for which MICA's and GRPO's credit have opposite signs."""
        return int((self.mica * self.grpo < 0).sum())

    @property
    def gain(self) -> float:
        """D_0 - D_T, points: the distance that the dialogue closed."""
        return float(self.dialogue.distances[0] - self.dialogue.distances[-1])


@dataclass(frozen=True, slots=True)
class Instructive:
    """A dialogue chosen for reading, and the rule that chose it."""

    rule: str
    chosen: DialogueCredit


_RULES: tuple[tuple[str, int, Callable[[DialogueCredit], float]], ...] = (
    ("MICA and GRPO disagree most", 4, lambda one: one.disagreement),
    ("most turns with credit of opposite signs", 2, lambda one: one.num_flips),
    ("most distance closed", 2, lambda one: one.gain),
    ("most distance opened", 2, lambda one: -one.gain),
)
"""Name of the rule, number of dialogues it chooses, and the measure that must be large."""
RULES_TEXT = "; ".join(f"{quota} by: {name}" for name, quota, _ in _RULES)


def estimator_of(run: RunFiles) -> tuple[Mica, str]:
    """Return the MICA estimator whose terms are shown, and a sentence on its origin.

    It is the run's own if the run was trained with MICA, otherwise MICA with the published settings.
    """
    stored = run.config.get("credit", {})
    try:
        # Only our own estimator is of use here, so not even `--trust` runs the code of the run's owner.
        with untrusted(Path(run.name) / "config.json"):
            credit = build_object(stored)
    except (ConfigError, ValueError):
        credit = None
    if isinstance(credit, Mica):
        return credit, f"The run was trained with {credit}. The page shows its two terms."
    named = stored.get("object", "an unknown estimator") if isinstance(stored, Mapping) else stored
    kind = str(named).rpartition(":")[2]
    return (
        Mica(),
        f"The run was trained with {kind}. The page shows the terms that {Mica()} would have computed.",
    )


def credit_dialogues(run: RunFiles) -> tuple[DialogueCredit, ...]:
    """Recompute the credit of a run's training dialogues, step by step, from the rewards in its log.

    Raises:
        ConfigError: a line lacks a field that credit needs.
    """
    mica, _ = estimator_of(run)
    is_turn_mean = run.config.get("learner", {}).get("loss", {}).get("aggregation") == "turn_mean"
    found: list[DialogueCredit] = []
    for step, members in groupby(run.dialogues, key=lambda dialogue: dialogue.step):
        try:
            found += _credit_step(list(members), mica, is_turn_mean=is_turn_mean)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{run.name}/dialogues.jsonl: a line of step {step} lacks a field that credit needs "
                f"({error!r}). Remove the line."
            ) from error
    weights = [one.token_weight[np.isfinite(one.token_weight)] for one in found]
    largest = max((float(np.abs(row).max()) for row in weights if len(row)), default=0.0) or 1.0
    return tuple(replace(one, token_weight=one.token_weight / largest) for one in found)


def most_instructive(dialogues: Sequence[DialogueCredit]) -> tuple[Instructive, ...]:
    """Choose up to ten dialogues by fixed rules, at most one per group, so that they differ.

    If a rule finds too few dialogues, the first rule fills its places.
    """
    chosen: list[Instructive] = []
    taken: set[tuple[int | None, int | None]] = set()

    def choose(rule: str, quota: int, measure: Callable[[DialogueCredit], float]) -> None:
        for one in sorted(dialogues, key=measure, reverse=True):
            place = (one.dialogue.step, one.dialogue.group)
            if quota and measure(one) > 0 and place not in taken:
                taken.add(place)
                chosen.append(Instructive(rule, one))
                quota -= 1

    for rule, quota, measure in _RULES:
        choose(rule, quota, measure)
    rule, _, measure = _RULES[0]
    choose(rule, NUM_INSTRUCTIVE - len(chosen), measure)
    return tuple(chosen)


def _credit_step(
    members: Sequence[RecordedDialogue], mica: Mica, *, is_turn_mean: bool
) -> list[DialogueCredit]:
    columns = [[int(turn["index"]) for turn in one.turns] for one in members]
    shape = (len(members), 1 + max((column for row in columns for column in row), default=-1))
    rewards = np.full(shape, np.nan)
    for row, (one, places) in enumerate(zip(members, columns, strict=True)):
        rewards[row, places] = one.rewards
    group = np.array([one.group for one in members], dtype=np.int64)
    turns = TurnRewards(np.nan_to_num(rewards), ~np.isnan(rewards), group)
    lone = "zero" if mica.lone_turn == "group" else mica.lone_turn
    credits = [
        np.where(turns.valid, estimate(turns), np.nan)
        for estimate in (
            replace(mica, alpha=1.0, lone_turn=lone), replace(mica, alpha=0.0), mica, Grpo(),
        )
    ]  # fmt: skip
    return [
        _credited(one, [credit[row, places] for credit in credits], is_turn_mean=is_turn_mean)
        for row, (one, places) in enumerate(zip(members, columns, strict=True))
    ]


def _credited(
    dialogue: RecordedDialogue, credits: Sequence[np.ndarray], *, is_turn_mean: bool
) -> DialogueCredit:
    turn_term, group_term, mica, grpo = credits
    return DialogueCredit(
        dialogue=dialogue,
        turn_term=turn_term,
        group_term=group_term,
        mica=mica,
        grpo=grpo,
        token_weight=dialogue.advantages / dialogue.reply_tokens if is_turn_mean else dialogue.advantages,
    )
