"""Predict the correlation of noisy with noise-free advantages from the size of the noise.

Uses only the recorded dialogues and the moments of the noise; measurement.py draws noise and measures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mica_ray.credit import CreditEstimator
from mica_ray.credit.estimator import trained_turns
from mica_ray.credit.grpo import has_valid_turn
from mica_ray.credit.normalize import EPS
from mica_ray.credit_study.noise.propagation import RewardNoise
from mica_ray.credit_study.noise.terms import Term, terms_of
from mica_ray.credit_study.noise.unit_vectors import unit_moments
from mica_ray.types import TurnRewards

MOST_EXACT = 32
"""Segments with more values use the expected deviation; its own noise is then of order 1 / n."""


@dataclass(frozen=True, slots=True, eq=False)
class _Scores:
    """The values that a term compares, with their noise. W = T, or 1 for dialogues."""

    mean: np.ndarray
    """[B, W], expected noisy value."""
    covariance: np.ndarray
    """[B, W, W]."""
    linear: np.ndarray
    """[B, W, T], value = linear x rewards."""
    compared: np.ndarray
    """[B, W] bool."""


@dataclass(frozen=True, slots=True, eq=False)
class _Segment:
    """One segment of n values; n > 1."""

    rows: np.ndarray
    columns: np.ndarray
    mean: np.ndarray
    """[n], expected noisy differences."""
    variance: np.ndarray
    """[n], of the noisy differences."""
    centred: np.ndarray | None
    """[n, n], covariance of the noisy differences; None if n > MOST_EXACT."""


@dataclass(frozen=True, slots=True, eq=False)
class _Noisy:
    """Moments of a term's noisy advantages, [B, W], without its weight."""

    mean: np.ndarray
    square: np.ndarray
    scale: np.ndarray
    """Factor between a noisy difference and its advantage, with the expected deviation."""


def predict_correlation(
    estimator: CreditEstimator, turns: TurnRewards, noise: RewardNoise, *, batch: np.ndarray
) -> float:
    """Predict Pearson's correlation, over trained turns, of noisy with noise-free advantages.

        rho = sum A E[A'] / sqrt(sum A^2 sum E[A'^2])           about the means of A and A'

    A divided advantage is a Gaussian vector over its own length (unit_vectors.py): in a segment whose spread
    is within the noise, A' has the size of any other z-score and a random direction.

    Args:
        estimator: see `terms.terms_of`.
        turns: noise-free rewards of all batches.
        noise: moments of their error.
        batch: [B] int, equal for dialogues that the estimator sees together.

    Returns:
        The correlation, NaN for an estimator that has no such form, or without any spread.
    """
    found: list[np.ndarray] = []
    for code in np.unique(batch):
        rows = batch == code
        states = None if turns.states is None else turns.states[rows]
        part = TurnRewards(turns.rewards[rows], turns.valid[rows], turns.group[rows], states)
        compared = trained_turns(estimator, part)
        terms = terms_of(estimator, part, compared)
        if terms is None:
            return math.nan
        error = RewardNoise(noise.shift[rows], noise.covariance[rows])
        noisy = _noisy_advantages(terms, part, error, compared)
        columns = (estimator(part), *(np.broadcast_to(one, compared.shape) for one in noisy))
        found.append(np.stack([column[compared] for column in columns]))
    return _expected_correlation(*np.concatenate(found, axis=1)) if found else math.nan


def _expected_correlation(clean: np.ndarray, mean: np.ndarray, square: np.ndarray) -> float:
    """Return the correlation of A [V] with A', from E[A'] and E[A'^2] of every turn; NaN without spread."""
    if not clean.size:
        return math.nan
    of_clean = float(np.mean(clean**2) - clean.mean() ** 2)
    of_noisy = float(square.mean() - mean.mean() ** 2)
    if min(of_clean, of_noisy) <= 1e-12 * max(float(np.mean(clean**2)), float(square.mean()), 1e-12):
        return math.nan
    covariance = float(np.mean(clean * mean) - clean.mean() * mean.mean())
    return covariance / math.sqrt(of_clean * of_noisy)


