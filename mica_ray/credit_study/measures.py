"""Measures of one estimator's advantages: spikes, zeros, its two terms, bias by length."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mica_ray.credit.estimator import CreditEstimator
from mica_ray.credit.lambda_returns import LambdaReturns
from mica_ray.credit.mica import Mica
from mica_ray.types import TurnRewards

TOP_FRACTION = 0.01
"""Share of the turns with the largest |A|, whose part of the sum of |A| shows spikes."""

SILENT = 1e-9
"""Advantages below this have no effect on the gradient."""


@dataclass(frozen=True, slots=True)
class CreditMeasures:
    """Measures of one estimator's advantages; NaN if not defined."""

    rms: float
    """Root mean square of A over the judged turns, in the estimator's own unit."""
    largest: float
    """Largest |A|, in multiples of `rms`: if large, one turn dominates a gradient step."""
    top_fraction: float
    """Share of the sum of |A| on the TOP_FRACTION of turns with the largest |A|."""
    effective_fraction: float
    """(sum |A|)^2 / (V sum A^2): effective sample size, as a share of the V judged turns."""
    zero_fraction: float
    """Share of the judged turns with A = 0."""
    silent_groups: int
    """Groups with A = 0 on every turn."""
    group_spike: float
    """Largest root mean square of A of a group over that of the median group: how much the gradient norm may
    jump if the gradients of single turns are similar."""
    turn_share: float
    """sum A A_turn / sum A^2, with A = A_turn + A_group: the part of A due to its turn term; NaN if the
    estimator does not have two terms."""
    group_share: float
    """The same for the group term; both add up to 1."""
    dialogue_length_correlation: float
    """Pearson's correlation, over dialogues, of the mean A with the number of judged turns."""
    reply_length_correlation: float
    """Pearson's correlation, over judged turns, of A with the length of the reply."""


def by_batch(estimator: CreditEstimator, turns: TurnRewards, *, batch: np.ndarray) -> np.ndarray:
    """Credit each batch separately, as in training.

    Returns:
        [B, T], 0 where not judged.
    """
    advantages = np.zeros(turns.rewards.shape)
    for code in np.unique(batch):
        rows = batch == code
        states = None if turns.states is None else turns.states[rows]
        advantages[rows] = estimator(
            TurnRewards(turns.rewards[rows], turns.valid[rows], turns.group[rows], states)
        )
    return advantages


def terms_of(estimator: CreditEstimator) -> tuple[tuple[float, CreditEstimator], ...]:
    """Return the turn term and the group term of a mix with their weights; their sum is the advantage.

    Empty for an estimator that does not mix two terms, or whose weights depend on the turn.
    """
    if not isinstance(estimator, Mica | LambdaReturns) or getattr(estimator, "lone_turn", "") == "group":
        return ()
    alpha = estimator.alpha
    return (alpha, replace(estimator, alpha=1.0)), (1 - alpha, replace(estimator, alpha=0.0))


def measure_credit(
    estimator: CreditEstimator,
    turns: TurnRewards,
    advantages: np.ndarray,
    *,
    batch: np.ndarray,
    reply_lengths: np.ndarray,
) -> CreditMeasures:
    """Measure the advantages of an estimator.

    Args:
        estimator: the estimator of the advantages.
        turns: B dialogues.
        advantages: [B, T], 0 where not judged.
        batch: [B] int, equal for dialogues that the estimator saw together.
        reply_lengths: [B, T], any unit, NaN where not recorded.
    """
    valid = turns.valid
    credit = advantages[valid]
    size = np.abs(credit)
    rms, total = root_mean_square(credit), float(size.sum())
    top = np.sort(size)[::-1][: max(1, round(TOP_FRACTION * size.size))]
    rows_of = (turns.group == group for group in np.unique(turns.group))
    by_group = np.array([root_mean_square(advantages[rows][valid[rows]]) for rows in rows_of])
    middle = float(np.median(by_group))
    num_judged = valid.sum(axis=1)
    is_played = num_judged > 0
    mean = advantages.sum(axis=1)[is_played] / num_judged[is_played]
    known = valid & np.isfinite(reply_lengths)
    turn_share, group_share = _shares(estimator, turns, advantages, batch=batch)
    return CreditMeasures(
        rms=rms,
        largest=float(size.max()) / rms if rms else math.nan,
        top_fraction=float(top.sum()) / total if total else math.nan,
        effective_fraction=total**2 / (size.size**2 * rms**2) if rms else 0.0,
        zero_fraction=float((size <= SILENT).mean()),
        silent_groups=int((by_group <= SILENT).sum()),
        group_spike=float(by_group.max()) / middle if middle > SILENT else math.nan,
        turn_share=turn_share,
        group_share=group_share,
        dialogue_length_correlation=correlation(mean, num_judged[is_played]),
        reply_length_correlation=correlation(advantages[known], reply_lengths[known]),
    )


def _shares(
    estimator: CreditEstimator, turns: TurnRewards, advantages: np.ndarray, *, batch: np.ndarray
) -> tuple[float, float]:
    total = float((advantages**2).sum())
    shares = [
        weight * float((by_batch(term, turns, batch=batch) * advantages).sum()) / (total or math.nan)
        for weight, term in terms_of(estimator)
    ]
    return (shares[0], shares[1]) if shares else (math.nan, math.nan)


def root_mean_square(values: np.ndarray) -> float:
    """Return sqrt(mean x^2), 0 without values."""
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Pearson's correlation, NaN if either side is constant."""
    if one.size < 2 or np.ptp(one) <= SILENT or np.ptp(other) <= SILENT:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])
