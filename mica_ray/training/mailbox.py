"""Where the driver leaves commands and the learner's workers leave answers; ray_learner.py makes it an actor.

The commands form a log read by index, so a restarted group reads again from the index of its checkpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mica_ray.rollout.weights import WeightBucket


@dataclass(frozen=True, slots=True)
class Command:
    """One thing the worker group shall do; all ranks do the same commands in the same order."""

    kind: Literal["update", "save", "restore", "send", "stop"]
    payload: object = None
    """update: a one-element list with the reference of the batch; restore: the folder; send: the session, or
    None when it is over; else None."""
    is_freed: bool = False
    """Whether the payload is gone because the group can no longer fall back behind this command."""


@dataclass(frozen=True, slots=True)
class WorkerReply:
    """What rank 0 says after a command."""

    version: int
    metrics: Mapping[str, float]
    folder: str = ""
    """Where a checkpoint lies; empty for other commands."""
    num_starts: int = 1
    """How often the worker group has been started."""
    error: str = ""
    """First line of what went wrong for good; empty when nothing did."""


class Mailbox:
    """Commands by index, answers by index, the newest weights. Consumes from both sides; nobody writes twice.

    All methods are coroutines of one event loop, so state changes need no lock.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._commands: list[Command] = []
        self._answers: dict[int, WorkerReply] = {}
        self._version: int | None = None
        self._bucket: WeightBucket | None = None
        self._error = ""
        self._num_starts = 0
        self._kept_from = 0
        self._changed = asyncio.Event()

    async def put(self, command: Command) -> int:
        """Append a command; gives its index."""
        self._commands.append(command)
        self._announce()
        return len(self._commands) - 1

    async def take(self, index: int, *, wait_seconds: float) -> Command | None:
        """Give the command at an index, or None when there is none yet after the wait.

        Raises:
            ValueError: its payload was freed already: the group fell back further than its checkpoints allow.
        """
        await self._until(lambda: index < len(self._commands), wait_seconds)
        if index >= len(self._commands):
            return None
        if self._commands[index].is_freed:
            raise ValueError(
                f"command {index} was freed: the workers restarted behind their last but one checkpoint"
            )
        command = self._commands[index]
        if command.kind == "send" and index in self._answers:
            return replace(command, payload=None)  # To a restarted group: those engines have gone on.
        return command

    async def ready(self, version: int, bucket: WeightBucket | None) -> None:
        """Hear from rank 0 that the group (re)started, with its weights unless it sends them itself."""
        self._num_starts += 1
        self._keep(version, bucket)

    async def answer(self, index: int, answer: WorkerReply, bucket: WeightBucket | None = None) -> None:
        """Take rank 0's answer to a command.

        The second answer to a command, after a restart, changes nothing.
        """
        if index in self._answers:
            return
        self._answers[index] = replace(answer, num_starts=self._num_starts)
        self._keep(answer.version, bucket, is_restored=self._commands[index].kind == "restore")
        self._announce()

    async def fail(self, line: str) -> None:
        """Hear that a worker met an error no restart will mend. The first one counts."""
        self._error = self._error or line
        self._announce()

    async def give_up(self, index: int, line: str) -> None:
        """Answer a command in the group's place; one that is answered stays so."""
        await self.answer(index, WorkerReply(version=self._version or 0, metrics={}, error=line))

    async def wait(self, index: int) -> WorkerReply:
        """Give the answer to a command once there is one, or the error that prevents it."""
        await self._until(lambda: index in self._answers or bool(self._error))
        return (
            self._answers[index]
            if index in self._answers
            else WorkerReply(version=-1, metrics={}, error=self._error)
        )

    async def wait_ready(self) -> WorkerReply:
        """Give the version the group started with, or the error that prevents it."""
        await self._until(lambda: self._version is not None or bool(self._error))
        version = self._version if self._version is not None else -1
        return WorkerReply(version=version, metrics={}, num_starts=self._num_starts, error=self._error)

    async def weights(self) -> WeightBucket:
        """Give the newest weights.

        Raises:
            ValueError: the group has not started yet, or sends its weights itself.
        """
        if self._bucket is None:
            raise ValueError("no weights here: wait_ready() first; a group with a route sends them itself")
        return self._bucket

    async def checkpointed(self, index: int) -> None:
        """Hear that a checkpoint was reported which continues at `index`.

        Frees what lies behind the one before it.

        One checkpoint more than needed is kept because the controller may not have registered the newest when
        a worker dies.
        """
        for position in range(self._kept_from):
            if not self._commands[position].is_freed:
                self._commands[position] = replace(self._commands[position], payload=None, is_freed=True)
        self._kept_from = max(self._kept_from, index)

    def _keep(self, version: int, bucket: WeightBucket | None, *, is_restored: bool = False) -> None:
        """Remember weights unless newer ones are known.

        A restarted group repeats versions it already published.
        """
        if self._version is None or is_restored or version > self._version:
            self._version = version
            if bucket is not None:
                # The sender's copy may lie in memory that goes when the sender dies.
                self._bucket = replace(bucket, data=bucket.data.copy())
        self._announce()

    def _announce(self) -> None:
        """Wake every waiter; each looks for itself."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, is_met: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until a condition holds or the seconds are over."""

        async def met() -> None:
            while not is_met():
                await self._changed.wait()

        try:
            await asyncio.wait_for(met(), seconds)
        except TimeoutError:
            return
