"""The case of mixed stakes: its gradient by hand, and what a gate does to divided and undivided credit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mica_ray.credit import CreditEstimator, Grpo, Rloo
from mica_ray.credit.noise_gate import Gated, NoiseGate, nearest_ties
from mica_ray.credit.oracle.bench import Contestant, draw_steps, measure
from mica_ray.credit.oracle.cases import all_cases, mixed_stakes
from mica_ray.credit.oracle.gradient import exact_gradient


def test_gradient_of_mixed_stakes() -> None:
    # Scenario 1 of 3, four turns, p (1 - p) = 1/4: 1/3 x 4 x 1/4 x stake = stake / 3.
    expected = np.array([2.0, 0.2, 0.0]) / 3
    np.testing.assert_allclose(exact_gradient(mixed_stakes()), np.stack([-expected, expected], axis=1))
    assert mixed_stakes().name not in [case.name for case in all_cases()]


def change(estimator: CreditEstimator, noise: float) -> float:
    """Return the change of the error of a step's gradient by a gate of whole dialogues."""
    sampled = draw_steps(replace(mixed_stakes(), noise=noise), 128, group_size=4, seed=0)
    gated = Gated(estimator, NoiseGate(noise, scope="dialogue"))
    return measure(Contestant("", gated), sampled).error - measure(Contestant("", estimator), sampled).error


def test_gate_helps_divided_credit_with_little_noise_and_hurts_with_much() -> None:
    # The experiment finds -0.076 and +0.069 for GRPO, +0.136 for RLOO, with errors below 0.02.
    assert change(Grpo(), 0.5) < -0.04
    assert change(Grpo(), 2.0) > 0.02
    assert change(Rloo(), 2.0) > 0.06


def test_turns_nearest_to_a_tie_are_chosen_up_to_the_share() -> None:
    ratios = np.array([[0.5, 3.0, np.inf], [1.0, 2.0, np.inf]])
    for fraction, expected in ((0.0, 0), (0.24, 0), (0.25, 1), (0.74, 2), (0.75, 3), (1.0, 4)):
        chosen = nearest_ties(ratios, fraction=fraction)
        assert np.flatnonzero(chosen).tolist() == sorted([0, 3, 4, 1][:expected])
    with pytest.raises(ValueError, match="fraction"):
        nearest_ties(ratios, fraction=1.01)
