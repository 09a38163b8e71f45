"""Compared estimators: every measure on a few turns by hand, then on the recorded runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.credit import CreditEstimator, Grpo, LambdaReturns, Mica, ReinforcePlusPlus
from mica_ray.credit_study.comparison import CreditComparison, compare_credit, mean_ranks
from mica_ray.credit_study.tables import credit_facts, credit_record, credit_tables
from mica_ray.credit_study.turn_statistics import band_earnings, count_survivors, spike_bound
from mica_ray.recordings.recorded_turns import RecordedTurns, read_recorded_turns
from mica_ray.types import TurnRewards


class AsEarned:
    """An estimator whose advantage is the reward, so that any advantage can be measured."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        return self.factor * np.where(turns.valid, turns.rewards, 0.0)


def batch_of(rewards: list[list[float]], group: list[int], valid: np.ndarray | None = None) -> TurnRewards:
    values = np.array(rewards, dtype=np.float64)
    return TurnRewards(values, np.ones(values.shape, bool) if valid is None else valid, np.array(group))


def compared(turns: TurnRewards, **estimators: CreditEstimator) -> CreditComparison:
    lengths = np.broadcast_to(np.arange(turns.valid.shape[1]), turns.valid.shape)
    batch = np.zeros(len(turns.group), np.int64)
    return compare_credit(turns, estimators, batch=batch, gamma=0.85, reply_lengths=lengths)


def test_size_and_spikes_of_an_advantage() -> None:
    # |A| = 3, 1 | 0, 0: sum 4, squares 10, V = 4: rms sqrt(2.5); effective (4^2 / 10) / 4 = 0.4.
    one = compared(batch_of([[3, -1], [0, 0]], [0, 1]), a=AsEarned()).measures[0]
    assert one.rms == pytest.approx(math.sqrt(2.5))
    assert one.largest == pytest.approx(3 / math.sqrt(2.5))
    assert one.top_fraction == pytest.approx(3 / 4)  # the top 1 % of four turns is one turn
    assert one.effective_fraction == pytest.approx(0.4)
    assert (one.zero_fraction, one.silent_groups) == (0.5, 1)
    # Groups have rms sqrt(5) and 0, the median of two is their mean: sqrt(5) / (sqrt(5) / 2) = 2.
    assert one.group_spike == pytest.approx(2.0)


def test_lengths_correlate_with_what_they_get() -> None:
    # Mean A is 2 for the dialogue of one turn and 5 for that of two; A grows with the turn's reply, 0 or 1.
    valid = np.array([[True, False], [True, True]])
    one = compared(batch_of([[2, 99], [2, 8]], [0, 0], valid), a=AsEarned()).measures[0]
    assert one.dialogue_length_correlation == pytest.approx(1.0)
    assert one.reply_length_correlation == pytest.approx(1.0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_both_terms_make_up_the_whole_advantage(seed: int, alpha: float) -> None:
    rewards = np.random.default_rng(seed).normal(size=(4, 3))
    turns = TurnRewards(rewards, np.ones((4, 3), bool), np.zeros(4, np.int64))
    found = compared(turns, mica=Mica(alpha=alpha), mixed=LambdaReturns(alpha=alpha, group_lambda=0.3))
    for one in found.measures:
        assert one.turn_share + one.group_share == pytest.approx(1.0)


def test_shares_are_defined_for_two_terms_alone() -> None:
    turns = batch_of([[1, 0], [0, 2]], [0, 0])
    turn, group, grpo, by_turn = compared(
        turns, turn=Mica(alpha=1), group=Mica(alpha=0), grpo=Grpo(), by_turn=Mica(lone_turn="group")
    ).measures
    assert (turn.turn_share, group.group_share) == (pytest.approx(1.0), pytest.approx(1.0))
    assert math.isnan(grpo.turn_share) and math.isnan(by_turn.turn_share)


def test_estimators_are_compared_by_value_and_by_rank() -> None:
    class Cubed:
        def __call__(self, turns: TurnRewards) -> np.ndarray:
            return turns.rewards**3

    turns = batch_of([[-2, 0], [1, 1]], [0, 0])
    # Mean ranks of -2, 0, 1, 1 are 1, 2, 3.5, 3.5; cubes keep them and negation reverses them.
    found = compared(turns, a=AsEarned(), cubed=Cubed(), minus=AsEarned(-5), constant=AsEarned(0))
    np.testing.assert_allclose(found.rank[0], [1, 1, -1, np.nan])
    # A = -2, 0, 1, 1 and -8, 0, 1, 1: means 0 and -1.5; 18 / sqrt(6 * (66 - 9)) = 0.9733.
    np.testing.assert_allclose(found.pearson[0], [1, 18 / math.sqrt(6 * 57), -1, np.nan])


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    np.testing.assert_allclose(mean_ranks(np.array([10.0, 20.0, 20.0, 5.0])), [2, 3.5, 3.5, 1])


def test_mean_by_turn_counts_only_who_reaches_the_turn() -> None:
    valid = np.array([[True, True], [True, False]])
    found = compared(batch_of([[1, 2], [3, 99]], [0, 0], valid), a=AsEarned())
    rms = math.sqrt((1 + 4 + 9) / 3)
    np.testing.assert_allclose(found.mean_by_turn, [[2 / rms, 2 / rms]])
    np.testing.assert_allclose(found.rms_by_turn, [[math.sqrt(5) / rms, 2 / rms]])


def test_disagreement_is_blind_to_scale() -> None:
    turns = batch_of([[1, -1], [2, 0]], [0, 0])
    np.testing.assert_allclose(compared(turns, a=AsEarned(), b=AsEarned(7)).disagreement, 0, atol=1e-12)
    # Against its negative: half the distance of A / rms and -A / rms, |A| / rms, averaged over turns.
    rms = math.sqrt(6 / 4)
    found = compared(turns, a=AsEarned(), b=AsEarned(-1))
    np.testing.assert_allclose(found.disagreement, [1 / rms, 1 / rms])


def test_groups_without_a_difference_are_counted() -> None:
    # Group 0 earned 3 and 3, group 1 earned 1 and 2, group 2 is one dialogue.
    turns = batch_of([[1, 2], [2, 1], [1, 0], [1, 1], [5, 5]], [0, 0, 1, 1, 2])
    found = compared(turns, grpo=Grpo())
    assert (found.constant_groups, found.lone_groups) == (1, 1)
    assert found.measures[0].silent_groups == 2


def test_survivors_by_turn() -> None:
    # Group 0 keeps both dialogues for two turns, group 1 has one left at the second.
    valid = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0]], dtype=bool)
    survivors = count_survivors(TurnRewards(np.zeros((4, 3)), valid, np.array([7, 7, 3, 3])))
    np.testing.assert_array_equal(survivors.dialogues, [4, 3, 1])
    np.testing.assert_array_equal(survivors.groups, [2, 2, 1])
    np.testing.assert_array_equal(survivors.lone, [0, 1, 1])


