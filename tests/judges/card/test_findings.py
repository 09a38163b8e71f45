"""Judges with a known error: their cards show exactly this error."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mica_ray.judges.card.presentations import WORDINGS, canaries
from tests.judges.card.scripted_judges import Broken, Flaky, Fooled, Noisy, OrderBiased, Scorer, Steady
from tests.judges.card.talks import NUM_CANARIES, card_of, measured


async def test_a_judge_without_error_agrees_with_itself_and_with_the_record(tmp_path: Path) -> None:
    found, failures, _ = await measured(Steady(), tmp_path)
    assert failures == ()
    assert found.self_agreement is not None and found.with_recorded is not None
    assert found.self_agreement["all"].alpha_ordinal.estimate == 1
    assert found.with_recorded["all"].alpha_ordinal.estimate == 1  # the recorded judge was the same
    assert set(found.noise.sd.values()) == {0}
    shifts = [found.sensitivity[name].shift[axis].estimate for name in WORDINGS for axis in "CAP"]
    assert shifts == [0] * 9
    assert found.drift["turn"].beyond_recorded["all"].estimate == 0
    # 12 turns x (2 repeats, 3 wordings, padding, echo), and the canaries at both places.
    assert found.counts.asked == found.counts.valid == 12 * 7 + NUM_CANARIES


async def test_a_judge_of_length_is_found_out(tmp_path: Path) -> None:
    found, _, _ = await measured(Steady(), tmp_path)
    assert found.bias["length"].judge.estimate > 0.9
    # Padding is longer than 40 characters: levels 0, 1 and 2, a third of the turns each, become 2, by 3, 2
    # and 0 points.
    assert found.sensitivity["padding"].shift["C"].estimate == pytest.approx(5 / 3, abs=0.3)
    assert found.sensitivity["padding"].shift["A"].estimate == 0


async def test_noise_of_known_size_is_measured(tmp_path: Path) -> None:
    found, _, _ = await measured(Noisy(), tmp_path, num=36, repeats=6, names=["as_is"])
    # 0 or 3 points with equal chances: standard deviation 1.5. 180 degrees of freedom, so its standard error
    # is far below 0.1.
    assert found.noise.degrees == 36 * 5
    assert found.noise.sd == {"C": 0, "A": pytest.approx(1.5, abs=0.1), "P": 0}
    assert found.self_agreement is not None
    assert abs(found.self_agreement["A"].alpha_ordinal.estimate) < 0.2
    assert found.self_agreement["C"].alpha_ordinal.estimate == 1


async def test_a_preference_for_the_first_axis_is_measured(tmp_path: Path) -> None:
    found, _, _ = await measured(OrderBiased(), tmp_path)
    shift = found.sensitivity["axis_order"].shift
    # First is C, and P in the other order: a level of progress moves from C to P.
    assert [shift[scope].estimate for scope in ("C", "A", "P", "all")] == [-1, 0, 1, 0]
    assert found.sensitivity["paraphrase"].shift["C"].estimate == 0


async def test_echo_and_position_are_measured(tmp_path: Path) -> None:
    found, _, _ = await measured(Fooled(), tmp_path)
    assert found.echo_points is not None and found.late_shift is not None
    assert found.echo_points["P"].estimate == 3 and found.echo_points["C"].estimate == 0
    # Three empty turns before a canary's only turn: turn 4, where A loses 2 points.
    assert found.late_shift["A"].estimate == -2 and found.late_shift["P"].estimate == 0
    slope = found.drift["turn"].judge
    assert slope["A"].estimate < 0 and slope["P"].estimate == 0
    assert found.canaries is not None and found.canaries["unspoken_feeling"] != ()


async def test_invalid_answers_are_counted_and_not_imputed(tmp_path: Path) -> None:
    found, failures, _ = await measured(Broken(), tmp_path, num=20, repeats=4, names=["as_is"])
    counts = found.counts
    assert failures == () and counts.failed == 0
    assert list(counts.invalid) == ["level out of range"]
    assert counts.valid + counts.invalid["level out of range"] == counts.asked == 80
    assert 0.3 < counts.invalid_fraction.estimate < 0.7
    assert int(np.isnan(found.turns).all(axis=2).sum()) == counts.invalid["level out of range"]
    assert found.self_agreement is not None and found.self_agreement["C"].alpha_ordinal.estimate == 1


async def test_failed_calls_are_asked_again_and_have_no_line(tmp_path: Path) -> None:
    found, failures, _ = await measured(Flaky(failures=3), tmp_path, names=["as_is"])
    assert failures == () and found.counts.valid == 24
    down = Flaky(failures=10**9)
    (tmp_path / "down").mkdir()
    found, failures, _ = await measured(down, tmp_path / "down", names=["as_is"])
    assert len(failures) == found.counts.failed == 24 and found.counts.valid == 0
    assert down.calls == 24  # nobody answers, so there is no second round
    assert (tmp_path / "down" / "Flaky.jsonl").read_text() == ""
    assert "too busy" in failures[0].error and math.isnan(found.noise.sd["C"])
    # The endpoint is back: only what is missing is asked.
    found, failures, _ = await measured(Flaky(failures=0), tmp_path / "down", names=["as_is"])
    assert failures == () and found.counts.valid == 24


async def test_a_judge_without_instructions_gets_no_other_wording(tmp_path: Path) -> None:
    found, _, _ = await measured(Scorer(), tmp_path)
    assert set(found.sensitivity) == {"padding"}
    assert found.cost.total.calls == 0 and found.counts.valid == found.counts.asked


async def test_calls_and_tokens_are_counted(tmp_path: Path) -> None:
    found, _, _ = await measured(Steady(), tmp_path, num=3, names=["as_is"])
    assert (found.cost.total.calls, found.cost.total.prompt_tokens) == (6, 600)
    assert len(found.cost.seconds) == 6


async def test_judges_are_compared_with_each_other_and_the_recorded_one(tmp_path: Path) -> None:
    steady, _, turns = await measured(Steady(), tmp_path, names=["as_is"])
    biased, _, _ = await measured(OrderBiased(), tmp_path, names=["as_is"])
    card = card_of([steady, biased], turns)
    assert card.raters == ("Steady", "OrderBiased", "recorded")
    assert card.between is not None
    kappas = card.between["C"].kappa_quadratic
    assert kappas["Steady", "recorded"] == 1
    assert kappas["Steady", "OrderBiased"] == 0  # a constant agrees by chance only


def test_only_canaries_without_earlier_turns_can_be_late() -> None:
    early, late = (canaries(condition, "en") for condition in ("canary", "late_canary"))
    assert {one.name for one in early} - {one.name for one in late} == {"stock_phrase_again"}
    assert {one.language for one in canaries("canary", "zh")} == {"zh"}
    assert {one.language for one in canaries("canary", "fr")} == {"en"}
