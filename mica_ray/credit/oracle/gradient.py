"""The exact policy gradient of a process, and estimates from sampled advantages."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from mica_ray.credit.oracle.process import DialogueProcess, Dialogues, enumerate_dialogues
from mica_ray.credit.returns import discounted_returns


def exact_gradient(process: DialogueProcess, *, judged: bool = True) -> np.ndarray:
    """Compute the gradient of the expected summed reward with respect to the policy's logits.

        dJ = sum_t E[d log pi(a_t | s_t) sum_{s >= t} r_s]          over all possible dialogues

    Args:
        process: a process with at most some ten thousand possible dialogues.
        judged: whether only judged turns earn rewards and are trained, which is all that can be learned:
            sum_t E[j_t d log pi sum_{s >= t} j_s r_s] with j = 1 where judged. False: as if no judgement
            failed.

    Returns:
        [S, A], reward units.
    """
    whole = process if judged else replace(process, failed_fraction=0.0)
    return sum(
        (
            probability * turn_gradients(whole, start).sum(axis=0)
            for start, probability in enumerate(process.start)
            if probability > 0
        ),
        start=np.zeros(process.logits.shape),
    )


def turn_gradients(process: DialogueProcess, start: int) -> np.ndarray:
    """Compute the contribution of each turn to the gradient, from one start state.

    Args:
        process: see `exact_gradient`.
        start: the state of the first turn.

    Returns:
        [T, S, A], reward units; the sum over turns is the gradient.
    """
    probability, dialogues = enumerate_dialogues(process, start)
    judged = 1.0 - process.failed_fraction
    later = discounted_returns(dialogues.rewards, dialogues.played, gamma=1.0) - dialogues.rewards
    credit = probability[:, None] * judged * (dialogues.rewards + judged * later)
    shape = (process.num_turns, *process.logits.shape)
    cell = np.ravel_multi_index(
        (np.arange(shape[0]) + 0 * dialogues.states, dialogues.states, dialogues.replies), shape
    )
    earned = np.where(dialogues.played, credit, 0.0)
    summed = np.bincount(cell.reshape(-1), weights=earned.reshape(-1), minlength=int(np.prod(shape)))
    return _times_score(summed.reshape(shape), process.policy)


def gradient_of_group_mean(process: DialogueProcess, *, group_size: int) -> np.ndarray:
    """Compute the expected gradient with the mean of the whole group as the baseline.

        E[g] = sum_t E[1 - 1/n_t] g_t,    n_t - 1 ~ Binomial(N - 1, probability to be judged at turn t)

    The mean keeps 1 - 1/n_t of the leave-one-out difference, and the other dialogues are independent. A turn
    that no other dialogue reached gets 0.

    Args:
        process: see `exact_gradient`.
        group_size: N.

    Returns:
        [S, A], reward units.
    """
    expected = np.zeros(process.logits.shape)
    for start, weight in enumerate(process.start):
        if weight <= 0:
            continue
        probability, dialogues = enumerate_dialogues(process, start)
        reached = (probability @ dialogues.played) * (1.0 - process.failed_fraction)
        others = np.arange(group_size)
        ways = np.array([math.comb(group_size - 1, int(k)) for k in others])
        chance = ways * reached[:, None] ** others * (1 - reached[:, None]) ** (group_size - 1 - others)
        kept = chance @ (1.0 - 1.0 / (others + 1.0))
        expected += weight * np.tensordot(kept, turn_gradients(process, start), axes=1)
    return expected


def gradient_estimates(
    process: DialogueProcess, dialogues: Dialogues, advantages: np.ndarray, *, num_units: int
) -> np.ndarray:
    """Compute the policy gradient of advantages.

        g = mean over dialogues of sum_t A[t] d log pi(a_t | s_t)

    Sums over turns and averages over dialogues. A loss that averages over tokens gives long dialogues less
    weight, with any credit.

    Args:
        process: the process whose policy sampled the replies.
        dialogues: B dialogues in `num_units` equal consecutive parts.
        advantages: [B, T], 0 where a turn is not trained.
        num_units: U, one estimate for each part.

    Returns:
        [U, S, A], in the unit of the advantages.
    """
    num_dialogues, num_turns = advantages.shape
    num_states, num_replies = process.logits.shape
    unit = np.repeat(np.arange(num_units), num_dialogues // num_units * num_turns)
    cell = (unit * num_states + dialogues.states.reshape(-1)) * num_replies + dialogues.replies.reshape(-1)
    credit = np.where(dialogues.played, advantages, 0.0).reshape(-1)
    size = num_units * num_states * num_replies
    summed = np.bincount(cell, weights=credit, minlength=size).reshape(num_units, num_states, num_replies)
    return _times_score(summed, process.policy) / (num_dialogues // num_units)


def _times_score(credit: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """Multiply credit summed by state and reply, [..., S, A], by d log pi / d logits.

    For a softmax, d log pi(a | s) / d logit[s, b] = 1[a = b] - pi(b | s).
    """
    return credit - policy * credit.sum(axis=-1, keepdims=True)
