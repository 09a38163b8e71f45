"""Distances from people in units of people, on users whose lengths are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mica_ray.recordings.user_messages import UserDialogue, UserMessages, read_user_messages
from mica_ray.simulators import comparison
from mica_ray.simulators.comparison import (
    ComparisonError,
    MeasureGap,
    SimulatorQuality,
    measure_users,
    turn_means,
)

compare_users = partial(comparison.compare_users, repeats=100)
"""A quarter of the usual draws: faster, and a little less precise."""
CHINESE = "我真的好累"
ENGLISH = "so"
"""A function word, so that the language is known."""


def users(lengths: Sequence[Sequence[int]], *, name: str = "people", word: str = ENGLISH) -> UserMessages:
    """Return dialogues whose messages have so many words."""
    dialogues = [
        UserDialogue(f"d{number}", tuple(" ".join([word] * length) for length in row))
        for number, row in enumerate(lengths)
    ]
    return UserMessages(name, tuple(dialogues), 0)


def random_users(seed: int, count: int, *, mean: float, name: str = "people") -> UserMessages:
    generator = np.random.default_rng(seed)
    return users([(1 + generator.poisson(mean, size=6)).tolist() for _ in range(count)], name=name)


def length_gap(quality: SimulatorQuality) -> MeasureGap:
    return quality.simulated[0].gaps[0]


def test_distance_is_the_shift_of_the_lengths_and_the_yardstick_that_of_two_halves() -> None:
    # Half of the people write 2 words, half 4. A simulated user writes 7: 5 words from one, 3 from the other.
    people = users([[2], [4]] * 10)
    gap = length_gap(compare_users(people, [users([[7]] * 10, name="bots")]))
    assert (gap.people.estimate, gap.simulated.estimate, gap.num_drawn) == (3, 7, 10)
    assert gap.distance == pytest.approx(4, abs=0.1)
    # A half with a of 10 at 2 words is |2 a - 10| / 10 * 2 from the other one: 0.4 E|a - 5|, a hypergeometric
    # with standard deviation sqrt(10 * 1/4 * 10/19) = 1.147, mean absolute deviation 0.93.
    assert gap.yardstick == pytest.approx(0.37, abs=0.04)
    assert gap.ratio.estimate == pytest.approx(gap.distance / gap.yardstick)
    assert gap.differs


@pytest.mark.parametrize("count", [10, 60])
def test_users_like_people_have_ratio_one_however_many_there_are(count: int) -> None:
    people, like = random_users(0, 60, mean=8), random_users(1, count, mean=8, name="like")
    gap = length_gap(compare_users(people, [like]))
    assert gap.num_drawn == min(30, count)
    assert gap.people_ratio.estimate == pytest.approx(1)
    assert gap.ratio.estimate == pytest.approx(1, abs=0.45)
    assert not gap.differs
    longer = length_gap(compare_users(people, [random_users(2, count, mean=12, name="longer")]))
    assert longer.ratio.estimate > 2 and longer.differs


def test_long_dialogue_weighs_as_much_as_a_short_one() -> None:
    # Mean over dialogues of 1 and 9 is 5; over messages it would be (1 + 3 * 9) / 4 = 7.
    people = users([[1], [9, 9, 9]] * 6)
    quality = compare_users(people, [users([[1], [9]] * 6, name="bots")], num_turns=3)
    assert length_gap(quality).people.estimate == 5
    # Every value is in both sets, equally often by dialogue.
    assert length_gap(quality).ratio.estimate == pytest.approx(1, abs=0.3)


def test_messages_beyond_the_smallest_median_are_not_compared() -> None:
    people = users([[2, 2, 2], [2, 2], [2]] * 4)
    quality = compare_users(people, [users([[2, 2, 50]] * 6, name="bots")])
    assert quality.num_turns == 2
    assert length_gap(quality).simulated.estimate == 2
    assert compare_users(people, [users([[2, 2, 50]] * 6, name="bots")], num_turns=3).num_turns == 3


def test_people_without_variation_are_infinitely_far_from_anything_else() -> None:
    people = users([[3]] * 10)
    assert length_gap(compare_users(people, [users([[3]] * 5)])).ratio.estimate == 1
    other = length_gap(compare_users(people, [users([[4]] * 5)]))
    assert math.isinf(other.ratio.estimate) and other.differs


def test_measure_that_few_messages_have_is_not_compared() -> None:
    # No message has 50 words before it, so no window of the moving ratio.
    gaps = compare_users(users([[3, 2]] * 10), [users([[3, 2]] * 10)]).simulated[0].gaps
    diversity = next(gap for gap in gaps if gap.measure.key == "diversity")
    assert (diversity.num_people, diversity.num_drawn) == (0, 0)
    assert math.isnan(diversity.ratio.estimate) and not diversity.differs


@pytest.mark.parametrize(("people", "bots", "problem"), [(7, 9, "7 dialogues with"), (8, 3, "3 simulated")])
def test_too_few_dialogues_are_refused(people: int, bots: int, problem: str) -> None:
    with pytest.raises(ComparisonError, match=problem):
        compare_users(users([[2]] * people), [users([[2]] * bots, name="bots")])


def test_two_sets_of_one_name_are_refused() -> None:
    with pytest.raises(ComparisonError, match="Two simulated sets have the name bots"):
        compare_users(users([[2]] * 8), [users([[2]] * 4, name="bots")] * 2)


def test_fewest_dialogues_are_compared() -> None:
    assert length_gap(compare_users(users([[2]] * 8), [users([[2]] * 4)])).num_drawn == 4


def test_sets_in_different_languages_are_refused_and_marked() -> None:
    people, bots = users([[2]] * 10), users([[2]] * 10, name="bots", word=CHINESE)
    with pytest.raises(ComparisonError, match=r"people is in language en and bots in zh: .* not comparable"):
        compare_users(people, [bots])
    assert not compare_users(people, [bots], across_languages=True).simulated[0].is_comparable
    assert compare_users(people, [people], across_languages=True).simulated[0].is_comparable


def test_dialogues_in_another_language_than_most_are_left_out_and_counted() -> None:
    mixed = UserMessages("mixed", (*users([[2]] * 3).dialogues, *users([[2]], word=CHINESE).dialogues), 0)
    found = measure_users(mixed)
    assert (found.language, len(found.values), found.num_other_language) == ("en", 3, 1)


def test_unknown_language_is_refused() -> None:
    with pytest.raises(ComparisonError, match="3 of 3 dialogues are neither in English nor in Chinese"):
        measure_users(users([[2]] * 3, word="travail"))


def test_means_by_message_need_five_dialogues() -> None:
    measured = measure_users(users([[1, 3], [3, 5], [5, 7], [7, 9], [9]]))
    means, halves = turn_means(measured, 0)
    # 1, 3, 5, 7, 9: mean 5, standard deviation sqrt(40 / 4) = 3.162, error 1.414.
    assert means[0] == 5 and halves[0] == pytest.approx(1.96 * 1.4142, abs=1e-3)
    assert np.isnan(means[1])  # Four dialogues.


def test_same_seed_draws_the_same_halves() -> None:
    people, bots = random_users(0, 20, mean=5), random_users(1, 10, mean=5, name="bots")
    first, second = (length_gap(compare_users(people, [bots], seed=3)) for _ in range(2))
    assert first == second
    assert length_gap(compare_users(people, [bots], seed=4)).distance != first.distance


def test_two_halves_of_real_seekers_are_like_each_other(benchmark_data: Path) -> None:
    test, valid = (
        read_user_messages(benchmark_data / "esconv" / f"{part}.jsonl") for part in ("test", "valid")
    )
    one, two = (replace(users, dialogues=users.dialogues[:80]) for users in (test, valid))
    gaps = compare_users(one, [two]).simulated[0].gaps
    ratios = {gap.measure.key: gap.ratio.estimate for gap in gaps if gap.measure.key != "model_talk"}
    assert all(0.5 < ratio < 2 for ratio in ratios.values()), ratios
