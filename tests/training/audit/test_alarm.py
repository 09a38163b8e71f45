"""The alarm: by hand on small numbers, and its false-alarm rate on simulated runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from mica_ray.training.audit.alarm import AlarmRule, StepGap, alarm_threshold, read_alarm

RULE = AlarmRule(baseline=2, slack=0.5)


def steps(*gaps: float, error: float = math.nan, num_dialogues: int = 4) -> list[StepGap]:
    return [StepGap(step, gap, error, num_dialogues) for step, gap in enumerate(gaps)]


def test_cusum_adds_standardized_gaps_beyond_the_slack() -> None:
    # The baseline -1, 1 has mean 0 and deviation sqrt(2). 2 sqrt(2) is z = 2, twice: S = 1.5, then 3.
    # -sqrt(2) is z = -1: S = 3 - 1.5 = 1.5.
    root = math.sqrt(2)
    gaps = steps(-1, 1, 2 * root, 2 * root, -root)
    readings = [read_alarm(RULE, gaps[:count], threshold=2.0) for count in range(1, 6)]
    assert readings[:2] == [None, None]
    found = [reading for reading in readings if reading is not None]
    assert [round(reading.z, 9) for reading in found] == [2, 2, -1]
    assert [round(reading.cusum, 9) for reading in found] == [1.5, 3, 1.5]
    assert [reading.is_raised for reading in found] == [False, True, False]


def test_alarm_needs_more_than_the_threshold_and_cusum_never_falls_below_zero() -> None:
    rule = AlarmRule(baseline=2, slack=0.5, smallest_deviation=1.0)
    # The deviation of 0, 0 is 0, so the smallest one counts: z = -9, S = 0; z = 2.5, S = 2.
    gaps = steps(0, 0, -9, 2.5)
    for threshold, is_raised in ((1.999, True), (2.0, False), (2.001, False)):
        reading = read_alarm(rule, gaps, threshold=threshold)
        assert reading is not None and (reading.cusum, reading.is_raised) == (2.0, is_raised)


def test_deviation_is_the_larger_of_between_steps_and_within_a_step() -> None:
    # Between: sqrt(2). Within: 2, which is larger. z of 4 is 2; with an error of 1 it is 4 / sqrt(2).
    for error, z in ((2.0, 2.0), (1.0, 4 / math.sqrt(2))):
        reading = read_alarm(RULE, steps(-1, 1, 4, error=error), threshold=9)
        assert reading is not None and reading.z == pytest.approx(z)


def test_gap_of_fewer_dialogues_counts_less_and_one_of_more_counts_the_same() -> None:
    base = steps(-1, 1, error=2.0)
    for num_dialogues, z in ((1, 1.0), (4, 2.0), (16, 2.0)):  # sqrt(1 / 4) = 1 / 2
        reading = read_alarm(RULE, [*base, StepGap(2, 4.0, math.nan, num_dialogues)], threshold=9)
        assert reading is not None and reading.z == pytest.approx(z)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_alarm_does_not_depend_on_mean_and_scale_and_is_one_sided(sign: float) -> None:
    gaps = np.array([0.0, 1.0, 2.0, 1.0, 0.5, 6.0, 6.0])
    rule = AlarmRule(baseline=5, smallest_deviation=1e-9)
    plain = read_alarm(rule, steps(*(sign * gaps)), threshold=3.0)
    moved = read_alarm(rule, steps(*(sign * (100 * gaps + 7))), threshold=3.0)
    assert plain is not None and moved is not None
    assert moved.cusum == pytest.approx(plain.cusum, abs=1e-6)
    assert plain.is_raised is (sign > 0)


def false_alarms(rule: AlarmRule, runs: np.ndarray, threshold: float) -> float:
    """Share of runs [R, audits, dialogues] that raise an alarm anywhere."""

    def raises(dialogues: np.ndarray) -> bool:
        errors = dialogues.std(axis=1, ddof=1) / math.sqrt(dialogues.shape[1])
        gaps: Sequence[StepGap] = [
            StepGap(step, float(row.mean()), float(error), len(row))
            for step, (row, error) in enumerate(zip(dialogues, errors, strict=True))
        ]
        readings = (read_alarm(rule, gaps[:end], threshold=threshold) for end in range(1, len(gaps) + 1))
        return any(reading is not None and reading.is_raised for reading in readings)

    return float(np.mean([raises(run) for run in runs]))


def test_share_of_false_alarms_is_the_stated_rate_and_a_shift_is_found() -> None:
    rule = AlarmRule(baseline=5, false_alarm_rate=0.1, smallest_deviation=1e-9)
    threshold = alarm_threshold(rule, num_audits=20, num_dialogues=8)
    runs = np.random.default_rng(7).normal(3.0, 40.0, (1000, 20, 8))
    # Standard error of a share of 0.1 from 1000 runs: 0.0095. Four of them.
    assert false_alarms(rule, runs, threshold) == pytest.approx(0.1, abs=0.038)
    # From step 8 on, the gap is three standard errors of a step higher.
    runs[:200, 8:] += 3 * 40 / math.sqrt(8)
    assert false_alarms(rule, runs[:200], threshold) > 0.95


def test_threshold_rises_with_the_length_of_the_run_and_falls_with_the_rate() -> None:
    def of(num_audits: int, rate: float = 0.01, num_dialogues: int = 8) -> float:
        return alarm_threshold(
            AlarmRule(false_alarm_rate=rate), num_audits=num_audits, num_dialogues=num_dialogues
        )

    assert of(5) == math.inf  # The run ends with the baseline.
    assert 0 < of(6) < of(22) < of(60) < math.inf
    assert of(22, rate=0.1) < of(22, rate=0.01)
    # One dialogue per step has no error within the step: the deviation is estimated from five values only.
    assert of(22, num_dialogues=1) > of(22)
    assert of(22) == of(22)


@pytest.mark.parametrize(
    "wrong",
    [
        {"baseline": 1},
        {"slack": -0.1},
        {"false_alarm_rate": 0.0},
        {"false_alarm_rate": 1.0},
        {"smallest_deviation": 0.0},
    ],
)
def test_rule_outside_its_range_is_refused_with_the_field(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AlarmRule(**wrong)  # type: ignore[arg-type]
