"""A recorded dialogue's rewards, returns and score, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mica_ray.evaluation.epm_q import scores_of
from tests.recordings.made_dialogues import make_dialogue

# Zone distances 4, 1, 1: sqrt of squared excess over -1; the last move is along A, from 0 to -1.
PATH = ((-5.0, 0.0, 0.0), (-2.0, 0.0, 0.0), (-2.0, -1.0, 0.0))
SECOND_UNJUDGED = np.array([True, False])


def test_rewards_and_returns_are_those_of_the_distance() -> None:
    dialogue = make_dialogue(PATH)
    np.testing.assert_allclose(dialogue.distances, [4, 1, 1])
    np.testing.assert_allclose(dialogue.turn_rewards, [3, 0])
    # G_2 = 0 and G_1 = 3 + 0.5 * 0.
    np.testing.assert_allclose(dialogue.discounted_returns(0.5), [3, 0])


def test_recorded_rewards_go_before_those_of_the_distance() -> None:
    dialogue = make_dialogue(PATH, rewards=np.array([1.0, -2.0]))
    # G_1 = 1 + 0.5 * -2.
    np.testing.assert_allclose(dialogue.discounted_returns(0.5), [0, -2])


def test_turn_without_a_judgement_has_no_reward_and_no_return() -> None:
    dialogue = make_dialogue(PATH, judged=SECOND_UNJUDGED)
    np.testing.assert_array_equal(np.isnan(dialogue.turn_rewards), [False, True])
    np.testing.assert_array_equal(np.isnan(dialogue.discounted_returns(1.0)), [False, True])


def test_recorded_minus_zero_is_zero() -> None:
    # A turn that moves nothing is logged as -0.0, which would be printed with its sign.
    dialogue = make_dialogue(PATH, rewards=np.array([1.0, -0.0]))
    assert f"{dialogue.turn_rewards[1]:+.1f}" == "+0.0"


def test_only_published_runs_score_turns_without_a_judgement() -> None:
    own, published = scores_of(
        [make_dialogue(PATH, judged=SECOND_UNJUDGED), make_dialogue(PATH, judged=SECOND_UNJUDGED, form="run")]
    )
    assert (own.num_turns, published.num_turns) == (1, 2)
    assert scores_of([make_dialogue(PATH, judged=np.zeros(2, bool))]) == []
    assert scores_of([make_dialogue(((-1, 0, 0), (0, 0, 0)))]) == []  # The start is inside the zone.


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"states": np.ones(3)}, "states must be"),
        ({"progress": np.zeros((3, 3))}, "progress must be"),
        ({"judged": np.ones(3, bool)}, "judged must be"),
        ({"rewards": np.zeros(3)}, "rewards must be"),
        ({"states": np.full((3, 3), np.nan)}, "finite"),
    ],
)
def test_arrays_that_do_not_match_the_states_are_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make_dialogue(PATH, **changes)
