"""Credit for trainers that work on tokens: from rewards to advantages, both [B, L].

For verl, SkyRL and others (credit/README.md); needs only numpy. Our own loop uses only credit/tokens.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from mica_ray.credit.estimator import CreditEstimator
from mica_ray.credit.tokens import spread_over_tokens
from mica_ray.types import TurnRewards


def turns_of_replies(reply_mask: np.ndarray) -> np.ndarray:
    """Number the replies of each row: every unbroken run of reply tokens is one turn.

    Turns come from the mask and never from rewards, so a turn with reward 0 is a turn too. If two replies
    follow each other without a user token between them, number the turns yourself.

    >>> turns_of_replies(np.array([[0, 1, 1, 0, 1]]))
    array([[-1,  0,  0, -1,  1]])

    Args:
        reply_mask: [B, L], non-zero on tokens that the policy sampled, 0 on user tokens and padding.

    Returns:
        [B, L] int64, the turn of each reply token, from 0 in each row; -1 on all other tokens.

    Raises:
        ValueError: the mask is not [B, L].
    """
    if reply_mask.ndim != 2:
        raise ValueError(f"reply_mask must be [B, L], got shape {reply_mask.shape}.")
    is_reply = reply_mask != 0
    begins = is_reply & ~np.pad(is_reply, ((0, 0), (1, 0)))[:, :-1]
    return np.where(is_reply, np.cumsum(begins, axis=1) - 1, -1)


def token_advantages(
    token_rewards: np.ndarray,
    token_turns: np.ndarray,
    groups: Sequence[Hashable] | np.ndarray,
    estimator: CreditEstimator,
) -> np.ndarray:
    """Compute the advantage of every reply token: that of its turn, by any credit estimator.

        r[i, t] = sum of token_rewards[i, l] over l from the first token of turn t to the first of turn t + 1

    A reward on user tokens belongs to the reply before them. NaN marks a turn that was not judged: it gets no
    credit and enters no mean. Turns come only from `token_turns`.

    Two dialogues of one prompt, of which the first is rewarded at its second reply:

    >>> from mica_ray.credit import ReturnToGo
    >>> rewards, mask = np.array([[0.0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]), np.array([[0, 1, 1, 0, 1]] * 2)
    >>> token_advantages(rewards, turns_of_replies(mask), ["a", "a"], ReturnToGo())
    array([[ 0.,  1.,  1.,  0.,  1.],
           [ 0., -1., -1.,  0., -1.]], dtype=float32)

    Args:
        token_rewards: [B, L], reward units, 0 where there is none.
        token_turns: [B, L] int, the turn of each reply token, -1 elsewhere: `turns_of_replies(mask)`.
        groups: [B], equal for dialogues of one prompt: a trainer's uids, or any hashable values.
        estimator: computes the advantages of the turns.

    Returns:
        [B, L] float32, 0 outside the replies.

    Raises:
        ValueError: the shapes disagree, the turns of a row do not ascend, or a reward precedes the first
            reply of its row.
    """
    shape = token_turns.shape
    if len(shape) != 2 or token_rewards.shape != shape or len(groups) != shape[0]:
        raise ValueError(
            "token_rewards and token_turns must be [B, L] and groups [B], "
            f"got {token_rewards.shape}, {shape} and [{len(groups)}]."
        )
    turns = _turn_rewards(token_rewards, token_turns, groups)
    advantages = estimator(turns)
    rows = np.arange(len(token_turns), dtype=np.int64)[:, None]
    numbers = np.where(token_turns >= 0, rows * advantages.shape[1] + token_turns, -1)
    return spread_over_tokens(advantages, numbers)


def _turn_rewards(
    token_rewards: np.ndarray, token_turns: np.ndarray, groups: Sequence[Hashable] | np.ndarray
) -> TurnRewards:
    owner = np.maximum.accumulate(token_turns, axis=1)
    is_reply = token_turns >= 0
    if (owner != token_turns)[is_reply].any():
        row = _first_row((owner != token_turns) & is_reply)
        raise ValueError(f"token_turns must ascend along each row, got a descent in row {row}.")
    is_early = (owner < 0) & (token_rewards != 0)
    if is_early.any():
        raise ValueError(
            f"token_rewards must be 0 before the first reply, got a reward in row {_first_row(is_early)}."
        )
    num_dialogues, num_turns = len(token_turns), int(token_turns.max(initial=-1)) + 1
    numbers = np.arange(num_dialogues)[:, None] * num_turns + owner
    size = num_dialogues * num_turns
    is_owned = owner >= 0
    earned = np.bincount(numbers[is_owned], weights=token_rewards[is_owned], minlength=size)
    played = np.bincount(numbers[is_reply], minlength=size) > 0
    valid = played & ~np.isnan(earned)
    codes: dict[Hashable, int] = {}
    group = np.array([codes.setdefault(name, len(codes)) for name in groups], dtype=np.int64)
    by_turn = (num_dialogues, num_turns)
    return TurnRewards(np.where(valid, earned, 0.0).reshape(by_turn), valid.reshape(by_turn), group)


def _first_row(is_wrong: np.ndarray) -> int:
    return int(np.flatnonzero(is_wrong.any(axis=1))[0])
