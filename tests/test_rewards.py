"""Rewards from state paths; the failed judgement that must never become a score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.rewards import Rewards, norm_distance, zone_distance
from mica_ray.types import Judgement, Scenario, State, Status, Stop, Trajectory, Turn

SCENARIO = Scenario(
    id="s1",
    domain="test",
    category="test",
    dominant_axis="A",
    persona="",
    opening="",
    initial_state=(-4.0, -5.0, -1.0),
    stages=(),
    split="train",
)


def dialogue(*deltas: State | None, group: int = 0, stop: Stop = Stop.LIMIT) -> Trajectory:
    state = SCENARIO.initial_state
    turns: list[Turn] = []
    for index, delta in enumerate(deltas):
        if delta is None:
            judgement = Judgement.failed(Status.INVALID, "no JSON")
        else:
            judgement = Judgement(progress=(0, 0, 0), regress=(0, 0, 0), delta=delta)
            state = (state[0] + delta[0], state[1] + delta[1], state[2] + delta[2])
        turns.append(Turn(index=index, user="", reply="", judgement=judgement, state_after=state))
    return Trajectory(scenario=SCENARIO, group=group, sample=0, turns=tuple(turns), stop=stop)


def test_zone_distance_forgives_one_point_per_axis() -> None:
    # Deficits beyond 1: (3, 4, 0) -> 5.  An axis at +9 or at -1 costs nothing.
    assert zone_distance(np.array([-4.0, -5.0, -1.0])) == pytest.approx(5.0)
    assert zone_distance(np.array([9.0, -1.0, 0.0])) == 0.0
    assert zone_distance(np.array([-3.0, -4.0, 0.0]), eps=0.0) == pytest.approx(5.0)


def test_norm_distance_counts_surplus() -> None:
    np.testing.assert_allclose(norm_distance(np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])), [5.0, 0.0])


def test_distances_run_over_the_last_axis_and_are_float64() -> None:
    # (3, 4, 0) beyond the tolerated point, and ||(-2, 3, 6)|| = 7; one state, a path, and paths of a batch.
    for measure, state, expected in ((zone_distance, (-4, -5, 2), 5.0), (norm_distance, (-2, 3, 6), 7.0)):
        for shape in ((3,), (2, 3), (2, 4, 3)):
            states = np.broadcast_to(np.array(state, dtype=np.float32), shape)
            np.testing.assert_array_equal(measure(states), np.full(shape[:-1], expected))
            assert measure(states).dtype == np.float64


def test_idr_is_the_distance_walked_towards_the_zone() -> None:
    # Zone distance 5 -> (0, 4, 0) = 4 -> (0, 0, 0) = 0: rewards 1 and 4.
    turns = Rewards()([dialogue((3.0, 0.0, 0.0), (0.0, 4.0, 0.0))])
    np.testing.assert_allclose(turns.rewards, [[1.0, 4.0]])
    assert turns.valid.all()


def test_states_are_those_the_replies_were_given_in() -> None:
    # P_0 and P_1; no reply was given in the last state.
    path = dialogue((3.0, 0.0, 0.0), (0.0, 4.0, 0.0)).states
    states = Rewards()([dialogue((3.0, 0.0, 0.0), (0.0, 4.0, 0.0))]).states
    assert states is not None
    np.testing.assert_array_equal(states[0], path[:-1])


def test_adr_is_minus_the_distance_left() -> None:
    turns = Rewards(kind="adr")([dialogue((3.0, 0.0, 0.0), (0.0, 4.0, 0.0))])
    np.testing.assert_allclose(turns.rewards, [[-4.0, 0.0]])


def test_norm_idr_uses_the_euclidean_distance() -> None:
    # ||(-4, -5, -1)|| = sqrt(42); after (+4, +5, +1) the origin.
    turns = Rewards(distance="norm")([dialogue((4.0, 5.0, 1.0))])
    np.testing.assert_allclose(turns.rewards, [[np.sqrt(42.0)]])


def test_sum_adds_the_increments_of_the_axes() -> None:
    turns = Rewards(kind="sum")([dialogue((3.0, -2.0, 1.0), (0.0, 0.0, -5.0))])
    np.testing.assert_allclose(turns.rewards, [[2.0, -5.0]])


def test_potential_is_the_discounted_rise_of_the_potential() -> None:
    # Phi(origin) = 1; Phi(P_0) = 9 / (9 + sqrt(42)); gamma 0.5.
    turns = Rewards(kind="potential", gamma=0.5)([dialogue((4.0, 5.0, 1.0))])
    np.testing.assert_allclose(turns.rewards, [[0.5 - 9.0 / (9.0 + np.sqrt(42.0))]])


def test_potential_of_a_longer_path() -> None:
    # Norms 9, 4.5, 0 at scale 4.5: Phi = 1/3, 1/2, 1. With gamma 0.5: 1/4 - 1/3 and 1/2 - 1/2.
    path = np.array([[-9.0, 0.0, 0.0], [0.0, -4.5, 0.0], [0.0, 0.0, 0.0]])
    rewards = Rewards(kind="potential", gamma=0.5, scale=4.5).of_path(path)
    np.testing.assert_allclose(rewards, [1 / 4 - 1 / 3, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("field", "value"), [("gamma", 1.0), ("gamma", 1e-9), ("scale", 1e-9), ("scale", 1.0)]
)
def test_value_at_the_edge_of_its_range_is_accepted(field: str, value: float) -> None:
    assert getattr(Rewards(kind="potential", **{field: value}), field) == value  # pyright: ignore[reportArgumentType]


def test_failed_judgement_masks_its_turn_and_does_not_move_the_state() -> None:
    # Turn 1 failed; turn 2 is measured from the state after turn 0: distance 4 -> 0.
    turns = Rewards()([dialogue((3.0, 0.0, 0.0), None, (0.0, 4.0, 0.0))])
    np.testing.assert_array_equal(turns.valid, [[True, False, True]])
    np.testing.assert_allclose(turns.rewards[turns.valid], [1.0, 4.0])


def test_failed_judgement_may_take_the_mean_of_its_dialogue() -> None:
    # Valid rewards 1 and 4 -> 2.5 in the hole.
    turns = Rewards(missing="dialogue_mean")([dialogue((3.0, 0.0, 0.0), None, (0.0, 4.0, 0.0))])
    assert turns.valid.all()
    np.testing.assert_allclose(turns.rewards, [[1.0, 2.5, 4.0]])


def test_mean_of_a_dialogue_is_its_own_and_needs_one_judged_turn() -> None:
    # Dialogue 0 has the single reward 1; dialogue 1 has 4 (zone distance 5 to 1, by -4 on A).
    batch = [dialogue((3.0, 0.0, 0.0), None), dialogue(None, (3.0, 3.0, 0.0))]
    turns = Rewards(missing="dialogue_mean")(batch)
    np.testing.assert_allclose(turns.rewards, [[1.0, 1.0], [4.0, 4.0]])
    assert turns.valid.all()


def test_dialogue_without_any_judgement_has_no_mean_to_take() -> None:
    turns = Rewards(missing="dialogue_mean")([dialogue(None, None), dialogue((3.0, 0.0, 0.0))])
    np.testing.assert_array_equal(turns.valid, [[False, False], [True, False]])


@pytest.mark.parametrize("missing", ["mask", "dialogue_mean"])
def test_failed_dialogue_says_nothing(missing: str) -> None:
    failed = dialogue((3.0, 0.0, 0.0), None, stop=Stop.FAILED)
    turns = Rewards(missing=missing)([failed, dialogue((3.0, 0.0, 0.0))])  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(turns.valid, [[False, False], [True, False]])


def test_turn_is_placed_by_its_index_and_group_is_kept() -> None:
    played = dialogue((3.0, 0.0, 0.0), group=7)
    late = replace(played, turns=(replace(played.turns[0], index=2),))
    turns = Rewards()([late, dialogue(group=3)])
    np.testing.assert_array_equal(turns.valid, [[False, False, True], [False, False, False]])
    np.testing.assert_array_equal(turns.group, [7, 3])


def test_batch_without_turns_has_no_columns() -> None:
    turns = Rewards()([dialogue(), dialogue()])
    assert turns.rewards.shape == (2, 0)


def test_batch_without_dialogues_keeps_its_types() -> None:
    turns = Rewards()([])
    assert (turns.rewards.shape, turns.group.shape, turns.group.dtype) == ((0, 0), (0,), np.int64)


def test_repeated_turn_index_is_refused() -> None:
    played = dialogue((1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    twice = replace(played, turns=(played.turns[0], played.turns[0]))
    with pytest.raises(ValueError, match=r"scenario s1.*increase"):
        Rewards()([twice])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "idx"),
        ("distance", "zones"),
        ("missing", "zero"),
        ("gamma", 0.0),
        ("gamma", 1.5),
        ("scale", 0.0),
    ],
)
def test_unknown_reward_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*{value}"):
        Rewards(**{field: value})  # pyright: ignore[reportArgumentType]


steps = st.tuples(*[st.integers(-8, 4).map(float)] * 3)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.one_of(st.none(), steps), min_size=1, max_size=6), st.sampled_from(["zone", "norm"]))
def test_idr_telescopes_even_through_failed_judgements(deltas: list[State | None], distance: str) -> None:
    # sum_t r_t = D_0 - D_T over the judged turns, for a failed judgement does not move the state.
    played = dialogue(*deltas)
    turns = Rewards(distance=distance)([played])  # pyright: ignore[reportArgumentType]
    measure = zone_distance if distance == "zone" else norm_distance
    path = measure(played.states)
    np.testing.assert_allclose(turns.rewards[turns.valid].sum(), path[0] - path[-1], atol=1e-9)
