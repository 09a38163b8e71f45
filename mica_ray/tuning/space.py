"""The search space of a sweep: what may stand at which key of a RunConfig. No config is made here."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mica_ray.config.overrides import describe_object

JOINT = "+"
"""Between keys that move together."""
_LABEL_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Span:
    """All numbers between two bounds, for a random or an Optuna search; a grid cannot take it."""

    low: float
    high: float
    log: bool = False
    """Whether orders of magnitude are equally likely, not differences."""

    def __post_init__(self) -> None:
        """Refuse a span that holds no number."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low must be below high, both finite; got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be > 0 where log=True; got {self.low}")

    def at(self, share: float) -> float:
        """Give the number at a share of the way from low to high.

        Args:
            share: in [0, 1].
        """
        if self.log:
            return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        return self.low + share * (self.high - self.low)


Options = Span | Sequence[object] | Mapping[str, object]
"""What may stand at a key: a span, values, or values under names of their own."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One key of the search space."""

    key: str
    """Dotted, of RunConfig; several that move together are joined by "+", and their values are tuples."""
    options: Mapping[str, object]
    """Values by label; empty for a span."""
    span: Span | None = None

    @classmethod
    def read(cls, key: str, options: Options) -> Dimension:
        """Make a dimension of what a sweep file gives for a key.

        Raises:
            ValueError: no options, or two with one label.
        """
        if isinstance(options, Span):
            return cls(key, {}, options)
        named = isinstance(options, Mapping)
        pairs = list(options.items()) if named else [(show_value(value), value) for value in options]
        if not pairs:
            raise ValueError(f"space[{key!r}] has no options; give it one value or more, or a Span")
        if len(dict(pairs)) < len(pairs):
            labels = ", ".join(label for label, _ in pairs)
            raise ValueError(f"space[{key!r}] has options of one name: {labels}; name them in a mapping")
        num_keys = len(key.split(JOINT))
        for label, value in pairs if num_keys > 1 else ():
            if not isinstance(value, tuple) or len(value) != num_keys:
                raise ValueError(f"space[{key!r}] takes tuples of {num_keys} values; got {label}: {value!r}")
        return cls(key, dict(pairs))


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the search space: the value at each key, and how it is called."""

    labels: Mapping[str, str]
    """By key."""
    values: Mapping[str, object]
    """By key."""

    @property
    def settings(self) -> Mapping[str, object]:
        """Values by single key, as they are put into a RunConfig."""
        return split_joint(self.values)

    @property
    def name(self) -> str:
        """Its name in tables, such as `alpha=0.5`; the ends of keys alone, where they tell them apart."""
        short = [key.rpartition(".")[2] for key in self.labels]
        keys = short if len(set(short)) == len(short) else list(self.labels)
        return " ".join(f"{key}={label}" for key, label in zip(keys, self.labels.values(), strict=True))


def split_joint(values: Mapping[str, object]) -> Mapping[str, object]:
    """Give each of several joined keys its own value."""
    settings: dict[str, object] = {}
    for key, value in values.items():
        keys = key.split(JOINT)
        parts = value if isinstance(value, tuple) and len(keys) > 1 else (value,)
        settings.update(zip(keys, parts, strict=True))
    return settings


def show_value(value: object) -> str:
    """Give the label of a value: numbers and texts as they are, objects by class and what is not default."""
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
    """Give what stands for a value in JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return describe_object(value)
    try:
        json.dumps(value)
    except TypeError:
        return repr(value)
    return value
