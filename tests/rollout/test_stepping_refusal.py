"""An engine that refuses a request, with whatever error, keeps running for the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from mica_ray.rollout.engine import RequestRefused
from mica_ray.rollout.vllm.stepping import SteppingThread


class ClientError(Exception):
    """Like vLLM's own error of a request: no ValueError."""


@dataclass
class Output:
    request_id: str
    finished: bool = True


class RefusingEngine:
    """Refuses the first requests with the errors it is given, then replies."""

    def __init__(self, errors: list[Exception]) -> None:
        self._errors, self._waiting = errors, list[str]()

    def add_request(self, key: str, prompt: object, params: object, *, lora_request: object) -> None:
        if self._errors:
            raise self._errors.pop(0)
        self._waiting.append(key)

    def step(self) -> list[Output]:
        due, self._waiting = self._waiting, []
        return [Output(key) for key in due]

    def abort_request(self, keys: list[str]) -> None:
        self._waiting = [key for key in self._waiting if key not in keys]


ERRORS = [
    ClientError("parameter"),
    ValueError("stop"),
    TypeError("logit_bias"),
    OverflowError("int too big"),
    KeyError("token"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
]


async def test_a_refused_request_is_named_and_the_next_is_served() -> None:
    engine: Any = RefusingEngine(list(ERRORS))
    params: Any = None
    thread = SteppingThread(engine)
    try:
        for _ in ERRORS:
            with pytest.raises(RequestRefused, match="vLLM rejected the request"):
                await thread.generate([1, 2], params)
        assert (await thread.generate([1, 2], params)).finished
    finally:
        thread.close()
