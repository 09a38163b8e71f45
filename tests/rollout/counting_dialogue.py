"""A dialogue of counted turns and a policy engine that spells its seeds, for tests of the rollout."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from mica_ray.dialogue.trajectory_builder import Exchange
from mica_ray.rollout.collect import RolloutConfig
from mica_ray.rollout.engine import EngineError, PolicyEngine
from mica_ray.types import Generation, Judgement, Message, PolicyWeights, Sampling, Scenario, Stop

CONFIG = RolloutConfig(group_size=2, sampling=Sampling(max_tokens=8), context_length=500)
GOOD = Judgement((1, 0, 0), (0, 0, 0), (1.0, 0.0, 0.0))


def scenario(name: str) -> Scenario:
    return Scenario(
        name, "test", "none", "C", "Someone.", f"Hello from {name}.", (-3.0, 0.0, 0.0), (), "train"
    )


@dataclass
class CountingEnvironment:
    """Lasts a fixed number of turns; waits for `gate` and raises at `breaks_at`."""

    who: Scenario
    seed: int
    turns: int = 3
    breaks_at: int | None = None
    gate: asyncio.Event | None = None
    error: str | None = None
    undirected: tuple[int, ...] = ()
    """Turns after which the Director fails."""
    replies: list[str] = field(default_factory=list)

    async def open(self) -> Message:
        return {"role": "user", "content": self.who.opening}

    async def respond(self, reply: str) -> Exchange:
        self.replies.append(reply)
        turn = len(self.replies)
        if self.gate is not None:
            await self.gate.wait()
        if turn == self.breaks_at:
            raise RuntimeError("the user fell silent")
        state = (-3.0 + turn, 0.0, 0.0)
        if turn == self.turns:
            stop = Stop.FAILED if self.error else Stop.SUCCESS
            return Exchange(GOOD, state, None, stop, error=self.error)
        user: Message = {"role": "user", "content": f"Turn {turn}."}
        error = "no direction" if turn in self.undirected else None
        return Exchange(GOOD, state, user, None, guidance=f"guide {turn}", error=error)


@dataclass
class SpellingEngine:
    """Replies with tokens that encode the seed and the prompt's length; raises if `fails`."""

    delay: float = 0.0
    fails: bool = False
    seeds: list[int | None] = field(default_factory=list)
    routed: list[int] = field(default_factory=list)

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        self.seeds.append(sampling.seed)
        if self.fails:
            raise EngineError("engine 0 died")
        await asyncio.sleep(self.delay)
        tokens = (20 + (sampling.seed or 0) % 200, 20 + len(prompt_ids) % 200, 2)
        return Generation(tuple(prompt_ids), tokens, (-1.0,) * 3, f"{tokens}", "stop", 4)

    async def load_weights(self, weights: PolicyWeights) -> None: ...

    async def close(self) -> None: ...

    def route(self, key: int) -> PolicyEngine:
        self.routed.append(key)
        return self
