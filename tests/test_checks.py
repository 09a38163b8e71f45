"""Checks at, below and above their limits; NaN passes none."""

from __future__ import annotations

import math

import pytest

from mica_ray.checks import above, at_least, one_of, within


def test_at_least_accepts_its_limit() -> None:
    at_least(1, num_steps=1, group_size=2)
    with pytest.raises(ValueError, match=r"group_size must be >= 1, got 0\."):
        at_least(1, num_steps=1, group_size=0)


def test_above_rejects_its_limit() -> None:
    above(0, learning_rate=5e-324)
    with pytest.raises(ValueError, match=r"learning_rate must be > 0, got 0\."):
        above(0, learning_rate=0)


def test_within_accepts_both_ends() -> None:
    within(0, 1, alpha=0, gamma=1)
    for value in (-5e-324, 1.0000000000000002):
        with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\], got "):
            within(0, 1, alpha=0.5, gamma=value)


def test_nan_passes_no_check() -> None:
    with pytest.raises(ValueError, match=r"x must be >= 0, got nan\."):
        at_least(0, x=math.nan)
    with pytest.raises(ValueError, match=r"x must be > 0, got nan\."):
        above(0, x=math.nan)
    with pytest.raises(ValueError, match=r"x must be in \[0, 1\], got nan\."):
        within(0, 1, x=math.nan)


def test_one_of_lists_what_is_allowed() -> None:
    one_of(("a", "b", "c"), mode="c")
    with pytest.raises(ValueError, match=r"mode must be 'a', 'b' or 'c', got 'd'\."):
        one_of(("a", "b", "c"), mode="d")
    with pytest.raises(ValueError, match=r"mode must be 'a', got None\."):
        one_of(("a",), mode=None)
