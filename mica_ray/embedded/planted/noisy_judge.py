"""A judge that makes random errors, as language models do. The scripted one alone makes none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mica_ray.checks import within
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.judger import LEVELS, Judge
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.seeding import derive_seed
from mica_ray.types import Judgement, Scenario, State


@dataclass(frozen=True, slots=True)
class NoisyJudge:
    """`Judge` that replaces each of another judge's six levels at random, independently.

    With probability `error_rate`, a level becomes one of the three allowed ones, each equally likely. With
    probability `strictness`, a level 2 of progress then becomes 1: such a judge is honest, but has another
    scale.
    """

    inner: Judge
    domain: Domain
    error_rate: float = 0.1
    strictness: float = 0.0

    def __post_init__(self) -> None:
        """Check the probabilities."""
        within(0, 1, error_rate=self.error_rate, strictness=self.strictness)

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        """Score the last reply with errors; equal seeds make equal errors. Failures pass unchanged."""
        judgement = await self.inner.score(scenario, dialogue, state=state, seed=seed)
        if judgement.progress is None or judgement.regress is None:
            return judgement
        generator = np.random.default_rng(derive_seed(seed, "errors"))
        up = [self._misread(level, "progress", generator) for level in judgement.progress]
        down = [self._misread(level, "regress", generator) for level in judgement.regress]
        up = [1 if level == 2 and generator.random() < self.strictness else level for level in up]
        points = [axis.points(*pair) for axis, *pair in zip(self.domain.axes, up, down, strict=True)]
        return replace(
            judgement,
            progress=(up[0], up[1], up[2]),
            regress=(down[0], down[1], down[2]),
            delta=(points[0], points[1], points[2]),
        )

    def _misread(self, level: int, side: str, generator: np.random.Generator) -> int:
        is_error, other = generator.random() < self.error_rate, int(generator.integers(3))
        return LEVELS[side][other] if is_error else level
