"""One thread that steps a synchronous vLLM engine, behind futures. Requests reach it between two steps."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from mica_ray.rollout.engine import EngineError

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.llm_engine import LLMEngine


@dataclass(frozen=True, slots=True, eq=False)
class _Reply:
    """A reply in the making: its outputs, and the loop of whoever waits for them."""

    loop: asyncio.AbstractEventLoop
    outputs: asyncio.Queue[RequestOutput | EngineError] = field(default_factory=asyncio.Queue)


_Due = dict[asyncio.AbstractEventLoop, list[tuple[_Reply, "RequestOutput | EngineError"]]]


class SteppingThread:
    """Drives the engine while there is something to generate, and sleeps otherwise.

    The engine is touched by this thread alone. Consumes prompts from any event loop, produces outputs: those
    of one step reach a loop together, since each call into it costs both threads a turn at the interpreter.

    Args:
        engine: vLLM's synchronous engine.
    """

    def __init__(self, engine: LLMEngine) -> None:
        self._engine = engine
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._replies: dict[str, _Reply] = {}
        self._number = 0
        self._error: EngineError | None = None
        self._thread = threading.Thread(target=self._run, name="vllm-steps", daemon=True)
        self._thread.start()

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> RequestOutput:
        """Generate one reply; when the waiting task is cancelled, the engine drops it.

        Args:
            prompt_ids: the prompt.
            params: asks for the finished output alone.

        Raises:
            EngineError: vLLM failed, now or before.
        """
        async with aclosing(self.stream(prompt_ids, params)) as outputs:
            return await anext(outputs)

    async def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate one reply and give each output as it comes; closing the generator drops the reply.

        Raises:
            EngineError: vLLM failed, now or before.
        """
        if self._error is not None:
            raise self._error
        reply = _Reply(asyncio.get_running_loop())
        key = str(self._number)
        self._number += 1

        def add() -> None:
            if self._error is not None:
                _hand_over({reply.loop: [(reply, self._error)]})
                return
            try:
                self._engine.add_request(key, {"prompt_token_ids": list(prompt_ids)}, params)
            except ValueError as error:  # vLLM refuses this request alone.
                _hand_over({reply.loop: [(reply, refusal(error))]})
            else:
                self._replies[key] = reply

        self._inbox.put(add)
        is_finished = False
        try:
            while not is_finished:
                output = await reply.outputs.get()
                if isinstance(output, EngineError):
                    raise output
                is_finished = output.finished
                yield output
        finally:
            if not is_finished:
                self._inbox.put(lambda: self._drop(key))

    async def call(self, action: Callable[[], None]) -> None:
        """Do something to the engine between two steps. What it raises is raised here."""
        done: Future[None] = Future()

        def act() -> None:
            try:
                action()
            except Exception as error:  # Belongs to the caller; the thread goes on.
                done.set_exception(error)
            else:
                done.set_result(None)

        self._inbox.put(act)
        await asyncio.wrap_future(done)

    def close(self) -> None:
        """End the thread; what still waits fails."""
        self._inbox.put(None)
        self._thread.join(timeout=60)

    def _run(self) -> None:
        try:
            while self._take_messages():
                if self._replies:
                    # Only generation is asked of the engine.
                    self._deliver(cast("Sequence[RequestOutput]", self._engine.step()))
            self._fail(EngineError("the engine was closed"))
        except Exception as error:  # vLLM is in an unknown state: everyone must hear of it.
            self._fail(failure(error))
            while (message := self._inbox.get()) is not None:
                message()

    def _deliver(self, outputs: Sequence[RequestOutput]) -> None:
        due: _Due = defaultdict(list)
        for output in outputs:
            reply = self._replies.get(output.request_id)
            if reply is None:
                continue
            due[reply.loop].append((reply, output))
            if output.finished:
                del self._replies[output.request_id]
        _hand_over(due)

    def _take_messages(self) -> bool:
        """Do what the inbox asks; with nothing to generate, wait for it. False when asked to end."""
        while not self._replies or not self._inbox.empty():
            message = self._inbox.get()
            if message is None:
                return False
            message()
        return True

    def _drop(self, key: str) -> None:
        if self._replies.pop(key, None) is not None:
            self._engine.abort_request([key])

    def _fail(self, error: EngineError) -> None:
        self._error = error
        due: _Due = defaultdict(list)
        for reply in self._replies.values():
            due[reply.loop].append((reply, error))
        self._replies.clear()
        _hand_over(due)


def refusal(error: ValueError) -> EngineError:
    """Say that vLLM refuses one request and goes on."""
    return EngineError(f"vLLM refuses the request: {error}")


def failure(error: Exception) -> EngineError:
    """Say that vLLM has failed."""
    return EngineError(f"vLLM failed: {type(error).__name__}: {error}")


def _hand_over(due: _Due) -> None:
    """Give what is due to the loops that wait; one that has ended waits no more."""
    for loop, found in due.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_put_all, found)


def _put_all(found: list[tuple[_Reply, RequestOutput | EngineError]]) -> None:
    for reply, output in found:
        reply.outputs.put_nowait(output)
