"""A judge behind real HTTP whose requests fail at a given rate, in six ways, chosen by seed and content."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from typing import Literal, get_args

from mica_ray.chat.model import ChatModel
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.seeding import derive_seed
from mica_ray.types import Sampling
from tests.chat.local_endpoint import DROP, HANG, Answer, Request, refusal

Fault = Literal["hang", "garbage", "truncated", "429", "500", "drop"]
FAULTS: tuple[Fault, ...] = get_args(Fault)


class FaultyJudge:
    """Answers the requests of a `LocalEndpoint` with the judge's own answer or with a fault.

    Which requests are lost follows from the seed, what is asked and how often it was asked before: neither
    timing nor the other dialogues change it.

    Args:
        fault_fraction: share of the requests that meet a fault.
        seed: of the choice.
        latency_seconds: time every answer takes, faults included; a hang takes for ever.
        judge: who answers the others.
    """

    def __init__(
        self,
        fault_fraction: float,
        *,
        seed: int = 0,
        latency_seconds: float = 0.0,
        judge: ChatModel | None = None,
    ) -> None:
        self._fault_fraction = fault_fraction
        self._seed = seed
        self._latency_seconds = latency_seconds
        self._judge = judge or ScriptedRoles()
        self._asked: defaultdict[str, int] = defaultdict(int)
        self._answered: set[str] = set()
        self.faults: Counter[Fault] = Counter()

    @property
    def num_lost(self) -> int:
        """Number of judgements that never got a complete answer."""
        return len(self._asked) - len(self._answered)

    async def __call__(self, request: Request) -> Answer:
        # A repair attempt asks again for the same judgement: its first two messages name it.
        judgement = json.dumps([request["messages"][:2], request.get("seed")])
        fault = self._fault(judgement, self._asked[judgement])
        self._asked[judgement] += 1
        if fault is not None:
            self.faults[fault] += 1
        if fault == "hang":
            return HANG
        await asyncio.sleep(self._latency_seconds)
        if fault is not None and fault != "truncated":
            return {
                "garbage": Answer(body="<html>the gateway is confused"),
                "429": refusal(429, "slow down"),
                "500": refusal(500, "out of memory"),
                "drop": DROP,
            }[fault]
        reply = await self._judge.chat(request["messages"][:2], Sampling(seed=request.get("seed")))
        if fault == "truncated":
            return Answer(reply.text[: len(reply.text) // 2], finish_reason="length")
        self._answered.add(judgement)
        return Answer(reply.text)

    def _fault(self, judgement: str, occurrence: int) -> Fault | None:
        chance = random.Random(derive_seed(self._seed, "fault", judgement, occurrence))
        return chance.choice(FAULTS) if chance.random() < self._fault_fraction else None
