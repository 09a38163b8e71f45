"""The numbers that the figures draw, computed by hand."""

from __future__ import annotations

import numpy as np

from mica_ray.reporting.dialogues.turns import axis_alignments, turn_means
from tests.reporting.dialogues.drawn import drawn


def test_turn_without_a_judgement_has_no_alignment() -> None:
    dialogue = drawn(judged=np.array([True, False]))
    np.testing.assert_array_equal(np.isnan(axis_alignments(dialogue)[:, 0]), [False, True])


def test_parts_of_the_alignment_add_up_to_the_cosine() -> None:
    # v* = (3, 4, 0) / 5 and v = (1, 0, 0): the cosine is 0.6, all of it on C. No move at all: 0.
    dialogue = drawn(path=((-3, -4, 0), (-2, -4, 0), (-2, -4, 0)))
    np.testing.assert_allclose(axis_alignments(dialogue), [[0.6, 0, 0], [0, 0, 0]])


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
