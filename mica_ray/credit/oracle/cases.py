"""The processes of the oracle bench, each for one fault of credit over turns."""

from __future__ import annotations

import numpy as np

from mica_ray.credit.oracle.process import DialogueProcess


def all_cases() -> tuple[DialogueProcess, ...]:
    """Return every process of the bench, in the order of its table."""
    return (
        survivors(),
        delayed_effect(),
        myopia_trap(),
        variable_lengths(),
        zero_rewards(),
        failed_judgements(),
    )


def survivors() -> DialogueProcess:
    """Build a choice between stopping and continuing at each of four turns.

    Every turn earns about 1, so credit can only come from the length of the dialogue. One pair of logits for
    all turns: d J / d logit of continuing = 1/4 (1 + 2/2 + 3/4) = 0.6875.
    """
    moves = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    return DialogueProcess(
        name="survivors",
        question="does a reply get credit whose only effect is the length of the dialogue?",
        start=np.ones(1),
        logits=np.zeros((1, 2)),
        moves=moves,
        rewards=np.ones(moves.shape),
        features=np.zeros((1, 1)),
        num_turns=4,
        noise=1.0,
    )


def delayed_effect() -> DialogueProcess:
    """Build six turns whose first reply decides if the last turn earns 2.

    The last reply itself adds 0 or 0.5.
    """
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
    """Build a trap in which the better first reply costs 1 and the worse one earns 1.

    Reply 1 opens a door, and each of the 4 later turns earns 1 more; reply 0 closes it. Later replies add 0
    or 0.5 in every state. States: at the door, closed, open.
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
        question="does a reply that costs now and pays later get more credit than one that pays now?",
        start=np.eye(3)[0],
        logits=np.zeros((3, 2)),
        moves=moves,
        rewards=rewards,
        features=np.array([[0.0], [-1.0], [1.0]]),
        num_turns=5,
        noise=0.5,
    )


def variable_lengths() -> DialogueProcess:
    """Build a walk over a distance of 2 or 3 in at most 5 turns that ends at 0.

    Rewards are increments. Reply 1 gains a step with probability 0.6 and loses one with 0.1; reply 0 with 0.3
    and 0.3. Better dialogues are shorter, and the scenarios differ in the reward available.
    """
    return _walk(
        name="variable lengths",
        question="is credit right if lengths depend on the replies and some scenarios are easier?",
        start=np.array([0.0, 0.5, 0.5, 0.0]),
        closes=(0.3, 0.6),
        loses=(0.3, 0.1),
        num_turns=5,
        noise=0.5,
    )


def zero_rewards() -> DialogueProcess:
    """Build a walk over a distance of 2 without losses, in which most turns earn 0.

    Reply 1 gains a step with probability 0.4, reply 0 with 0.1.
    """
    return _walk(
        name="zero rewards",
        question="does a turn with a reward of exactly 0 count as a turn?",
        start=np.array([0.0, 1.0]),
        closes=(0.1, 0.4),
        loses=(0.0, 0.0),
        num_turns=5,
        noise=0.0,
    )


def failed_judgements() -> DialogueProcess:
    """Build four turns with a quarter of the judgements failed.

    A turn that leaves the user in state 1 earns 2, in state 0 it earns 1.
    """
    moves = np.zeros((2, 2, 3))
    moves[:, 0] = [0.7, 0.3, 0.0]
    moves[:, 1] = [0.3, 0.7, 0.0]
    moves[1] += [-0.2, 0.2, 0.0]
    rewards = np.ones(moves.shape)
    rewards[..., 1] = 2.0
    return DialogueProcess(
        name="failed judgements",
        question="is the credit of judged turns right if the judge fails on others?",
        start=np.array([0.5, 0.5]),
        logits=np.zeros((2, 2)),
        moves=moves,
        rewards=rewards,
        features=np.array([[-1.0], [0.0]]),
        num_turns=4,
        noise=0.5,
        failed_fraction=0.25,
    )


def mixed_stakes() -> DialogueProcess:
    """Build four turns in one of three scenarios, in which reply 1 adds 2, 0.2 or 0. Not in `all_cases`.

    Under a noisy judge, the last two scenarios have only near ties.
    """
    stakes = np.array([2.0, 0.2, 0.0])
    moves = np.zeros((3, 2, 4))
    moves[np.arange(3), :, np.arange(3)] = 1.0
    rewards = np.zeros(moves.shape)
    rewards[:, 1] = stakes[:, None]
    return DialogueProcess(
        name="mixed stakes",
        question="does noise of the judge drown what matters in scenarios where little does?",
        start=np.full(3, 1 / 3),
        logits=np.zeros((3, 2)),
        moves=moves,
        rewards=rewards,
        features=stakes[:, None],
        num_turns=4,
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
    """Build a walk over distances 1 to S that ends at 0; rewards are increments.

    State k is distance k + 1.
    """
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
