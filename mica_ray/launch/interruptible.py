"""Long work in a thread that stops when the coroutine waiting for it is cancelled."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")
_STOP_SECONDS = 10.0
"""Longest wait for a thread inside a library's call, which cannot be interrupted."""


class Interrupted(BaseException):
    """Raised inside the thread when its work is no longer wanted. No `except Exception` catches it."""


async def in_thread(work: Callable[[], _Value]) -> _Value:
    """Run work in a thread of its own and return its value.

    `asyncio.to_thread` cannot be cancelled: its thread works on, and the program waits for it at its end.
    Here a cancellation, which Ctrl-C and SIGTERM cause, raises `Interrupted` in the thread at its next line
    of Python and waits until the work has cleaned up.

    Args:
        work: mostly Python, or short calls into libraries.

    Raises:
        BaseException: what the work raised.
    """
    thread = _Worker(work, asyncio.get_running_loop())
    thread.start()
    try:
        # Shielded, because the future belongs to the thread: a cancelled one could not be awaited again.
        return await asyncio.shield(thread.future)
    except asyncio.CancelledError:
        thread.interrupt()
        done, _ = await asyncio.wait([thread.future], timeout=_STOP_SECONDS)
        for future in done:
            future.exception()  # Otherwise asyncio reports that nobody read it.
        raise


class _Worker(threading.Thread, Generic[_Value]):
    """Runs the work and stores its outcome in a future of the event loop."""

    def __init__(self, work: Callable[[], _Value], loop: asyncio.AbstractEventLoop) -> None:
        # A daemon: a thread that does not stop in time must not keep the program alive.
        super().__init__(name="interruptible work", daemon=True)
        self.future: asyncio.Future[_Value] = loop.create_future()
        self._work, self._loop = work, loop

    def run(self) -> None:
        """Do the work."""
        try:
            value = self._work()
            self._settle(lambda: self.future.set_result(value))
        except BaseException as error:
            # Held by another name: Python deletes `error` at the end of the block.
            raised = error
            self._settle(lambda: self.future.set_exception(raised))

    def interrupt(self) -> None:
        """Raise `Interrupted` in this thread, unless it has ended."""
        assert self.ident is not None, "the thread was started"
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(Interrupted))

    def _settle(self, outcome: Callable[[], None]) -> None:
        # An interruption can come after the work has ended, which settles twice. The loop may be closed if
        # the thread did not stop in time.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: None if self.future.done() else outcome())
