"""A judge is usable only if every requirement is met with certainty."""

from __future__ import annotations

from pathlib import Path

import pytest

from mica_ray.judges.card.conclusion import MAX_SHIFT, at_least, at_most, conclude, within
from mica_ray.statistics import Interval
from tests.judges.card.scripted_judges import Broken, Noisy, OrderBiased, Scorer, Steady
from tests.judges.card.talks import measured


def point(value: float) -> Interval:
    return Interval(value, value, value)


@pytest.mark.parametrize(("value", "state"), [(0.6, "failed"), (0.7, "passed"), (0.8, "passed")])
def test_a_lower_limit_is_included(value: float, state: str) -> None:
    assert at_least("x", 0.7, point(value)).state == state


@pytest.mark.parametrize(("value", "state"), [(0.6, "passed"), (0.7, "passed"), (0.8, "failed")])
def test_an_upper_limit_is_included(value: float, state: str) -> None:
    assert at_most("x", 0.7, point(value)).state == state


@pytest.mark.parametrize(
    ("value", "state"), [(-0.6, "failed"), (-0.5, "passed"), (0.5, "passed"), (0.6, "failed")]
)
def test_a_shift_is_limited_on_both_sides(value: float, state: str) -> None:
    assert within("x", MAX_SHIFT, point(value)).state == state


def test_an_interval_that_contains_the_limit_decides_nothing() -> None:
    assert at_least("x", 0.7, Interval(0.8, 0.6, 0.9)).state == "undecided"
    assert at_least("x", 0.7, Interval(0.6, 0.5, 0.9)).state == "undecided"
    assert at_least("x", 0.7, Interval(0.6, 0.5, 0.69)).state == "failed"
    assert at_most("x", 0.7, Interval(0.8, 0.71, 0.9)).state == "failed"
    assert within("x", 0.5, Interval(0.0, -0.6, 0.2)).state == "undecided"
    assert within("x", 0.5, Interval(0.7, -0.9, 0.9)).state == "undecided"  # wider than the limits
    assert within("x", 0.5, Interval(-0.7, -0.9, -0.51)).state == "failed"
    assert at_most("x", 0.5, None).state == "not measured"


def states(conclusion: object) -> dict[str, str]:
    return {check.name: check.state for check in conclusion.checks}  # pyright: ignore


async def test_reasons_name_what_failed(tmp_path: Path) -> None:
    found, _, _ = await measured(OrderBiased(), tmp_path)
    conclusion = conclude(found)
    assert conclusion.verdict == "not usable"
    assert states(conclusion)["shift by axis_order"] == "failed"
    assert states(conclusion)["shift by paraphrase"] == "passed"
    assert "shift by axis_order" in conclusion.line and "±0.5" in conclusion.line


async def test_a_judge_that_gives_every_reply_the_same_levels_fails(tmp_path: Path) -> None:
    found, _, _ = await measured(Scorer(), tmp_path, names=["as_is"])
    conclusion = conclude(found)
    assert conclusion.verdict == "not usable"
    # All repeats are equal, so no axis has an alpha, although over all axes it is 1: C differs from A and P.
    assert found.self_agreement is not None and found.self_agreement["all"].alpha_ordinal.estimate == 1
    assert states(conclusion)["agreement with itself (alpha)"] == "failed"
    # The recorded judge distinguishes replies on C, and this one does not.
    assert states(conclusion)["agreement with the recorded judge (alpha)"] == "failed"


async def test_noise_and_invalid_answers_fail(tmp_path: Path) -> None:
    noisy, _, _ = await measured(Noisy(), tmp_path, repeats=4)
    assert states(conclude(noisy))["agreement with itself (alpha)"] == "failed"
    broken, _, _ = await measured(Broken(), tmp_path, repeats=4)
    assert states(conclude(broken))["invalid answers"] == "failed"


async def test_what_was_not_asked_leaves_the_verdict_open(tmp_path: Path) -> None:
    found, _, _ = await measured(Steady(), tmp_path, num=36, names=["as_is"])
    conclusion = conclude(found)
    assert conclusion.verdict == "undecided"
    assert states(conclusion)["points for padding"] == "not measured"
    assert states(conclusion)["agreement with itself (alpha)"] == "passed"
