"""The papers' claims about credit, each under the assumption that it needs."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.credit import AnchorStates, Mica
from mica_ray.credit.oracle.cases import delayed_effect
from mica_ray.credit.oracle.gradient import exact_gradient
from mica_ray.credit.returns import discounted_returns
from mica_ray.rewards import zone_distance
from mica_ray.types import TurnRewards

ALPHAS = np.linspace(0, 1, 21)


def one_group(rewards: np.ndarray, valid: np.ndarray | None = None) -> TurnRewards:
    played = np.ones(rewards.shape, bool) if valid is None else valid
    return TurnRewards(rewards, played, np.zeros(len(rewards), np.int64))


def variances(turns: TurnRewards) -> np.ndarray:
    """Return the mean square of the mix over the group at every alpha; its mean is 0."""
    return np.array([np.mean(Mica(alpha=alpha)(turns)[turns.valid] ** 2) for alpha in ALPHAS.tolist()])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_variance_of_the_mix_is_least_at_one_half_with_unit_components(seed: int) -> None:
    # The assumption: both parts have variance 1 over the same turns, which holds when every turn is reached
    # by at least two dialogues whose returns differ. Then Var = alpha^2 + beta^2 + 2 alpha beta rho.
    turns = one_group(np.random.default_rng(seed).normal(size=(4, 3)))
    turn, group = Mica(alpha=1)(turns), Mica(alpha=0)(turns)
    # 1e-4: EPS beside deviations of about 1.
    assert np.mean(turn**2) == pytest.approx(1.0, abs=1e-4)
    assert np.mean(group**2) == pytest.approx(1.0, abs=1e-4)
    rho = np.mean(turn * group)
    measured = variances(turns)
    formula = ALPHAS**2 + (1 - ALPHAS) ** 2 + 2 * ALPHAS * (1 - ALPHAS) * rho
    np.testing.assert_allclose(measured, formula, atol=1e-4)
    assert measured.max() <= 1 + 1e-9
    assert measured[10] <= measured.min() + 1e-4  # ALPHAS[10] is 1/2.


def test_least_variance_leaves_one_half_when_a_lone_turn_has_no_turn_part() -> None:
    # gamma 0. Only one dialogue reaches turn 1: the turn part is 1, 0, -1, variance 2/3. The group
    # part of 1, 4, 0 has variance 1; std sqrt(26)/3, so the covariance is (z(1) - z(0)) / 3 = 1 / sqrt(26).
    # Least at alpha = (1 - c) / (2/3 + 1 - 2c) = 0.631, not at 1/2.
    turns = one_group(np.array([[1.0, 4.0], [0.0, 9.0]]), np.array([[True, True], [True, False]]))
    covariance = 1 / np.sqrt(26)
    best = (1 - covariance) / (5 / 3 - 2 * covariance)

    def variance(alpha: float) -> float:
        return float(np.mean(Mica(alpha=alpha, gamma=0.0)(turns)[turns.valid] ** 2))

    assert best == pytest.approx(0.631, abs=1e-3)
    assert variance(best) < min(variance(0.5), variance(best - 0.05), variance(best + 0.05))
    assert variance(0.5) < 1


paths = st.lists(st.tuples(*[st.floats(-30, 3)] * 3), min_size=2, max_size=8)


@settings(deadline=None, max_examples=30)
@given(paths)
def test_undiscounted_idr_return_is_the_distance_still_to_be_closed(path: list[tuple[float, ...]]) -> None:
    # G_t = D_{t-1} - D_T: dialogues from one state differ only in their final distance.
    distance = zone_distance(np.array(path))
    rewards = (distance[:-1] - distance[1:])[None]
    returns = discounted_returns(rewards, np.ones(rewards.shape, bool), gamma=1.0)[0]
    np.testing.assert_allclose(returns, distance[:-1] - distance[-1], atol=1e-9)


def test_first_turn_compares_final_distances_only() -> None:
    # Both start at 10 and end at 4 and 8, by different paths: 6 against 2.
    ways = np.array([[10.0, 12.0, 9.0, 4.0], [10.0, 1.0, 2.0, 8.0]])
    advantages = Mica(alpha=1, gamma=1, divide=False)(one_group(ways[:, :-1] - ways[:, 1:]))
    np.testing.assert_allclose(advantages[:, 0], [2.0, -2.0])


def shaped(turns: TurnRewards, potential: np.ndarray, gamma: float) -> TurnRewards:
    """Add gamma Phi(s_{t+1}) - Phi(s_t), Phi = 0 after the last turn (Ng, Harada and Russell 1999)."""
    phi = np.where(turns.valid, potential, 0.0)
    later = np.pad(phi[:, 1:], ((0, 0), (0, 1)))
    return replace(turns, rewards=turns.rewards + gamma * later - phi)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_shaping_lowers_every_return_by_the_potential_of_its_state(seed: int, gamma: float) -> None:
    generator = np.random.default_rng(seed)
    valid = np.arange(4) < generator.integers(1, 5, size=(5, 1))
    turns = one_group(generator.normal(size=(5, 4)), valid)
    states = generator.integers(-2, 1, size=(5, 4))
    states[:, 0] = -2  # One scenario, one beginning.
    potential = np.array([0.0, 3.0, -7.0])[states]
    moved = shaped(turns, potential, gamma)
    before = discounted_returns(turns.rewards, valid, gamma=gamma)
    after = discounted_returns(moved.rewards, valid, gamma=gamma)
    np.testing.assert_allclose(after[valid], (before - potential)[valid], atol=1e-9)
    # So dialogues in equal states keep their differences: at the first turn, and at every anchor.
    turn_only = Mica(alpha=1, gamma=gamma)
    np.testing.assert_allclose(turn_only(moved)[:, 0], turn_only(turns)[:, 0], atol=1e-5)
    seen = states[..., None].astype(np.float64)
    anchored = AnchorStates(gamma=gamma, divide=False, weight=1e6)
    # A large weight: shaping moves the episode part by a constant, which becomes negligible.
    np.testing.assert_allclose(
        anchored(replace(moved, states=seen)) / 1e6, anchored(replace(turns, states=seen)) / 1e6, atol=1e-4
    )


def test_shaping_moves_comparisons_between_unequal_states() -> None:
    # At turn 1 the states differ, potentials 0 and 5: returns 1, 1 become 1, -4. The baseline is no longer
    # the same function of the state, though the expected gradient is.
    turns = one_group(np.array([[0.0, 1.0], [0.0, 1.0]]))
    moved = shaped(turns, np.array([[2.0, 0.0], [2.0, 5.0]]), 1.0)
    turn_only = Mica(alpha=1, gamma=1, divide=False)
    np.testing.assert_allclose(turn_only(turns), np.zeros((2, 2)))
    np.testing.assert_allclose(turn_only(moved), [[0, 2.5], [0, -2.5]])


def test_shaping_leaves_the_exact_gradient() -> None:
    # The dialogues of this process end by themselves and not at a limit, so that Phi is 0 at every end.
    process = delayed_effect()
    potential = np.random.default_rng(0).normal(size=len(process.start))
    added = np.append(potential, 0.0)[None, None, :] - potential[:, None, None]
    moved = replace(process, rewards=process.rewards + added)
    np.testing.assert_allclose(exact_gradient(moved), exact_gradient(process), atol=1e-12)


@pytest.mark.parametrize("count", [2, 4, 60])
def test_one_outlier_attains_samuelsons_bound(count: int) -> None:
    # Population deviation: |z| = sqrt(n - 1). With the sample deviation, as the paper writes it,
    # |z| = (n - 1) / sqrt(n): 1.5 at n = 4, 7.6 at n = 60.
    rewards = np.zeros((count, 1))
    rewards[0] = 100.0
    z = Mica(alpha=0)(one_group(rewards))[0, 0]
    assert z == pytest.approx(np.sqrt(count - 1), rel=1e-6)
    assert z * np.sqrt((count - 1) / count) == pytest.approx((count - 1) / np.sqrt(count), rel=1e-6)


def recorded_rewards(folder: Path) -> TurnRewards:
    """Return the recorded increments of distance; a group is one case played by four models."""
    by_case: dict[str, list[np.ndarray]] = defaultdict(list)
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            distance = np.array([point["distance"] for point in case["trajectory"]], dtype=np.float64)
            by_case[case["script_id"]].append(distance[:-1] - distance[1:])
    rows = [(code, row) for code, dialogues in enumerate(by_case.values()) for row in dialogues]
    width = max(len(row) for _, row in rows)
    rewards = np.stack([np.pad(row, (0, width - len(row))) for _, row in rows])
    valid = np.arange(width) < np.array([[len(row)] for _, row in rows])
    return TurnRewards(rewards, valid, np.array([code for code, _ in rows]))


def test_group_term_spikes_where_the_turn_term_cannot(benchmark_data: Path) -> None:
    turns = recorded_rewards(benchmark_data / "empa" / "recorded_runs")
    group_term, turn_term, mixed = (np.abs(Mica(alpha=alpha)(turns)) for alpha in (0.0, 1.0, 0.5))
    for group in np.unique(turns.group):
        mine = turns.group == group
        count = int(turns.valid[mine].sum())
        # The paper's form of the bound holds for the sample deviation.
        sample_z = group_term[mine].max() * np.sqrt((count - 1) / count)
        assert sample_z <= (count - 1) / np.sqrt(count)
    # Four dialogues a case: no turn term can pass sqrt(3). Real groups of 60 to 120 turns do.
    assert turn_term.max() <= np.sqrt(3) + 1e-9
    assert group_term.max() > 3
    assert mixed.max() <= 0.5 * np.sqrt(3) + 0.5 * group_term.max()
    assert (group_term[turns.valid] > np.sqrt(3)).mean() > 0.05
    assert np.mean(mixed[turns.valid] ** 2) < np.mean(group_term[turns.valid] ** 2)
