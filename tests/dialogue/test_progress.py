"""When a dialogue ends, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.dialogue.progress import (
    ProgressRules,
    alignment,
    dynamic_alignment,
    energy_direction,
    energy_increments,
    judge_stop,
)
from mica_ray.types import Stop

# Along one axis everything can be read off: with P_0 = (-10, 0, 0), v* = (1, 0, 0) and dE is the step on C.
RULES = ProgressRules(max_turns=9, check_from=2, tolerance=0.1)


def along_c(*positions: float) -> np.ndarray:
    return np.array([[c, 0.0, 0.0] for c in (-10.0, *positions)])


def test_direction_points_from_the_deficit_to_the_origin() -> None:
    # ||(-3, 0, -4)|| = 5
    np.testing.assert_allclose(energy_direction((-3.0, 0.0, -4.0)), [0.6, 0.0, 0.8])


def test_direction_of_a_user_without_needs_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be the origin"):
        energy_direction((0.0, 0.0, 0.0))


def test_energy_is_the_part_of_each_change_along_the_direction() -> None:
    # v* = (0.6, 0, 0.8); v = (3, 0, 4) gives 5, v = (0, 2, 0) gives 0, v = (-1, 0, 0) gives -0.6.
    states = np.array([[-3.0, 0, -4], [0, 0, 0], [0, 2, 0], [-1, 2, 0]])
    np.testing.assert_allclose(energy_increments(states), [5.0, 0.0, -0.6])
    np.testing.assert_allclose(alignment(states), [1.0, 0.0, -0.6])


def test_cosine_of_a_short_move_is_that_of_a_long_one() -> None:
    # v* = (0.6, 0, 0.8); a move of 0.5 along v*, then one of 0.1 against it.
    states = np.array([[-3.0, 0, -4], [-2.7, 0, -3.6], [-2.76, 0, -3.68]])
    np.testing.assert_allclose(alignment(states), [1.0, -1.0])


def test_dynamic_direction_starts_at_the_state_before_the_turn() -> None:
    # (-3, -4, 0) -> (-3, 0, 0) -> (0, 0, 0): the first move has cosine 4/5 with (3, 4, 0)/5, the second one
    # 3/5; but seen from (-3, 0, 0) the second move is straight. A third move starts at the origin.
    path = np.array([[-3.0, -4.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(alignment(path), [0.8, 0.6, 0.6])
    np.testing.assert_allclose(dynamic_alignment(path), [0.8, 1.0, 0.0])


def test_dynamic_alignment_of_a_step_back_is_negative_and_of_no_step_zero() -> None:
    path = np.array([[-3.0, -4.0, 0.0], [-3.0, -4.0, 0.0], [-6.0, -8.0, 0.0]])
    np.testing.assert_allclose(dynamic_alignment(path), [0.0, -1.0])


def test_states_are_computed_in_float64() -> None:
    states = np.array([[-3.0, 0, -4], [0, 0, 0]], dtype=np.float32)
    for computed in (energy_direction(states[0]), energy_increments(states), alignment(states)):
        assert computed.dtype == np.float64


def test_turn_that_moved_nothing_has_no_energy_and_no_alignment() -> None:
    states = np.array([[-3.0, 0, -4], [-3, 0, -4]])
    np.testing.assert_array_equal(energy_increments(states), [0.0])
    np.testing.assert_array_equal(alignment(states), [0.0])


paths = st.lists(st.tuples(*[st.integers(-27, 5)] * 3), min_size=2, max_size=12).filter(
    lambda path: any(path[0])
)


@settings(deadline=None, max_examples=60)
@given(path=paths)
def test_energy_telescopes_and_alignment_is_a_cosine(path: list[tuple[int, int, int]]) -> None:
    states = np.array(path, dtype=float)
    total = (states[-1] - states[0]) @ energy_direction(states[0])
    np.testing.assert_allclose(energy_increments(states).sum(), total, atol=1e-9)
    assert (np.abs(alignment(states)) <= 1).all()


@settings(deadline=None, max_examples=60)
@given(path=paths, factor=st.sampled_from([0.5, 2.0, 4.0]))
def test_energy_grows_with_the_unit_and_alignment_does_not(
    path: list[tuple[int, int, int]], factor: float
) -> None:
    states = np.array(path, dtype=float)
    np.testing.assert_allclose(
        energy_increments(factor * states), factor * energy_increments(states), atol=1e-9
    )
    np.testing.assert_allclose(alignment(factor * states), alignment(states), atol=1e-9)


def test_success_needs_the_whole_deficit_as_energy() -> None:
    # 0.5 short of the origin: within a ||P_0|| = 1, and E = 9.5 is less than ||P_0|| = 10.
    assert judge_stop(along_c(-5, -0.5), RULES) is None
    assert judge_stop(along_c(-5, 0), RULES) is Stop.SUCCESS


@pytest.mark.parametrize(
    ("last", "stop"), [(-1e-6, None), (-5e-10, Stop.SUCCESS), (0.0, Stop.SUCCESS), (1e-6, Stop.SUCCESS)]
)
def test_success_forgives_rounding_and_no_more(last: float, stop: Stop | None) -> None:
    assert judge_stop(along_c(-5, last), RULES) is stop


def test_success_holds_far_across_the_origin() -> None:
    # ||P|| = 8 is not near the origin, P . v* = 8 is across it.
    assert judge_stop(along_c(-5, 8), RULES) is Stop.SUCCESS


def test_side_steps_alone_are_no_success() -> None:
    # Far away on A: E = 4 of 10.
    assert judge_stop(np.array([[-10.0, 0, 0], [-8, 20, 0], [-6, 40, 0]]), RULES) is None


def test_threshold_met_to_the_last_point_is_met_whatever_the_rounding() -> None:
    # v* = (1, 1, 1)/sqrt(3) cannot be written exactly; the user is exactly at the origin.
    path = np.array([[-17.0, -17, -17], [-7, -7, -7], [0, 0, 0]])
    assert judge_stop(path, RULES) is Stop.SUCCESS


def test_nothing_ends_before_the_first_check() -> None:
    assert judge_stop(along_c(0), RULES) is None
    assert judge_stop(along_c(-11, -12, -13, -14, -15), ProgressRules(max_turns=9, check_from=6)) is None


def test_five_turns_backwards_are_a_collapse() -> None:
    assert judge_stop(along_c(-9, -10, -11, -12, -13, -14), RULES) is Stop.COLLAPSE


@pytest.mark.parametrize("last", [-12.9999999999, -13.0, -12.5])
def test_fifth_turn_that_only_rounds_down_is_no_collapse(last: float) -> None:
    # Four steps of -1 from -9 on, then one of 0 or above but for rounding.
    assert judge_stop(along_c(-9, -10, -11, -12, -13, last), RULES) is None
    assert judge_stop(along_c(-9, -10, -11, -12, -13, -13.001), RULES) is Stop.COLLAPSE


def test_collapse_window_of_the_domain_counts() -> None:
    rules = ProgressRules(check_from=1, collapse_window=2)
    assert judge_stop(along_c(-11), rules) is None
    assert judge_stop(along_c(-11, -12), rules) is Stop.COLLAPSE


@pytest.mark.parametrize(("norm", "stop"), [(12.9, None), (13.0, None), (13.001, Stop.COLLAPSE)])
def test_user_gives_up_beyond_the_norm(norm: float, stop: Stop | None) -> None:
    # (5, 12) has the norm 13. Without the rule nothing ends.
    states = np.array([[-10.0, 0, 0], [-9, 0, 0], [-norm * 5 / 13, -norm * 12 / 13, 0]])
    assert judge_stop(states, ProgressRules(check_from=2, give_up_norm=13.0)) is stop
    assert judge_stop(states, ProgressRules(check_from=2)) is None


def test_one_turn_that_holds_still_prevents_the_collapse() -> None:
    assert judge_stop(along_c(-9, -10, -11, -11, -12, -13), RULES) is None


def test_window_longer_than_the_dialogue_is_not_looked_through() -> None:
    assert judge_stop(along_c(-11, -12, -13, -14), RULES) is None


def stalled(*positions: float) -> Stop | None:
    return judge_stop(along_c(*positions), RULES)


def test_slow_slide_that_barely_moves_is_a_stall() -> None:
    # dE: -.5 -.5 -.5 +.1 -.1 -.1 0 -.1: 6 of 8 = 75 % negative, sum -1.7, and no five negative ones in a row.
    # Last five ||P||: 11.4 11.5 11.6 11.6 11.7, deviation 0.10.
    assert stalled(-10.5, -11, -11.5, -11.4, -11.5, -11.6, -11.6, -11.7) is Stop.STALL


def test_slide_with_wide_steps_is_no_stall() -> None:
    # The last five ||P|| run from 13 to 16: deviation 1.0. One dE = 0 keeps it from being a collapse.
    assert stalled(-11, -12, -13, -13, -14, -15, -15, -16) is None


def test_standing_still_is_no_stall() -> None:
    # No dE below 0 at all: a user who does not move is not driven away.
    assert stalled(*[-10.0] * 8) is None


def test_small_slide_with_little_energy_is_no_stall() -> None:
    # 6 of 8 negative and the norms are still, but the sum is -0.6.
    assert stalled(-10.1, -10.2, -10.3, -10.3, -10.4, -10.5, -10.6, -10.6) is None


def swayed(**rules: float) -> Stop | None:
    """A step away and back: ||P|| 11 and 10 (deviation 0.5), dE -1 and 1 (one half negative, sum 0)."""
    fields = {"check_from": 2, "stall_window": 2, "stall_lookback": 2, "stall_deviation": 0.6}
    fields |= {"stall_negative_fraction": 0.4, "stall_energy": 0.1}
    return judge_stop(along_c(-11, -10), ProgressRules(**{**fields, **rules}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "limit", "is_upper"),
    [("stall_deviation", 0.5, True), ("stall_negative_fraction", 0.5, False), ("stall_energy", 0.0, True)],
)
def test_stall_needs_more_than_each_limit(field: str, limit: float, is_upper: bool) -> None:
    step = 0.001 if is_upper else -0.001
    assert swayed(**{field: limit + step}) is Stop.STALL
    assert swayed(**{field: limit}) is None
    assert swayed(**{field: limit - step}) is None


def test_stall_needs_both_windows_filled() -> None:
    assert swayed() is Stop.STALL
    assert swayed(stall_lookback=3) is None
    assert swayed(stall_window=3) is None
    # 6 of 7 turns are negative and sum to -1.7, but seven turns are no lookback of eight.
    assert stalled(-10.5, -11, -11.5, -11.4, -11.5, -11.6, -11.7) is None


def test_dip_of_rounding_is_not_negative() -> None:
    # dE = -1e-10 and 1: no turn is below 0, whatever the last digit.
    states = along_c(-10.0000000001, -10.0)
    rules = ProgressRules(
        check_from=2, stall_window=2, stall_lookback=2, stall_negative_fraction=0.4, stall_energy=0.1
    )
    assert judge_stop(states, rules) is None


def wandered(*positions: float, **rules: int | float | None) -> Stop | None:
    rules = {"check_from": 2, "max_turns": 45, "oscillation_window": 4, "oscillation_distance": 3.0, **rules}
    return judge_stop(along_c(*positions), ProgressRules(**rules))  # type: ignore[arg-type]


def test_return_to_an_earlier_state_is_an_oscillation() -> None:
    # The window of 4 states runs from -10 to -7.5 (2.5 apart), and from -10 to -7 (3 apart, the limit).
    assert wandered(-9, -5, -7.5) is Stop.OSCILLATION
    assert wandered(-9, -5, -7) is None
    assert wandered(-9, -5, -6.5) is None
    # One state further on, the window starts at -9, and -7.5 is 1.5 away.
    assert wandered(-9, -5, -6, -7.5) is Stop.OSCILLATION


def test_oscillation_needs_a_whole_window_and_the_first_check() -> None:
    assert wandered(-9, -10) is None
    assert wandered(-9, -5, -7.5, check_from=4) is None
    assert wandered(-9, -5, -7.5, oscillation_window=5) is None
    assert wandered(-9, -5, -7.5, oscillation_window=None) is None


def test_oscillation_sums_the_distances_of_all_axes() -> None:
    # 1 + 1 + 0.9 = 2.9 and 1 + 1 + 1 = 3, where the Euclidean distances would be 1.68 and 1.73.
    rules = ProgressRules(check_from=2, oscillation_window=3)
    for change, stop in ((0.9, Stop.OSCILLATION), (1.0, None)):
        states = np.array([[-10.0, -10, -10], [-9, -2, -3], [-11, -9, -10 + change]])
        assert judge_stop(states, rules) is stop


def test_empa_looks_back_over_twelve_states() -> None:
    # At turn 12 the window holds P_1 to P_12: P_0 is outside, so its distance of 2 does not count.
    held = [-4.0, *[-9.0, -5.0] * 5, -8.0]
    assert len(held) == 12
    assert judge_stop(along_c(*held), ProgressRules()) is None
    assert judge_stop(along_c(-6.0, *held[1:]), ProgressRules()) is Stop.OSCILLATION


def test_last_turn_is_the_limit_unless_it_succeeds() -> None:
    held = [-10.0] * 8
    assert judge_stop(along_c(*held, -9), RULES) is Stop.LIMIT
    assert judge_stop(along_c(*held, 0), RULES) is Stop.SUCCESS


def test_limit_holds_before_the_first_check() -> None:
    assert judge_stop(along_c(-9, -8), ProgressRules(max_turns=2, check_from=12)) is Stop.LIMIT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_turns", 0),
        ("check_from", 0),
        ("collapse_window", 0),
        ("stall_window", 0),
        ("stall_lookback", 0),
        ("tolerance", 1.5),
        ("tolerance", -0.001),
        ("stall_negative_fraction", 1.001),
        ("stall_negative_fraction", -0.001),
        ("stall_deviation", -1.0),
        ("oscillation_window", 1),
        ("oscillation_distance", -1.0),
    ],
)
def test_impossible_rules_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        ProgressRules(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (field, 1)
            for field in ("max_turns", "check_from", "collapse_window", "stall_window", "stall_lookback")
        ),
        *((field, edge) for field in ("tolerance", "stall_negative_fraction") for edge in (0.0, 1.0)),
        ("stall_deviation", 0.0),
        ("oscillation_window", 2),
        ("oscillation_distance", 0.0),
    ],
)
def test_rule_at_the_edge_of_its_range_is_accepted(field: str, value: float) -> None:
    assert getattr(ProgressRules(**{field: value}), field) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 1, 3)])
def test_states_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"states must be \[T\+1, K\] with P_0 first, got shape \("):
        judge_stop(np.zeros(shape), RULES)
