"""Checks of field values: each raises a ValueError with field, rule and value."""

from __future__ import annotations

from collections.abc import Collection


def at_least(lowest: float, **values: float) -> None:
    """Check that every value is `lowest` or more; NaN fails.

    >>> at_least(1, num_steps=0)
    Traceback (most recent call last):
    ValueError: num_steps must be >= 1, got 0.

    Args:
        lowest: the smallest value allowed.
        values: field name to value.

    Raises:
        ValueError: a value is below `lowest`.
    """
    for name, value in values.items():
        if not value >= lowest:
            raise ValueError(f"{name} must be >= {lowest}, got {value!r}.")


def above(limit: float, **values: float) -> None:
    """Check that every value is more than `limit`; NaN fails.

    >>> above(0, learning_rate=-1e-6)
    Traceback (most recent call last):
    ValueError: learning_rate must be > 0, got -1e-06.

    Args:
        limit: the largest value that is not allowed.
        values: field name to value.

    Raises:
        ValueError: a value is at or below `limit`.
    """
    for name, value in values.items():
        if not value > limit:
            raise ValueError(f"{name} must be > {limit}, got {value!r}.")


def within(low: float, high: float, **values: float) -> None:
    """Check that every value is in [low, high]; NaN fails.

    >>> within(0, 1, alpha=1.5)
    Traceback (most recent call last):
    ValueError: alpha must be in [0, 1], got 1.5.

    Args:
        low: the smallest value allowed.
        high: the largest value allowed.
        values: field name to value.

    Raises:
        ValueError: a value is outside [low, high].
    """
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must be in [{low}, {high}], got {value!r}.")


def one_of(allowed: Collection[object], **values: object) -> None:
    """Check that every value is one of the allowed values.

    >>> one_of(("cosine", "constant"), schedule="linear")
    Traceback (most recent call last):
    ValueError: schedule must be 'cosine' or 'constant', got 'linear'.

    Args:
        allowed: the allowed values, in the order of the message.
        values: field name to value.

    Raises:
        ValueError: a value is not allowed.
    """
    for name, value in values.items():
        if value not in allowed:
            *head, last = map(repr, allowed)
            listed = f"{', '.join(head)} or {last}" if head else last
            raise ValueError(f"{name} must be {listed}, got {value!r}.")