def _noisy_advantages(
    terms: tuple[Term, ...], turns: TurnRewards, noise: RewardNoise, compared: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return E[A'] and E[A'^2], [B, T] or [B, 1]; the cross terms are right in sum, not per turn."""
    scores = [_scores(term, turns, noise, compared) for term in terms]
    noisy = [_noisy(term, one) for term, one in zip(terms, scores, strict=True)]
    mean = sum(term.weight * one.mean for term, one in zip(terms, noisy, strict=True))
    square = sum(term.weight**2 * one.square for term, one in zip(terms, noisy, strict=True))
    if len(terms) == 2 and (terms[0].weight * terms[1].weight).any():
        weight = 2 * terms[0].weight * terms[1].weight
        square = square + weight * _product(terms[0], scores, noisy, noise)
    return np.asarray(mean), np.asarray(square)


def _scores(term: Term, turns: TurnRewards, noise: RewardNoise, compared: np.ndarray) -> _Scores:
    """Return the values that a term compares, with the moments of their noise."""
    width = turns.valid.shape[1]
    earned = np.where(turns.valid, turns.rewards, 0.0) + noise.shift
    if term.gamma is None:
        linear = np.broadcast_to(turns.valid[:, None, :].astype(np.float64), (len(earned), 1, width))
        chosen = has_valid_turn(turns.valid)[:, None]
    else:
        distance = np.arange(width)[None, :] - np.arange(width)[:, None]
        discount = np.where(distance >= 0, float(term.gamma) ** np.maximum(distance, 0), 0.0)
        linear = np.broadcast_to(discount, (len(earned), width, width))
        chosen = compared
    covariance = linear @ noise.covariance @ np.swapaxes(linear, 1, 2)
    return _Scores(np.einsum("bwt,bt->bw", linear, earned), covariance, linear, chosen)


def _noisy(term: Term, scores: _Scores) -> _Noisy:
    """Compute the moments of the noisy advantages of one term."""
    mean, square, scale = (np.zeros(scores.mean.shape) for _ in range(3))
    if term.keeps_lone:
        mean[:], scale[:] = scores.mean, 1.0
        square[:] = scores.mean**2 + np.diagonal(scores.covariance, axis1=1, axis2=2)
    for segment in _segments(term, scores):
        place = segment.rows, segment.columns
        size = len(segment.mean)
        factor = size / (size - 1) if term.baseline == "leave_one_out" else 1.0
        deviation = math.sqrt(float((segment.mean**2 + segment.variance).sum()) / size)
        scale[place] = factor / (deviation + EPS) if term.divide else factor
        if term.divide and segment.centred is not None:
            unit = unit_moments(segment.mean, segment.centred)
            mean[place] = factor * math.sqrt(size) * unit.direction
            square[place] = factor**2 * size * unit.square
        else:
            mean[place] = scale[place] * segment.mean
            square[place] = scale[place] ** 2 * (segment.mean**2 + segment.variance)
    if term.whiten:
        over_all = math.sqrt(float(square[scores.compared].mean())) + EPS
        mean, square, scale = mean / over_all, square / over_all**2, scale / over_all
    return _Noisy(mean, square, scale)


def _segments(term: Term, scores: _Scores) -> list[_Segment]:
    """Return the segments of two and more values."""
    rows, columns = np.nonzero(scores.compared)
    codes = term.segments[rows, columns]
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if order.size else []
    return [_segment(scores, rows[part], columns[part]) for part in parts if len(part) > 1]


def _segment(scores: _Scores, rows: np.ndarray, columns: np.ndarray) -> _Segment:
    """Return the moments of x - mean for the values of one segment."""
    mean = scores.mean[rows, columns]
    own = scores.covariance[rows, columns, columns]
    size = len(mean)
    if size <= MOST_EXACT:
        joint = scores.covariance[rows[:, None], columns[:, None], columns[None, :]]
        raw = np.where(rows[:, None] == rows[None, :], joint, 0.0)
        centring = np.eye(size) - 1.0 / size
        centred = centring @ raw @ centring
        return _Segment(rows, columns, mean - mean.mean(), np.diag(centred), centred)
    # Only values of one dialogue have correlated errors.
    with_own = np.zeros(size)
    for row in np.unique(rows):
        mine = np.flatnonzero(rows == row)
        with_own[mine] = scores.covariance[row][np.ix_(columns[mine], columns[mine])].sum(axis=1)
    variance = own - 2 / size * with_own + with_own.sum() / size**2
    return _Segment(rows, columns, mean - mean.mean(), variance, None)


def _product(term: Term, scores: list[_Scores], noisy: list[_Noisy], noise: RewardNoise) -> np.ndarray:
    """Return E[A'_1 A'_2] of the turn term and another, [B, T]; right in the sum over a segment of term 1.

    The other term's segments contain those of term 1, so its mean cancels in the sum; its deviation is the
    expected one. Its error follows from that of term 1 by linear regression.
    """
    first, second = scores
    joint = np.einsum("bwt,bts,bws->bw", first.linear, noise.covariance, second.linear)
    product = np.zeros(first.mean.shape)
    for segment in _segments(term, first):
        place = segment.rows, segment.columns
        size = len(segment.mean)
        shared = np.diag(joint[place]) @ (np.eye(size) - 1.0 / size)
        product[place] = noisy[0].mean[place] * noisy[1].mean[place]
        if term.divide and segment.centred is not None:
            unit = unit_moments(segment.mean, segment.centred)
            factor = (size / (size - 1) if term.baseline == "leave_one_out" else 1.0) * math.sqrt(size)
            moved = unit.with_vector - np.outer(unit.direction, segment.mean)
            regression = shared @ np.linalg.pinv(segment.centred, hermitian=True)
            of_noise = factor * np.einsum("ij,ij->i", regression, moved)
        else:
            of_noise = noisy[0].scale[place] * np.diag(shared)
        product[place] += noisy[1].scale[place] * of_noise
    return product
