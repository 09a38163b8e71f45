"""A thread that steps a synchronous vLLM engine and takes requests between two steps."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

from mica_ray.rollout.engine import EngineError, RequestRefused

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.llm_engine import LLMEngine


@dataclass(frozen=True, slots=True, eq=False)
class _Reply:
    """A reply being generated: its outputs, and the event loop that waits for them."""

    loop: asyncio.AbstractEventLoop
    outputs: asyncio.Queue[RequestOutput | EngineError] = field(default_factory=asyncio.Queue)


_Result = TypeVar("_Result")
_Due = dict[asyncio.AbstractEventLoop, list[tuple[_Reply, "RequestOutput | EngineError"]]]


class SteppingThread:
    """Steps the engine while there is something to generate, and sleeps otherwise.

    Only this thread touches the engine. Consumes prompts from any event loop, produces outputs. All outputs
    of one step are passed to a loop in one call, because each call makes both threads wait for the GIL.

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

    async def generate(
        self, prompt_ids: Sequence[int], params: SamplingParams, adapter: LoRARequest | None = None
    ) -> RequestOutput:
        """Generate one reply; cancelling the waiting task drops it from the engine.

        Args:
            prompt_ids: the prompt.
            params: must request the finished output only.
            adapter: a loaded adapter to compute with.

        Raises:
            EngineError: vLLM failed, in this call or an earlier one.
        """
        async with aclosing(self.stream(prompt_ids, params, adapter)) as outputs:
            return await anext(outputs)

    async def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams, adapter: LoRARequest | None = None
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate one reply and yield each output; closing the generator drops the reply.

        Raises:
            EngineError: vLLM failed, in this call or an earlier one.
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
                self._engine.add_request(
                    key, {"prompt_token_ids": list(prompt_ids)}, params, lora_request=adapter
                )
            except Exception as error:  # vLLM rejects this request, for whatever reason, and keeps running.
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

    async def call(self, action: Callable[[], _Result]) -> _Result:
        """Run an action between two steps of the engine; return what it returns, raise what it raises."""
        done: Future[_Result] = Future()

        def act() -> None:
            try:
                done.set_result(action())
            except Exception as error:  # Raised in the caller; the thread keeps running.
                done.set_exception(error)

        self._inbox.put(act)
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """Stop the thread; waiting requests fail."""
        self._inbox.put(None)
        self._thread.join(timeout=60)

    def _run(self) -> None:
        try:
            while self._take_messages():
                if self._replies:
                    # The engine has generation requests only.
                    self._deliver(cast("Sequence[RequestOutput]", self._engine.step()))
            self._fail(EngineError("The engine was closed."))
        except Exception as error:  # vLLM is in an unknown state: every waiting request must fail.
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
        """Run the actions of the inbox; wait for one when idle. Return False to stop the thread."""
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


def refusal(error: Exception) -> RequestRefused:
    """Return the error of one request that vLLM rejects; the engine keeps running."""
    return RequestRefused(f"vLLM rejected the request: {error}")


def bad_ending(reason: str) -> EngineError:
    """Return the error of a reply that ended neither by a stop token nor by its length."""
    return EngineError(f"vLLM ended a reply with {reason}. Check the engine's log.")


def failure(error: Exception) -> EngineError:
    """Return the error of an engine that no longer works."""
    return EngineError(f"vLLM failed with {type(error).__name__}: {error}")


def _hand_over(due: _Due) -> None:
    """Pass outputs to the event loops that wait for them; closed loops are skipped."""
    for loop, found in due.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_put_all, found)


def _put_all(found: list[tuple[_Reply, RequestOutput | EngineError]]) -> None:
    for reply, output in found:
        reply.outputs.put_nowait(output)