def test_every_batch_is_credited_by_itself() -> None:
    # Whitened over its own two dialogues, each batch gives 1 and -1; whitened over all four, it would not.
    turns = batch_of([[1], [0], [100], [50]], [0, 0, 1, 1])
    found = compare_credit(
        turns,
        {"whole": ReinforcePlusPlus()},
        batch=np.array([0, 0, 1, 1]),
        gamma=0.85,
        reply_lengths=np.full((4, 1), np.nan),
    )
    np.testing.assert_allclose(found.advantages[0, :, 0], [1, -1, 1, -1], atol=1e-4)
    assert math.isnan(found.measures[0].reply_length_correlation)


def test_outlier_attains_samuelsons_bound() -> None:
    # 0, 0, 9: mean 3, sample deviation sqrt(27), z = 6 / sqrt(27) = 2 / sqrt(3) = (n - 1) / sqrt(n).
    bound = spike_bound(np.array([[0.0, 0.0, 9.0]]), np.ones((1, 3), bool), np.zeros((1, 3), np.int64))
    np.testing.assert_allclose(bound.bounds, [2 / math.sqrt(3)])
    np.testing.assert_allclose(bound.largest, bound.bounds, rtol=1e-5)  # EPS beside the deviation


def test_bands_leave_out_what_was_not_judged() -> None:
    idr = np.full((2, 12), np.nan)
    idr[0, :2], idr[0, 11], idr[1, 0] = [1.0, 3.0], -2.0, 7.0
    first, second, third = band_earnings(idr, ["one", "two"])["one"]
    assert (first.mean, first.deviation, first.num_turns) == (2.0, 1.0, 2)
    assert math.isnan(second.mean) and third.mean == -2.0


@pytest.fixture(scope="module")
def recorded(benchmark_data: Path) -> RecordedTurns:
    return read_recorded_turns(sorted((benchmark_data / "empa" / "recorded_runs").glob("*.jsonl")))


def test_recorded_policies_earn_per_turn_what_is_known_of_them(recorded: RecordedTurns) -> None:
    earned = band_earnings(recorded.idr, [dialogue.model for dialogue in recorded.dialogues])
    for model, means in {
        "qwen3-8b": (-1.6, -3.6, -4.4),
        "gpt-4o": (-0.3, -1.3, -1.2),
        "gemini-2.5-pro": (1.3, 1.6, 1.2),
    }.items():
        # 0.05: published with one decimal.
        assert [band.mean for band in earned[model]] == pytest.approx(means, abs=0.05)


def test_recorded_rewards_stay_below_samuelsons_bound(recorded: RecordedTurns) -> None:
    lengths = recorded.reply_lengths[0]
    found = compare_credit(
        recorded.turns, {"mica": Mica()}, batch=recorded.batch, gamma=0.85, reply_lengths=lengths
    )
    for bound in (found.turn_bound, found.group_bound):
        assert (bound.largest <= bound.bounds + 1e-9).all()
    # Four dialogues per case: the bound of returns at one turn is 1.5; rewards over a whole case exceed 3.
    assert 1.49 < found.turn_bound.largest.max() <= 1.5
    assert 3 < found.group_bound.largest.max() < found.group_bound.bounds.max()
    assert found.measures[0].turn_share + found.measures[0].group_share == pytest.approx(1.0)
    assert len(credit_tables(recorded, found)) == 6
    assert len(credit_facts(recorded, found)) == 4
    assert credit_record(recorded, found)["lone_groups"] == 0
