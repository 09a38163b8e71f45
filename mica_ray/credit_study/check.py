"""Is the credit true? Other replies rolled forward from turns of real dialogues, against what was credited.

stored_turns.py reads the dialogues; rollout/collect.py plays them on. No learner, no plotting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.credit import CreditEstimator, Grpo, Mica, ReinforcePlusPlus, Rloo
from mica_ray.credit_study.agreement import CheckedTurn, CreditCheck, agreement, reliability_of
from mica_ray.credit_study.measures import by_batch
from mica_ray.dialogue.play import DialogueStart
from mica_ray.dialogue.prefix import Prefix, count_revealed
from mica_ray.recordings.recorded_dialogue import RecordingError
from mica_ray.recordings.recorded_turns import RecordedTurns
from mica_ray.seeding import derive_seed
from mica_ray.types import Scenario, State, Stop, Trajectory, TurnRewards

CHECKED: Mapping[str, CreditEstimator] = {
    "MICA": Mica(),
    "turn only": Mica(alpha=1.0),
    "group only": Mica(alpha=0.0),
    "leave-one-out": Mica(alpha=1.0, gamma=1.0, baseline="leave_one_out", divide=False, lone_turn="return"),
    "GRPO": Grpo(),
    "RLOO": Rloo(),
    "REINFORCE++": ReinforcePlusPlus(),
}
"""Whose credit is checked, by name."""

PlayFrom = Callable[[Sequence[DialogueStart]], Awaitable[Sequence[Trajectory]]]
"""Plays one dialogue from each start."""


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """How much is rolled forward."""

    turns: int = 16
    """Sampled turns, each of another dialogue as long as there are enough."""
    rerolls: int = 8
    """Continuations of the stored reply, and as many other replies in its place."""
    gamma: float = 1.0
    """Discount per turn of the measured returns; 1 measures what an episode is worth."""
    seed: int = 0
    """Of the choice of turns, of what is rolled, and of the intervals."""

    def __post_init__(self) -> None:
        """Refuse a check of nothing."""
        for name, least in (("turns", 3), ("rerolls", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}; got {getattr(self, name)}")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1]; got {self.gamma}")


@dataclass(frozen=True, slots=True)
class Place:
    """One sampled turn: dialogue and turn index of `RecordedTurns`."""

    row: int
    turn: int


def choose_places(
    stored: RecordedTurns, config: CheckConfig, *, policy_step: int | None
) -> tuple[Place, ...]:
    """Sample judged turns, from the steps nearest to the policy that is to be rolled forward.

    Args:
        stored: the dialogues of a run.
        config: how many, and the seed.
        policy_step: the step whose policy it is; None takes all steps alike.

    Returns:
        At most `config.turns` places; the first of every dialogue come before any second one.
    """
    generator = np.random.default_rng(derive_seed(config.seed, "credit check", "turns"))
    rows, turns = np.nonzero(stored.turns.valid)
    shuffled = generator.permutation(len(rows))
    rows, turns = rows[shuffled], turns[shuffled]
    steps = np.array([dialogue.step or 0 for dialogue in stored.dialogues])[rows]
    away = np.zeros(len(rows)) if policy_step is None else np.abs(steps - policy_step)
    is_first = np.zeros(len(rows), dtype=bool)
    is_first[np.unique(rows, return_index=True)[1]] = True
    # By distance, then dialogues not met yet, then as shuffled.
    order = np.lexsort((~is_first, away))[: config.turns]
    return tuple(Place(int(rows[i]), int(turns[i])) for i in order)


def prefix_before(stored: RecordedTurns, place: Place, scenario: Scenario) -> Prefix:
    """Give a dialogue up to the user's message of a turn, from the record alone.

    Raises:
        RecordingError: the record holds no words, or began in another state than the scenario does.
    """
    dialogue = stored.dialogues[place.row]
    if len(dialogue.talk) <= place.turn:
        raise RecordingError(f"scenario {dialogue.scenario}: its record holds no words to go on from")
    states: list[State] = [(float(c), float(a), float(p)) for c, a, p in dialogue.states[: place.turn + 1]]
    if not np.allclose(states[0], scenario.initial_state):
        raise RecordingError(
            f"scenario {dialogue.scenario}: its record begins in {states[0]} and the scenario in "
            f"{scenario.initial_state}; give the run the scenarios it was trained on"
        )
    users = [user for user, _ in dialogue.talk[: place.turn + 1]]
    return Prefix(
        dialogue.talk[: place.turn], tuple(states), users[-1], count_revealed(scenario.stages, users[1:])
    )


async def check_credit(
    stored: RecordedTurns,
    scenarios: Mapping[str, Scenario],
    play_from: PlayFrom,
    rewards: Callable[[Sequence[Trajectory]], TurnRewards],
    config: CheckConfig,
    *,
    policy_step: int | None = None,
    estimators: Mapping[str, CreditEstimator] = CHECKED,
) -> CreditCheck:
    """Measure what sampled replies were worth, and hold the credit they got against it.

        difference = mean G(stored reply) - mean G(other replies of the policy at the same place)

    What was recorded of the stored reply, its judgement and the user's answer, belongs to it and is not asked
    for again. Where it ended the dialogue, its return is its reward.

    Args:
        stored: the dialogues of a run, with the rewards they were trained on.
        scenarios: of the run, by id.
        play_from: continues dialogues with the run's policy in the run's world.
        rewards: of the run.
        config: how much.
        policy_step: the step whose policy it is.
        estimators: whose credit is checked, by name.

    Raises:
        RecordingError: a dialogue cannot be gone on from, or fewer than three turns could be compared.
    """
    places = choose_places(stored, config, policy_step=policy_step)
    starts: list[DialogueStart] = []
    first_turns: list[int] = []
    owners: list[tuple[int, bool]] = []
    for number, place in enumerate(places):
        case = stored.dialogues[place.row].scenario
        if case not in scenarios:
            raise RecordingError(f"scenario {case}: is none of the run's domain; its world cannot be rebuilt")
        for is_kept, begun in _beginnings(stored, place, scenarios[case]):
            for reroll in range(config.rerolls):
                seed = derive_seed(config.seed, "credit check", number, is_kept, reroll)
                starts.append(DialogueStart(scenarios[case], seed, sample=len(starts), begun=begun))
                first_turns.append(begun.num_turns)
                owners.append((number, is_kept))
    played = await play_from(starts)
    returns = _returns(played, first_turns, rewards, config.gamma)
    found: dict[tuple[int, bool], list[float]] = {}
    for owner, value in zip(owners, returns, strict=True):
        if value is not None:
            found.setdefault(owner, []).append(value)
    credit = {
        name: by_batch(estimator, stored.turns, batch=stored.batch) for name, estimator in estimators.items()
    }
    turns = tuple(
        checked
        for number, place in enumerate(places)
        if (checked := _checked(stored, place, number, found, credit, config.gamma)) is not None
    )
    if len(turns) < 3:
        raise RecordingError(f"{len(turns)} of {len(places)} turns could be compared; at least 3 are needed")
    return CreditCheck(
        turns=turns,
        estimators={name: agreement(name, turns, seed=config.seed) for name in estimators},
        reliability=reliability_of(turns),
        num_failed=sum(value is None for value in returns),
        num_dropped=len(places) - len(turns),
    )


def _beginnings(stored: RecordedTurns, place: Place, scenario: Scenario) -> list[tuple[bool, Prefix]]:
    """Give where other replies begin, and where the stored one left off unless it was the last."""
    others = [(False, prefix_before(stored, place, scenario))]
    is_last = place.turn + 1 >= len(stored.dialogues[place.row].talk)
    return others if is_last else [*others, (True, prefix_before(stored, _after(place), scenario))]


def _after(place: Place) -> Place:
    return Place(place.row, place.turn + 1)


def _returns(
    played: Sequence[Trajectory],
    first_turns: Sequence[int],
    rewards: Callable[[Sequence[Trajectory]], TurnRewards],
    gamma: float,
) -> list[float | None]:
    """Give what each continuation earned from its first turn on, None for one that failed."""
    earned = rewards(played)
    columns = np.arange(earned.rewards.shape[1])
    returns: list[float | None] = []
    for row, (trajectory, first) in enumerate(zip(played, first_turns, strict=True)):
        counts = earned.valid[row] & (columns >= first)
        weights = gamma ** np.maximum(columns - first, 0)
        value = float((weights * np.where(counts, earned.rewards[row], 0.0)).sum())
        # A judgement that failed leaves a turn out; a dialogue that failed says nothing at all.
        returns.append(None if trajectory.stop is Stop.FAILED else value)
    return returns


def _checked(
    stored: RecordedTurns,
    place: Place,
    number: int,
    found: Mapping[tuple[int, bool], Sequence[float]],
    credit: Mapping[str, np.ndarray],
    gamma: float,
) -> CheckedTurn | None:
    dialogue = stored.dialogues[place.row]
    reward = float(stored.turns.rewards[place.row, place.turn])
    others, followed = found.get((number, False), ()), found.get((number, True), ())
    is_last = place.turn + 1 >= len(dialogue.talk)
    if len(others) < 2 or not (is_last or len(followed) >= 2):
        return None
    return CheckedTurn(
        scenario=dialogue.scenario,
        step=dialogue.step,
        turn=place.turn,
        reply=dialogue.talk[place.turn][1],
        credit={name: float(table[place.row, place.turn]) for name, table in credit.items()},
        kept_returns=(reward,) if is_last else tuple(reward + gamma * value for value in followed),
        other_returns=tuple(others),
    )
