"""The numbers that the figures draw, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mica_ray.evaluation.epm_q import scores_of
from mica_ray.reporting.dialogues.turns import axis_alignments, turn_means
from tests.reporting.dialogues.drawn import drawn

LOST = np.array([True, False])


def test_rewards_and_returns_are_those_of_the_distance() -> None:
    dialogue = drawn()
    np.testing.assert_allclose(dialogue.distances, [4, 1, 1])
    np.testing.assert_allclose(dialogue.turn_rewards, [3, 0])
    # G_2 = 0 and G_1 = 3 + 0.5 * 0.
    np.testing.assert_allclose(dialogue.discounted_returns(0.5), [3, 0])


def test_recorded_rewards_go_before_those_of_the_distance() -> None:
    dialogue = drawn(rewards=np.array([1.0, -2.0]))
    # G_1 = 1 + 0.5 * -2.
    np.testing.assert_allclose(dialogue.discounted_returns(0.5), [0, -2])


def test_turn_without_a_judgement_is_no_number() -> None:
    dialogue = drawn(judged=LOST)
    np.testing.assert_array_equal(np.isnan(dialogue.turn_rewards), [False, True])
    np.testing.assert_array_equal(np.isnan(dialogue.discounted_returns(1.0)), [False, True])
    np.testing.assert_array_equal(np.isnan(axis_alignments(dialogue)[:, 0]), [False, True])


def test_parts_of_the_alignment_add_up_to_the_cosine() -> None:
    # v* = (3, 4, 0) / 5 and v = (1, 0, 0): the cosine is 0.6, all of it on C. No move at all: 0.
    dialogue = drawn(path=((-3, -4, 0), (-2, -4, 0), (-2, -4, 0)))
    np.testing.assert_allclose(axis_alignments(dialogue), [[0.6, 0, 0], [0, 0, 0]])


def test_lost_turns_enter_the_score_of_published_runs_alone() -> None:
    own, published = scores_of([drawn(judged=LOST), drawn(judged=LOST, form="run")])
    assert (own.num_turns, published.num_turns) == (1, 2)
    assert scores_of([drawn(judged=np.zeros(2, bool))]) == []
    assert scores_of([drawn(path=((-1, 0, 0), (0, 0, 0)))]) == []  # The start is inside the zone.


def test_mean_of_a_turn_is_over_the_dialogues_that_reached_it() -> None:
    rows = [np.array([1.0, 2.0, 9.0]), np.array([3.0, np.nan]), np.array([5.0, 6.0])]
    turns, mean, deviation, found = turn_means(rows, fewest=2)
    # Turn 1: (1 + 3 + 5) / 3. Turn 2: (2 + 6) / 2, deviation 2. Turn 3 has one dialogue and is not drawn.
    np.testing.assert_array_equal(turns, [1, 2])
    np.testing.assert_allclose(mean, [3, 4])
    np.testing.assert_allclose(deviation[1], 2)
    np.testing.assert_array_equal(found, [3, 2])


def test_one_dialogue_alone_is_drawn_whole() -> None:
    assert turn_means([np.array([1.0, 2.0])], fewest=5)[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"states": np.ones(3)}, "states must be"),
        ({"progress": np.zeros((3, 3))}, "progress must be"),
        ({"judged": np.ones(3, bool)}, "judged must be"),
        ({"rewards": np.zeros(3)}, "rewards must be"),
        ({"path": ((np.nan, 0.0, 0.0), (0.0, 0.0, 0.0))}, "finite"),
    ],
)
def test_arrays_that_do_not_match_the_states_are_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        drawn(**changes)  # type: ignore[arg-type]
