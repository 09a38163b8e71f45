"""Whether a judge may be used: each requirement with its threshold, and the reason for the threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mica_ray.judges.agreement import Agreement
from mica_ray.judges.card.findings import ByScope, Findings
from mica_ray.judges.card.noise import ALL
from mica_ray.judges.card.presentations import WORDINGS
from mica_ray.statistics import Interval, wilson
from mica_ray.types import AXES

MIN_SELF_ALPHA = 0.667
"""Krippendorff (2004): below it, ratings support not even tentative conclusions."""
MIN_RECORDED_ALPHA = 0.4
"""Fleiss (1981): below 0.4, agreement beyond chance is poor. Two judges have noise, repeats that of one."""
MAX_SIGN_FLIPS = 0.1
"""Pairs of repeats with opposite signs, which turn a reward into a penalty. Three strong judges of
HumaneBench differ in sign on 0.083 of the items."""
MAX_INVALID = 0.1
"""With a fifth of the answers missing, a training step takes 1.4 times as long; half of that is the limit."""
MAX_SHIFT = 0.5
"""Points of an axis: half of the smallest progress, so that a shift is nearer to none than to one level."""
MAX_SLOPE = 0.05
"""Points of an axis per turn beyond the recorded judge: at the 15 turns of training less than one level."""
MIN_CANARIES = 0.8
"""Share of the replies with known levels: a fifth may be missed, because some levels can be disputed."""

State = Literal["passed", "failed", "undecided", "not measured"]
Verdict = Literal["usable", "not usable", "undecided"]


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement and whether a judge meets it."""

    name: str
    value: Interval | None
    """None if it was not measured."""
    limit: str
    """The threshold, as text."""
    state: State


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Whether a judge may be used.

    "not usable": an interval is on the wrong side of its threshold. "undecided": none is, but one contains
    its threshold, or something was not measured. "usable": every interval is on the right side.
    """

    verdict: Verdict
    checks: tuple[Check, ...]

    @property
    def line(self) -> str:
        """The conclusion in one sentence."""
        wrong = [check for check in self.checks if check.state != "passed"]
        worst = [check for check in wrong if check.state == "failed"] or wrong
        if not wrong:
            return "usable: every requirement is met"
        reasons = "; ".join(
            f"{check.name} {_shown(check.value)} ({check.state}, limit {check.limit})" for check in worst
        )
        advice = ". Judge more turns before you use it" if self.verdict == "undecided" else ""
        return f"{self.verdict}: {reasons}{advice}"


def conclude(found: Findings) -> Conclusion:
    """Compare the findings about a judge with every threshold."""
    own, recorded = found.self_agreement, found.with_recorded
    checks = [
        _agreeing("agreement with itself (alpha)", MIN_SELF_ALPHA, own),
        at_most("opposite signs in repeats", MAX_SIGN_FLIPS, _over_all(found.sign_flips)),
        at_most("invalid answers", MAX_INVALID, found.counts.invalid_fraction),
        at_least("known replies judged right", MIN_CANARIES, _canaries(found)),
        *(within(f"shift by {name}", MAX_SHIFT, _worst(found, name)) for name in WORDINGS),
        at_most("points for padding", MAX_SHIFT, _worst_gain(found, "padding")),
        at_most("points for echo", MAX_SHIFT, _over_all(found.echo_points)),
        within("shift at a late position", MAX_SHIFT, _over_all(found.late_shift)),
    ]
    if recorded is not None:
        slope = found.drift["turn"].beyond_recorded[ALL]
        checks += [
            _agreeing("agreement with the recorded judge (alpha)", MIN_RECORDED_ALPHA, recorded),
            within("drift per turn beyond the recorded judge", MAX_SLOPE, slope),
        ]
    states = {check.state for check in checks}
    verdict: Verdict = (
        "not usable" if "failed" in states else "usable" if states == {"passed"} else "undecided"
    )
    return Conclusion(verdict, tuple(checks))


def _over_all(found: ByScope | None) -> Interval | None:
    return None if found is None else found[ALL]


def _canaries(found: Findings) -> Interval | None:
    if not found.canaries:
        return None
    right = sum(not problems for problems in found.canaries.values())
    # A fixed list, not a sample: its share has no interval.
    return _point(wilson(right, len(found.canaries)).estimate)


def _worst(found: Findings, condition: str) -> Interval | None:
    """Return the largest shift of an axis, in size."""
    if condition not in found.sensitivity:
        return None
    shift = found.sensitivity[condition].shift
    return max((shift[axis] for axis in AXES), key=lambda one: abs(one.estimate))


def _worst_gain(found: Findings, condition: str) -> Interval | None:
    if condition not in found.sensitivity:
        return None
    shift = found.sensitivity[condition].shift
    return max((shift[axis] for axis in AXES), key=lambda one: one.estimate)


def _point(value: float) -> Interval:
    return Interval(value, value, value)


def _agreeing(name: str, limit: float, found: Mapping[str, Agreement] | None) -> Check:
    """Check the lowest alpha of an axis.

    The alpha over all axes is no measure: a judge with one level for each axis would reach 1. An axis on
    which all ratings are equal has no alpha and is left out. Without any alpha, the judge does not
    distinguish replies, which fails.
    """
    axes = [] if found is None else [found[axis] for axis in AXES]
    alphas = [one.alpha_ordinal for one in axes if one.alpha_ordinal.estimate == one.alpha_ordinal.estimate]
    if alphas:
        return at_least(name, limit, min(alphas, key=lambda alpha: alpha.estimate))
    has_ratings = any(one.num_items > 1 for one in axes)
    return Check(name, None, f">= {limit:g}", "failed" if has_ratings else "not measured")


def at_least(name: str, limit: float, value: Interval | None) -> Check:
    """Return whether a value reaches a limit; "undecided" if only a part of its interval does."""
    return _check(name, f">= {limit:g}", value, limit, math.inf)


def at_most(name: str, limit: float, value: Interval | None) -> Check:
    """Return whether a value does not exceed a limit; see `at_least`."""
    return _check(name, f"<= {limit:g}", value, -math.inf, limit)


def within(name: str, limit: float, value: Interval | None) -> Check:
    """Return whether a value is between -limit and limit; see `at_least`."""
    return _check(name, f"within ±{limit:g}", value, -limit, limit)


def _check(name: str, limit: str, value: Interval | None, lowest: float, highest: float) -> Check:
    if value is None or value.estimate != value.estimate:
        return Check(name, None, limit, "not measured")
    if value.low >= lowest and value.high <= highest:
        return Check(name, value, limit, "passed")
    is_outside = value.high < lowest or value.low > highest
    return Check(name, value, limit, "failed" if is_outside else "undecided")


def _shown(value: Interval | None) -> str:
    return "not defined" if value is None else f"{value.estimate:.2f}"
