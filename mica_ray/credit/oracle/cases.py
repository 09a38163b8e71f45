"""The processes of the oracle bench, each made for one thing that goes wrong with credit over turns."""

from __future__ import annotations

import numpy as np

from mica_ray.credit.oracle.process import DialogueProcess


def all_cases() -> tuple[DialogueProcess, ...]:
    """Give every process of the bench, in the order of its table."""
    return (
        survivors(),
        delayed_effect(),
        myopia_trap(),
        variable_lengths(),
        zero_rewards(),
        failed_judgements(),
    )


def survivors() -> DialogueProcess:
    """One choice, to stop or to go on; every turn earns about 1, so credit lies in the length alone.

    One logit pair for all four turns; d J / d logit of going on = 1/4 (1 + 2/2 + 3/4) = 0.6875.
    """
    moves = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    return DialogueProcess(
        name="survivors",
        question="does a choice that acts only through how long the dialogue lasts get credit?",
        start=np.ones(1),
        logits=np.zeros((1, 2)),
        moves=moves,
        rewards=np.ones(moves.shape),
        features=np.zeros((1, 1)),
        num_turns=4,
        noise=1.0,
    )


def delayed_effect() -> DialogueProcess:
    """The first of six replies decides whether the last turn earns 2; the last reply itself is worth 0.5."""
    num_turns = 6
    branch = num_turns - 1  # turns after the first, in each of two branches
    num_states = 1 + 2 * branch
    moves = np.zeros((num_states, 2, num_states + 1))
    rewards = np.zeros(moves.shape)
    moves[0, 0, 1] = moves[0, 1, 1 + branch] = 1.0
    for first in (1, 1 + branch):
        for state in range(first, first + branch - 1):
            moves[state, :, state + 1] = 1.0
        last = first + branch - 1
        moves[last, :, num_states] = 1.0
        rewards[last, 1] += 0.5
        rewards[last] += 2.0 * (first != 1)
    features = np.zeros((num_states, 1))
    features[1 + branch :] = 1.0
    return DialogueProcess(
        name="delayed effect",
        question="does the first reply get credit for a reward five turns later?",
        start=np.eye(num_states)[0],
        logits=np.zeros((num_states, 2)),
        moves=moves,
        rewards=rewards,
        features=features,
        num_turns=num_turns,
        noise=0.5,
    )


def myopia_trap() -> DialogueProcess:
    """At first, reply 0 earns 1 and closes a door; reply 1 costs 1 and opens it: 1 in each of 4 more turns.

    Later replies are worth 0 or 0.5 wherever one is. States: at the door, closed, open.
    """
    moves = np.zeros((3, 2, 4))
    moves[0, 0, 1] = moves[0, 1, 2] = 1.0
    moves[1, :, 1] = moves[2, :, 2] = 1.0
    rewards = np.zeros(moves.shape)
    rewards[0, 0], rewards[0, 1] = 1.0, -1.0
    rewards[2] = 1.0
    rewards[1:, 1] += 0.5
    return DialogueProcess(
        name="myopia trap",
        question="is a reply that costs now and pays later praised over the one that pays now?",
        start=np.eye(3)[0],
        logits=np.zeros((3, 2)),
        moves=moves,
        rewards=rewards,
        features=np.array([[0.0], [-1.0], [1.0]]),
        num_turns=5,
        noise=0.5,
    )


def variable_lengths() -> DialogueProcess:
    """A distance of 2 or 3 to walk, 5 turns at most; met needs end the dialogue; rewards are increments.

    Reply 1 closes a step with probability 0.6 and loses one with 0.1; reply 0 does so with 0.3 and 0.3. The
    better dialogues are the shorter ones, and the scenarios differ in what there is to earn.
    """
    return _walk(
        name="variable lengths",
        question="do lengths that depend on the replies, and easier scenarios, leave the credit right?",
        start=np.array([0.0, 0.5, 0.5, 0.0]),
        closes=(0.3, 0.6),
        loses=(0.3, 0.1),
        num_turns=5,
        noise=0.5,
    )


def zero_rewards() -> DialogueProcess:
    """A distance of 2, closed by a step with probability 0.4 or 0.1, never lost: most turns earn 0."""
    return _walk(
        name="zero rewards",
        question="does a turn that earned exactly 0 still count as a turn?",
        start=np.array([0.0, 1.0]),
        closes=(0.1, 0.4),
        loses=(0.0, 0.0),
        num_turns=5,
        noise=0.0,
    )


def failed_judgements() -> DialogueProcess:
    """A user who warms or cools earns 2 or 1 in each of 4 turns; every fourth judgement fails."""
    moves = np.zeros((2, 2, 3))
    moves[:, 0] = [0.7, 0.3, 0.0]
    moves[:, 1] = [0.3, 0.7, 0.0]
    moves[1] += [-0.2, 0.2, 0.0]
    rewards = np.ones(moves.shape)
    rewards[..., 1] = 2.0
    return DialogueProcess(
        name="failed judgements",
        question="do turns the judge failed on leave the others' credit right?",
        start=np.array([0.5, 0.5]),
        logits=np.zeros((2, 2)),
        moves=moves,
        rewards=rewards,
        features=np.array([[-1.0], [0.0]]),
        num_turns=4,
        noise=0.5,
        failed_fraction=0.25,
    )


def _walk(
    *,
    name: str,
    question: str,
    start: np.ndarray,
    closes: tuple[float, float],
    loses: tuple[float, float],
    num_turns: int,
    noise: float,
) -> DialogueProcess:
    """Give a walk over distances 1 to S that ends at 0; state k is distance k + 1; steps earn increments."""
    num_states = len(start)
    moves = np.zeros((num_states, 2, num_states + 1))
    rewards = np.zeros(moves.shape)
    for state in range(num_states):
        nearer = state - 1 if state else num_states
        farther = min(state + 1, num_states - 1)
        rewards[state, :, nearer] = 1.0
        if farther != state:
            rewards[state, :, farther] = -1.0
        for reply in range(2):
            moves[state, reply, nearer] += closes[reply]
            moves[state, reply, farther] += loses[reply]
            moves[state, reply, state] += 1.0 - closes[reply] - loses[reply]
    return DialogueProcess(
        name=name,
        question=question,
        start=start,
        logits=np.zeros((num_states, 2)),
        moves=moves,
        rewards=rewards,
        features=-np.arange(1.0, num_states + 1)[:, None],
        num_turns=num_turns,
        noise=noise,
    )
