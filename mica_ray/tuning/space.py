"""The search space of a sweep: the values to try for each key of a RunConfig. Builds no configs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mica_ray.config.overrides import describe_object

JOINT = "+"
"""Joins keys whose values vary together."""
_LABEL_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Span:
    """All numbers between two bounds, for random or Optuna search. A grid needs a list of values instead."""

    low: float
    high: float
    log: bool = False
    """Whether to sample uniformly in log space."""

    def __post_init__(self) -> None:
        """Check that the bounds are finite and in order."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low must be < high, and both finite, got low={self.low}, high={self.high}.")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be > 0 when log=True, got {self.low}.")

    def at(self, fraction: float) -> float:
        """Return the number at a fraction of the way from low to high, in log space if `log` is set.

        Args:
            fraction: in [0, 1].
        """
        if self.log:
            return math.exp(math.log(self.low) + fraction * (math.log(self.high) - math.log(self.low)))
        return self.low + fraction * (self.high - self.low)


Options = Span | Sequence[object] | Mapping[str, object]
"""The values to try for a key: a span, a list of values, or values by label."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One key of the search space and its values."""

    key: str
    """Dotted key of RunConfig. Keys that vary together are joined by "+"; their values are tuples."""
    options: Mapping[str, object]
    """Values by label; empty if there is a span."""
    span: Span | None = None

    @classmethod
    def read(cls, key: str, options: Options) -> Dimension:
        """Build a dimension from a key's entry in a sweep file.

        Raises:
            ValueError: no options, two options with the same label, or no tuples for joined keys.
        """
        if isinstance(options, Span):
            if JOINT in key:
                raise ValueError(f"space[{key!r}] joins keys, got a Span. List tuples of values instead.")
            return cls(key, {}, options)
        named = isinstance(options, Mapping)
        pairs = list(options.items()) if named else [(show_value(value), value) for value in options]
        if not pairs:
            raise ValueError(f"space[{key!r}] has no options. List at least one value, or use a Span.")
        if len(dict(pairs)) < len(pairs):
            labels = ", ".join(label for label, _ in pairs)
            raise ValueError(
                f"space[{key!r}] has options with the same label: {labels}. Label them in a mapping."
            )
        num_keys = len(key.split(JOINT))
        for label, value in pairs if num_keys > 1 else ():
            if not isinstance(value, tuple) or len(value) != num_keys:
                raise ValueError(f"space[{key!r}] needs tuples of {num_keys} values, got {label}: {value!r}.")
        return cls(key, dict(pairs))


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the search space: a value for each key, and its label."""

    labels: Mapping[str, str]
    """By key."""
    values: Mapping[str, object]
    """By key."""

    @property
    def settings(self) -> Mapping[str, object]:
        """Values by single key, as RunConfig takes them."""
        return split_joint(self.values)

    @property
    def name(self) -> str:
        """Name in tables, such as `alpha=0.5`. Uses the last part of each key if these parts differ."""
        short = [key.rpartition(".")[2] for key in self.labels]
        keys = short if len(set(short)) == len(short) else list(self.labels)
        return " ".join(f"{key}={label}" for key, label in zip(keys, self.labels.values(), strict=True))


def split_joint(values: Mapping[str, object]) -> Mapping[str, object]:
    """Return values by single key: a joined key is split, and its tuple with it."""
    settings: dict[str, object] = {}
    for key, value in values.items():
        keys = key.split(JOINT)
        parts = value if isinstance(value, tuple) and len(keys) > 1 else (value,)
        settings.update(zip(keys, parts, strict=True))
    return settings


def show_value(value: object) -> str:
    """Return the label of a value; an object becomes its class name and the fields that are not default."""
    if isinstance(value, float):
        return f"{value:.{_LABEL_DIGITS}g}"
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value if isinstance(value, str) else repr(value)
    changed = [
        f"{item.name}={show_value(getattr(value, item.name))}"
        for item in dataclasses.fields(value)
        if item.init and getattr(value, item.name) != item.default
    ]
    return f"{type(value).__name__}({', '.join(changed)})" if changed else type(value).__name__


def plain_value(value: object) -> object:
    """Return a JSON-compatible form of a value: its description for objects, its repr as a last resort."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return describe_object(value)
    try:
        json.dumps(value)
    except TypeError:
        return repr(value)
    return value
