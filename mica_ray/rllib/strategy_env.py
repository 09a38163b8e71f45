"""The embedded world as a Gymnasium environment: needs observed, kinds of support chosen.

There is no text. embedded/world.py decides the effect of a reply, dialogue/progress.py the end of a dialogue,
and rewards.py the rewards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import gymnasium
import numpy as np

from mica_ray.checks import within
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.progress import energy_direction, judge_stop
from mica_ray.embedded.reply_reader import Kind, Reading
from mica_ray.embedded.world import (
    MAX_GUARD,
    PATIENCE,
    PROGRESS_POINTS,
    REGRESS_POINTS,
    Inner,
    start,
    take,
)
from mica_ray.rewards import NUM_AXES, Rewards
from mica_ray.types import Scenario

KINDS: tuple[Kind, ...] = tuple(Kind)
"""The kind of support of action 0, 1, ..."""

POINTS = 10.0
"""Points of need per unit of an observation: about the total initial deficit of a scenario."""

GUARDED_ABOUT = slice(6, 9)
"""Components of an observation that mark, for C, A and P, needs that are not open to help yet."""

SPECIFIC_FRACTION = 0.8
"""Share of replies that refer to what the user said. The wording is not part of the action."""


class StrategyEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One dialogue per episode. Only the wording of replies is random, by seed.

    Action k is a well-formed reply of kind `KINDS[k]`. The observation is a vector [10]:

        0..2   need state P_t (C, A, P), in `POINTS`
        3      turns played, share of the turn limit
        4      energy E_t, share of ||P_0||
        5      guard, share of `MAX_GUARD`
        6..8   1 where C, A, P is not open to help yet
        9      replies in a row that served only met needs, share of `PATIENCE`, at most 1

    The reward of a turn is that of `rewards`, in points. Every ending terminates the episode, including the
    turn limit: the turn is part of the observation, so there is no value beyond the limit to estimate.
    `info` has "scenario" (its id), "is_asked" (whether it was chosen by id or `upcoming`) and, at the end,
    "stop".

    Args:
        domain: defines the order of needs and the rules of progress, with the points of the embedded world.
        scenarios: the scenarios to sample; default: the domain's training split.
        rewards: the reward of a turn; default: IDR.
        specific_fraction: probability that a reply refers to what the user said, in [0, 1].

    Raises:
        ValueError: there is no scenario, or the fraction is outside [0, 1].
    """

    metadata = {"render_modes": []}  # noqa: RUF012  (Gymnasium reads it from the class)

    def __init__(
        self,
        domain: Domain,
        *,
        scenarios: Sequence[Scenario] = (),
        rewards: Rewards | None = None,
        specific_fraction: float = SPECIFIC_FRACTION,
    ) -> None:
        within(0, 1, specific_fraction=specific_fraction)
        self.scenarios = tuple(scenarios) or domain.split("train")
        if not self.scenarios:
            raise ValueError(f"Domain {domain.name} has no training scenarios. Pass scenarios.")
        self.upcoming: int | None = None
        """Index of the scenario of the next reset, which clears it. None: the reset draws a scenario."""
        self._rules = domain.rules
        keys = [axis.key for axis in domain.axes]
        self._order = [keys.index(key) for key in domain.need_order]
        self._rewards = rewards or Rewards()
        self._specific_fraction = specific_fraction
        self._readings = {
            (kind, is_specific): Reading(frozenset({kind}), frozenset(), is_specific, {})
            for kind in KINDS
            for is_specific in (False, True)
        }
        self._is_asked = False
        self._path = np.zeros((self._rules.max_turns + 1, NUM_AXES))
        self._turn = 0
        self._open(self.scenarios[0])
        self.action_space = gymnasium.spaces.Discrete(len(KINDS))
        self.observation_space = self._bounds()

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[np.ndarray, dict[str, object]]:
        """Start a dialogue: of `options["scenario"]`, the upcoming scenario, or a random one.

        Raises:
            ValueError: no scenario has the id `options["scenario"]`.
        """
        super().reset(seed=seed)
        name = (options or {}).get("scenario")
        if name is not None:
            self.upcoming = self._index_of(name)
        self._is_asked = self.upcoming is not None
        drawn = int(self.np_random.integers(len(self.scenarios)))
        self._open(self.scenarios[drawn if self.upcoming is None else self.upcoming])
        self.upcoming = None
        return self._observation(), self._info()

    def step(self, action: np.int64 | int) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        """Reply with one kind of support and update the user's state."""
        is_specific = bool(self.np_random.random() < self._specific_fraction)
        self._inner = take(self._inner, self._readings[KINDS[int(action)], is_specific]).after
        self._turn += 1
        self._path[self._turn] = self._inner.state
        path = self._path[: self._turn + 1]
        reward = float(self._rewards.of_path(path[-2:])[0])
        stop = judge_stop(path, self._rules)
        info = self._info() if stop is None else {**self._info(), "stop": str(stop)}
        return self._observation(), reward, stop is not None, False, info

    @property
    def max_turns(self) -> int:
        """Maximum number of turns of a dialogue."""
        return self._rules.max_turns

    def _index_of(self, name: object) -> int:
        ids = [scenario.id for scenario in self.scenarios]
        if name not in ids:
            raise ValueError(f"options['scenario'] must be one of {', '.join(ids[:3])}, ..., got {name!r}.")
        return ids.index(str(name))

    def _info(self) -> dict[str, object]:
        return {"scenario": self._scenario.id, "is_asked": self._is_asked}

    def _open(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._inner: Inner = start(scenario.initial_state, self._order)
        self._turn = 0
        self._path[0] = self._inner.initial
        self._direction = energy_direction(self._inner.initial)
        self._deficit = math.hypot(*self._inner.initial)

    def _observation(self) -> np.ndarray:
        inner, state, initial = self._inner, self._inner.state, self._inner.initial
        moved = (now - before for now, before in zip(state, initial, strict=True))
        energy = sum(change * along for change, along in zip(moved, self._direction, strict=True))
        return np.array(
            [
                *(value / POINTS for value in state),
                self._turn / self._rules.max_turns,
                energy / self._deficit,
                inner.guard / MAX_GUARD,
                *(float(not inner.is_open(axis)) for axis in range(NUM_AXES)),
                min(inner.stale, PATIENCE) / PATIENCE,
            ],
            dtype=np.float32,
        )

    def _bounds(self) -> gymnasium.spaces.Box:
        """Return bounds of all observations.

        A turn moves each axis by the points of one level at most.
        """
        starts = np.array([scenario.initial_state for scenario in self.scenarios])
        worst = self._rules.max_turns * np.array([min(points) for points in REGRESS_POINTS])
        best = self._rules.max_turns * max(PROGRESS_POINTS)
        reach = float(np.linalg.norm(worst) / np.linalg.norm(starts, axis=1).min())
        low = [*((starts.min(axis=0) + worst) / POINTS), 0.0, -reach, *[0.0] * 5]
        high = [*((starts.max(axis=0) + best) / POINTS), 1.0, reach, *[1.0] * 5]
        return gymnasium.spaces.Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)
