"""One thread that steps a synchronous vLLM engine, behind futures. Requests reach it between two steps."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, cast

from mica_ray.rollout.engine import EngineError

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.llm_engine import LLMEngine


class SteppingThread:
    """Drives the engine while there is something to generate, and sleeps otherwise.

    The engine is touched by this thread alone. Consumes prompts from any event loop, produces finished
    outputs.

    Args:
        engine: vLLM's synchronous engine.
    """

    def __init__(self, engine: LLMEngine) -> None:
        self._engine = engine
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._replies: dict[str, Future[RequestOutput]] = {}
        self._streams: dict[str, Callable[[RequestOutput | EngineError], None]] = {}
        self._number = 0
        self._error: EngineError | None = None
        self._thread = threading.Thread(target=self._run, name="vllm-steps", daemon=True)
        self._thread.start()

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> RequestOutput:
        """Generate one reply; when the waiting task is cancelled, the engine drops it.

        Raises:
            EngineError: vLLM failed, now or before.
        """
        reply: Future[RequestOutput] = Future()
        key = str(self._number)
        self._number += 1

        def add() -> None:
            if not reply.set_running_or_notify_cancel():
                return
            if self._error is not None:
                reply.set_exception(self._error)
                return
            try:
                self._engine.add_request(key, {"prompt_token_ids": list(prompt_ids)}, params)
            except ValueError as error:  # vLLM refuses this request alone.
                reply.set_exception(EngineError(f"vLLM refuses the request: {error}"))
            else:
                self._replies[key] = reply

        self._inbox.put(add)
        try:
            return await asyncio.wrap_future(reply)
        except asyncio.CancelledError:
            self._inbox.put(lambda: self._drop(key))
            raise

    async def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate one reply and give each output as it comes; closing the generator drops the reply.

        Raises:
            EngineError: vLLM failed, now or before.
        """
        loop = asyncio.get_running_loop()
        outputs: asyncio.Queue[RequestOutput | EngineError] = asyncio.Queue()
        key = str(self._number)
        self._number += 1

        def take(output: RequestOutput | EngineError) -> None:
            loop.call_soon_threadsafe(outputs.put_nowait, output)

        def add() -> None:
            if self._error is not None:
                take(self._error)
                return
            try:
                self._engine.add_request(key, {"prompt_token_ids": list(prompt_ids)}, params)
            except ValueError as error:  # vLLM refuses this request alone.
                take(EngineError(f"vLLM refuses the request: {error}"))
            else:
                self._streams[key] = take

        self._inbox.put(add)
        try:
            while True:
                output = await outputs.get()
                if isinstance(output, EngineError):
                    raise output
                yield output
                if output.finished:
                    return
        finally:
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
                for output in self._engine.step() if self._is_asked else ():
                    self._deliver(cast("RequestOutput", output))  # Only generation is asked of it.
            self._fail(EngineError("the engine was closed"))
        except Exception as error:  # vLLM is in an unknown state: everyone must hear of it.
            self._fail(EngineError(f"vLLM failed: {type(error).__name__}: {error}"))
            while (message := self._inbox.get()) is not None:
                message()

    @property
    def _is_asked(self) -> bool:
        return bool(self._replies or self._streams)

    def _deliver(self, output: RequestOutput) -> None:
        if (take := self._streams.get(output.request_id)) is not None:
            take(output)
            if output.finished:
                del self._streams[output.request_id]
            return
        reply = self._replies.pop(output.request_id, None) if output.finished else None
        if reply is not None:
            reply.set_result(output)

    def _take_messages(self) -> bool:
        """Do what the inbox asks; with nothing to generate, wait for it. False when asked to end."""
        while not self._is_asked or not self._inbox.empty():
            message = self._inbox.get()
            if message is None:
                return False
            message()
        return True

    def _drop(self, key: str) -> None:
        if self._replies.pop(key, None) is not None or self._streams.pop(key, None) is not None:
            self._engine.abort_request([key])

    def _fail(self, error: EngineError) -> None:
        self._error = error
        for reply in self._replies.values():
            reply.set_exception(error)
        self._replies.clear()
        for take in self._streams.values():
            take(error)
        self._streams.clear()
