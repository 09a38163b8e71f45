"""Small dialogue processes that can be sampled, and enumerated completely.

The processes themselves are in credit/oracle/cases.py, their gradients in credit/oracle/gradient.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True)
class DialogueProcess:
    """A dialogue as a finite process: S states of the user, A kinds of reply, at most T turns.

    In state s the policy samples reply a with probability softmax(logits[s])[a]. The user moves to s' or the
    dialogue ends. The turn earns rewards[s, a, s'] plus noise, and its judgement fails at random.

    Attributes:
        name: short name for tables.
        question: the question that the process answers about an estimator, one line.
        start: [S], probabilities of the start state; one draw per group.
        logits: [S, A], logits of the policy; the gradient is with respect to them.
        moves: [S, A, S + 1], probabilities of the next state; the last column ends the dialogue.
        rewards: [S, A, S + 1], mean reward of the turn.
        features: [S, K], `TurnRewards.states` of each state.
        num_turns: T.
        noise: standard deviation of a turn's reward.
        failed_fraction: probability that the judgement of a turn fails, in [0, 1).
    """

    name: str
    question: str
    start: np.ndarray
    logits: np.ndarray
    moves: np.ndarray
    rewards: np.ndarray
    features: np.ndarray
    num_turns: int
    noise: float = 0.0
    failed_fraction: float = 0.0

    def __post_init__(self) -> None:
        """Check shapes, probabilities and ranges."""
        num_states, num_replies = self.logits.shape
        expected = (num_states, num_replies, num_states + 1)
        if self.moves.shape != expected or self.rewards.shape != expected:
            raise ValueError(
                f"moves and rewards must be {expected}, got {self.moves.shape} and {self.rewards.shape}."
            )
        for name, probability in (("start", self.start), ("moves", self.moves)):
            if (probability < 0).any() or not np.allclose(probability.sum(axis=-1), 1.0):
                raise ValueError(f"{name} must be probabilities that sum to 1, got {probability}.")
        if not 0 <= self.failed_fraction < 1:
            raise ValueError(f"failed_fraction must be in [0, 1), got {self.failed_fraction}.")

    @property
    def policy(self) -> np.ndarray:
        """Probability of each reply in each state, [S, A]."""
        weights = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)


@dataclass(frozen=True, slots=True)
class Dialogues:
    """B sampled or enumerated dialogues. All arrays are [B, T], except `group`, [B].

    Attributes:
        states: int, the state before each reply; 0 where not played.
        replies: int, the kind of reply; 0 where not played.
        rewards: float64; 0 where not played.
        played: bool, whether the dialogue reached the turn.
        judged: bool, whether the turn was played and its judgement did not fail.
        group: int, equal for dialogues of one scenario.
    """

    states: np.ndarray
    replies: np.ndarray
    rewards: np.ndarray
    played: np.ndarray
    judged: np.ndarray
    group: np.ndarray

    def turns(self, features: np.ndarray, *, imputed: bool = False) -> TurnRewards:
        """Convert the dialogues to the input of an estimator.

        Args:
            features: [S, K], the features of each state.
            imputed: whether failed judgements become rewards of 0 instead of invalid turns.
        """
        seen = features[self.states]
        if imputed:
            return TurnRewards(np.where(self.judged, self.rewards, 0.0), self.played, self.group, seen)
        # NaN where not judged: an estimator that reads it is found out.
        return TurnRewards(np.where(self.judged, self.rewards, np.nan), self.judged, self.group, seen)


def sample(
    process: DialogueProcess, num_groups: int, *, group_size: int, generator: np.random.Generator
) -> Dialogues:
    """Sample groups of dialogues. The dialogues of a group share their start state.

    Args:
        process: the process to sample.
        num_groups: number of scenarios.
        group_size: N, dialogues of one scenario. B = num_groups x N, one group after another.
        generator: source of randomness.
    """
    num_dialogues = num_groups * group_size
    shape = (num_dialogues, process.num_turns)
    states, replies = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    rewards, played = np.zeros(shape), np.zeros(shape, dtype=bool)
    state = np.repeat(generator.choice(len(process.start), size=num_groups, p=process.start), group_size)
    ended = len(process.start)
    for t in range(process.num_turns):
        alive = np.flatnonzero(state != ended)
        here = state[alive]
        reply = _draw(process.policy[here], generator)
        after = _draw(process.moves[here, reply], generator)
        states[alive, t], replies[alive, t], played[alive, t] = here, reply, True
        noise = process.noise * generator.standard_normal(len(alive))
        rewards[alive, t] = process.rewards[here, reply, after] + noise
        state[alive] = after
    judged = played & (generator.random(shape) >= process.failed_fraction)
    return Dialogues(states, replies, rewards, played, judged, np.repeat(np.arange(num_groups), group_size))


def enumerate_dialogues(process: DialogueProcess, start: int) -> tuple[np.ndarray, Dialogues]:
    """List every possible dialogue from a start state, without noise and failed judgements.

    Args:
        process: the process to enumerate.
        start: the state of the first turn.

    Returns:
        The probabilities [B], which sum to 1, and the dialogues with their mean rewards.
    """
    ended = len(process.start)
    probability, state = np.ones(1), np.array([start])
    history = np.zeros((1, process.num_turns, 3), dtype=np.int64)
    history[..., 2] = ended
    played = np.zeros((1, process.num_turns), dtype=bool)
    for t in range(process.num_turns):
        step = np.zeros((len(state), *process.moves.shape[1:]))
        alive = state != ended
        step[alive] = process.policy[state[alive]][..., None] * process.moves[state[alive]]
        step[~alive, 0, ended] = 1.0
        row, reply, after = np.nonzero(step)
        probability = probability[row] * step[row, reply, after]
        history, played = history[row], played[row]
        played[:, t] = alive[row]
        history[:, t] = np.where(alive[row, None], np.stack([state[row], reply, after], axis=1), 0)
        state = after
    here, reply, after = np.moveaxis(history, 2, 0)
    rewards = np.where(played, process.rewards[here, reply, after], 0.0)
    return probability, Dialogues(here, reply, rewards, played, played, np.zeros(len(state), dtype=np.int64))


def _draw(probability: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw one index per row of [M, C] probabilities: [M]."""
    # Without the last column, whose sum rounding may leave below 1.
    reached = probability.cumsum(axis=1)[:, :-1] <= generator.random(len(probability))[:, None]
    return reached.sum(axis=1)
