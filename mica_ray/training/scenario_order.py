"""The scenarios of each training step, a function of seed and step: no cursor to restore."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from mica_ray.seeding import derive_seed
from mica_ray.types import Scenario


@dataclass(frozen=True, slots=True)
class ScenarioOrder:
    """Scenarios in epochs, each shuffled and cut into steps; the remainder is left out.

    No step contains a scenario twice, because both would be played with equal seeds.
    """

    scenarios: tuple[Scenario, ...]
    seed: int
    per_step: int = 16

    def __post_init__(self) -> None:
        """Check that the scenarios fill at least one step."""
        if not 1 <= self.per_step <= len(self.scenarios):
            raise ValueError(
                f"scenarios_per_step must be in [1, {len(self.scenarios)}], the number of training "
                f"scenarios, got {self.per_step}."
            )

    def __call__(self, step: int) -> tuple[Scenario, ...]:
        """Return the `per_step` scenarios of a step."""
        epoch, place = divmod(step, len(self.scenarios) // self.per_step)
        generator = np.random.default_rng(derive_seed(self.seed, "scenario order", epoch))
        order = generator.permutation(len(self.scenarios))[
            place * self.per_step : (place + 1) * self.per_step
        ]
        return tuple(self.scenarios[index] for index in order)

    @property
    def digest(self) -> str:
        """16 hex digits that are equal for equal orders."""
        parts = [str(self.seed), str(self.per_step), *(scenario.id for scenario in self.scenarios)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
