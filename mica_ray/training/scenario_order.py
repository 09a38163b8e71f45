"""Which scenarios a step trains on: a pure function of seed and step, so that resuming needs no cursor."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from mica_ray.seeding import derive_seed
from mica_ray.types import Scenario


@dataclass(frozen=True, slots=True)
class ScenarioOrder:
    """Scenarios in epochs, each shuffled anew and cut into steps.

    What is left over at its end sits that epoch out.

    No step holds a scenario twice: the two would be played with equal seeds.
    """

    scenarios: tuple[Scenario, ...]
    seed: int
    per_step: int = 16

    def __post_init__(self) -> None:
        """Refuse a step that cannot be filled."""
        if not 1 <= self.per_step <= len(self.scenarios):
            raise ValueError(
                f"scenarios_per_step must be in 1..{len(self.scenarios)}, the number of training scenarios; "
                f"got {self.per_step}"
            )

    def __call__(self, step: int) -> tuple[Scenario, ...]:
        """Give the scenarios of a step, `per_step` of them."""
        epoch, place = divmod(step, len(self.scenarios) // self.per_step)
        generator = np.random.default_rng(derive_seed(self.seed, "scenario order", epoch))
        order = generator.permutation(len(self.scenarios))[
            place * self.per_step : (place + 1) * self.per_step
        ]
        return tuple(self.scenarios[index] for index in order)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that are equal for equal orders."""
        parts = [str(self.seed), str(self.per_step), *(scenario.id for scenario in self.scenarios)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
