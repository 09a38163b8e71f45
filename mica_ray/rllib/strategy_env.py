"""The embedded world as a Gymnasium environment: what the person needs in, the kind of support out.

One level above the dialogue: no text; what can choosing the kind of support alone earn? How a reply is taken
is decided in embedded/world.py, when a dialogue ends in dialogue/progress.py, rewards in rewards.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import gymnasium
import numpy as np

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
"""What action 0, 1, ... means."""

POINTS = 10.0
"""Points of need that count as 1 in an observation: about what a scenario's person brings in all."""

GUARDED_ABOUT = slice(6, 9)
"""Where an observation says, for C, A, P, that help cannot land yet."""

SPECIFIC_FRACTION = 0.8
"""Share of replies that take up what this person said: how a choice is worded is not the chooser's part."""


class StrategyEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One dialogue an episode; deterministic but for the wording of a reply, drawn by the environment's seed.

    Action k offers `KINDS[k]` and nothing else, without any harm of form. The observation is a vector [10]:

        0..2   need state P_t (C, A, P), in `POINTS`
        3      turns played, share of the turn limit
        4      energy E_t, share of ||P_0||
        5      guard, share of `MAX_GUARD`
        6..8   1 where help for C, A, P cannot land yet: what the person is guarded about
        9      replies in a row that served only met needs, share of `PATIENCE`, 1 at most

    The reward is that of `rewards` for the turn, in points. Every ending terminates, the turn limit too: the
    turn is observed, so that the limit is part of the task and there is nothing beyond it to be estimated.
    `info` holds "scenario" (the id), "is_asked" (whether somebody asked for it) and, at the end, "stop".

    Args:
        domain: gives the order of needs and the rules of progress; its points must be the embedded world's.
        scenarios: who may come; the domain's training split when not given.
        rewards: of a turn.
        specific_fraction: chance that a reply takes up what this person said, in [0, 1].

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
        if not 0 <= specific_fraction <= 1:
            raise ValueError(f"specific_fraction must be in [0, 1]; got {specific_fraction}")
        self.scenarios = tuple(scenarios) or domain.split("train")
        if not self.scenarios:
            raise ValueError(f"scenarios must not be empty; domain {domain.name} has none to train on")
        self.upcoming: int | None = None
        """Index of the scenario that the next reset opens, which forgets it; None lets the reset draw one."""
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
        """Begin a dialogue: of the scenario `options["scenario"]` names, else the upcoming one, else any.

        Raises:
            ValueError: no scenario has the id.
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
        """Offer one kind of support and let the person take it."""
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
        """The turn limit: no dialogue is longer."""
        return self._rules.max_turns

    def _index_of(self, name: object) -> int:
        ids = [scenario.id for scenario in self.scenarios]
        if name not in ids:
            raise ValueError(f"options['scenario'] must be one of {', '.join(ids[:3])}, ...; got {name!r}")
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
        """Give the box that no dialogue leaves: every turn moves each axis by a level's points at most."""
        starts = np.array([scenario.initial_state for scenario in self.scenarios])
        worst = self._rules.max_turns * np.array([min(points) for points in REGRESS_POINTS])
        best = self._rules.max_turns * max(PROGRESS_POINTS)
        reach = float(np.linalg.norm(worst) / np.linalg.norm(starts, axis=1).min())
        low = [*((starts.min(axis=0) + worst) / POINTS), 0.0, -reach, *[0.0] * 5]
        high = [*((starts.max(axis=0) + best) / POINTS), 1.0, reach, *[1.0] * 5]
        return gymnasium.spaces.Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)
