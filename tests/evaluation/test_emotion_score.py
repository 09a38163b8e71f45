"""The score of recorded SAGE dialogues, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mica_ray.evaluation.emotion_score import rise_auc_of_previous, score_emotions
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.statistics import Interval, bootstrap_mean, wilson
from tests.recordings.made_dialogues import make_dialogue


def felt(
    *emotions: float, final: float | None = None, task: str = "", notes: tuple[str, ...] = ()
) -> RecordedDialogue:
    """A dialogue with these emotion values, the opening first."""
    return make_dialogue(
        [[0.0, 0.0, 0.0]] * len(emotions),
        form="emotion",
        emotions=np.array(emotions),
        final_emotion=emotions[-1] if final is None else final,
        category=task,
        notes=notes,
    )


RECORDS = [
    felt(40, 60, 100, task="be heard", notes=("a, message 2: odd",)),
    felt(40, 10, task="advice"),
    felt(40, 25, 9.9, task="be heard"),
    felt(50),
]


def test_score_by_hand() -> None:
    score = score_emotions(RECORDS, seed=3)
    # Finals 100, 10, 9.9 and 50: one at the top, and one below 10, which 10 itself is not.
    assert (score.successes, score.failures, score.num_dialogues) == (1, 1, 4)
    assert score.success_fraction == wilson(1, 4) and score.failure_fraction == wilson(1, 4)
    assert score.final_emotion == bootstrap_mean([100.0, 10.0, 9.9, 50.0], seed=3)
    # Mean changes 30, -30 and -15.05; the dialogue without a turn has none. Turns 2, 1, 2 and 0.
    assert score.change_per_turn == bootstrap_mean([30.0, -30.0, -15.05], seed=3)
    assert score.num_turns == 1.25
    assert score.notes == ("a, message 2: odd",)


def test_tasks_have_scores_of_their_own() -> None:
    by_task = score_emotions(RECORDS, seed=3).by_task
    assert by_task == {
        "advice": Interval(10.0, 10.0, 10.0),
        "be heard": bootstrap_mean([100.0, 9.9], seed=3),
    }


@pytest.mark.parametrize(
    ("final", "successes", "failures"),
    [(99.9, 0, 0), (100.0, 1, 0), (10.0, 0, 0), (9.9, 0, 1), (0.0, 0, 1)],
)
def test_success_starts_at_100_and_failure_ends_at_10(final: float, successes: int, failures: int) -> None:
    score = score_emotions([felt(40, final)], seed=0)
    assert (score.successes, score.failures) == (successes, failures)


def test_stated_final_emotion_counts_and_not_the_last_rating() -> None:
    score = score_emotions([felt(40, 100, final=30)], seed=0)
    assert (score.final_emotion.estimate, score.successes) == (30.0, 0)


def test_auc_counts_pairs_of_a_rising_and_another_turn() -> None:
    # Before rising turns: 40, 60 and 20. Before the others: 60 and 20, where one turn changes nothing.
    # Of six pairs 40 > 20, 60 > 20 and two ties, 60 and 20: (2 + 2 / 2) / 6.
    # A rise of half a point is a rise.
    paths = [np.array([40.0, 60, 60.5]), np.array([60.0, 20, 30]), np.array([20.0, 20])]
    assert rise_auc_of_previous(paths) == 0.5
    assert rise_auc_of_previous([np.array([10.0, 20]), np.array([90.0, 80])]) == 0.0
    assert rise_auc_of_previous([np.array([10.0, 5]), np.array([90.0, 95])]) == 1.0
    assert score_emotions([felt(10, 5), felt(90, 95)], seed=0).rise_auc == 1.0


@pytest.mark.parametrize("path", [[10.0, 20, 30], [30.0, 20, 20]])
def test_auc_needs_both_kinds_of_turn(path: list[float]) -> None:
    assert math.isnan(rise_auc_of_previous([np.array(path)]))
