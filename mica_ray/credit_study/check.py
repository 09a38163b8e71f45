"""Compare credit with the measured value of replies: play other replies from turns of recorded dialogues.

recordings/recorded_turns.py reads the dialogues; the caller plays the continuations. No learner is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.checks import at_least, within
from mica_ray.credit import CreditEstimator, Grpo, Mica, ReinforcePlusPlus, Rloo
from mica_ray.credit_study.agreement import CheckedTurn, CreditCheck, agreement, reliability_of
from mica_ray.credit_study.measures import by_batch
from mica_ray.dialogue.play import DialogueStart
from mica_ray.dialogue.prefix import Prefix, find_told
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
"""The estimators that are checked, by name."""

PlayFrom = Callable[[Sequence[DialogueStart]], Awaitable[Sequence[Trajectory]]]
"""Plays one dialogue from each start."""


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """Size of a credit check."""

    turns: int = 16
    """Number of sampled turns, from different dialogues as long as there are enough."""
    rerolls: int = 8
    """Number of continuations of the recorded reply, and of other replies in its place."""
    gamma: float = 1.0
    """Discount per turn of the measured returns; 1 measures the undiscounted return of the dialogue."""
    seed: int = 0
    """Seed of the sampled turns, the continuations and the intervals."""

    def __post_init__(self) -> None:
        """Check that there is enough to compare."""
        at_least(3, turns=self.turns)
        at_least(2, rerolls=self.rerolls)
        within(0, 1, gamma=self.gamma)


@dataclass(frozen=True, slots=True)
class Place:
    """One sampled turn: row and turn index in `RecordedTurns`."""

    row: int
    turn: int


def choose_places(
    stored: RecordedTurns, config: CheckConfig, *, policy_step: int | None
) -> tuple[Place, ...]:
    """Sample judged turns from the steps nearest to the policy that plays the continuations.

    Args:
        stored: the dialogues of a run.
        config: number of turns, and the seed.
        policy_step: step of the policy; None samples from all steps alike.

    Returns:
        At most `config.turns` places; the first turns of all dialogues come before any second one.
    """
    generator = np.random.default_rng(derive_seed(config.seed, "credit check", "turns"))
    rows, turns = np.nonzero(stored.turns.valid)
    shuffled = generator.permutation(len(rows))
    rows, turns = rows[shuffled], turns[shuffled]
    steps = np.array([dialogue.step or 0 for dialogue in stored.dialogues])[rows]
    away = np.zeros(len(rows)) if policy_step is None else np.abs(steps - policy_step)
    is_first = np.zeros(len(rows), dtype=bool)
    is_first[np.unique(rows, return_index=True)[1]] = True
    # By distance in steps, then first turns of a dialogue, then as shuffled.
    order = np.lexsort((~is_first, away))[: config.turns]
    return tuple(Place(int(rows[i]), int(turns[i])) for i in order)


def prefix_before(stored: RecordedTurns, place: Place, scenario: Scenario) -> Prefix:
    """Return a dialogue up to the user's message of a turn, as recorded.

    Raises:
        RecordingError: the record contains no text, or it started in another state than the scenario.
    """
    dialogue = stored.dialogues[place.row]
    if len(dialogue.talk) <= place.turn:
        raise RecordingError(
            f"scenario {dialogue.scenario}: turn {place.turn} has no text. Use the dialogues.jsonl of a run."
        )
    states: list[State] = [(float(c), float(a), float(p)) for c, a, p in dialogue.states[: place.turn + 1]]
    if not np.allclose(states[0], scenario.initial_state):
        raise RecordingError(
            f"scenario {dialogue.scenario}: the record starts in {states[0]}, the scenario in "
            f"{scenario.initial_state}. Use the scenarios that the run was trained on."
        )
    users = [user for user, _ in dialogue.talk[: place.turn + 1]]
    return Prefix(
        dialogue.talk[: place.turn], tuple(states), users[-1], find_told(scenario.stages, users[1:])
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
    """Measure the value of sampled replies and compare their credit with it.

        difference = mean G(recorded reply) - mean G(other replies of the policy at the same turn)

    The recorded judgement of the reply and the user's recorded answer are kept. If the reply ended the
    dialogue, its return is its reward.

    Args:
        stored: the dialogues of a run, with their training rewards.
        scenarios: of the run, by id.
        play_from: continues dialogues with the run's policy in the run's world.
        rewards: of the run.
        config: number of turns and continuations.
        policy_step: step of the policy.
        estimators: the estimators to check, by name.

    Raises:
        RecordingError: a dialogue cannot be continued, or fewer than three turns could be compared.
    """
    places = choose_places(stored, config, policy_step=policy_step)
    starts: list[DialogueStart] = []
    first_turns: list[int] = []
    owners: list[tuple[int, bool]] = []
    for number, place in enumerate(places):
        case = stored.dialogues[place.row].scenario
        if case not in scenarios:
            raise RecordingError(
                f"scenario {case} is not in the run's domain. Use the scenarios that the run was trained on."
            )
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
        raise RecordingError(
            f"only {len(turns)} of {len(places)} turns could be compared, 3 are needed. Raise --turns."
        )
    return CreditCheck(
        turns=turns,
        estimators={name: agreement(name, turns, seed=config.seed) for name in estimators},
        reliability=reliability_of(turns),
        num_failed=sum(value is None for value in returns),
        num_dropped=len(places) - len(turns),
    )


def _beginnings(stored: RecordedTurns, place: Place, scenario: Scenario) -> list[tuple[bool, Prefix]]:
    """Return the start of other replies, and the continuation of the recorded one unless it was the last."""
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
    """Return the return of each continuation from its first turn on, None if it failed."""
    earned = rewards(played)
    columns = np.arange(earned.rewards.shape[1])
    returns: list[float | None] = []
    for row, (trajectory, first) in enumerate(zip(played, first_turns, strict=True)):
        counts = earned.valid[row] & (columns >= first)
        weights = gamma ** np.maximum(columns - first, 0)
        value = float((weights * np.where(counts, earned.rewards[row], 0.0)).sum())
        # A failed judgement leaves out one turn; a failed dialogue has no return.
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
