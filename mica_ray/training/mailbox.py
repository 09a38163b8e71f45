"""The mailbox between driver (commands) and learner workers (replies), a Ray actor.

Commands form a log that is read by index, so a restarted group reads on from the index of its checkpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mica_ray.rollout.weights import WeightBucket


@dataclass(frozen=True, slots=True)
class Command:
    """One command to the worker group. All ranks run the same commands in the same order."""

    kind: Literal["update", "save", "restore", "send", "stop"]
    payload: object = None
    """update: a list with the reference of each rank's share; restore and save: the folder; send: the
    session. None for a send or save that has its reply, and for stop."""
    is_freed: bool = False
    """Whether the payload was dropped because no restart can go back to this command."""


@dataclass(frozen=True, slots=True)
class WorkerReply:
    """Rank 0's reply to a command."""

    version: int
    metrics: Mapping[str, float]
    num_starts: int = 1
    """Starts of the worker group so far."""
    error: str = ""
    """One line about an error that a restart cannot fix; empty without one."""


@dataclass(frozen=True, slots=True)
class RestartPoint:
    """Where a restarted group continues."""

    index: int = 0
    """Of the first command to run."""
    folder: str = ""
    """A complete checkpoint of the state before that command; empty for the policy itself."""


class Mailbox:
    """Holds commands and replies by index, and the newest weights. Each entry is written once.

    All methods are coroutines of one event loop, so state changes need no lock.
    """

    def __init__(self, num_ranks: int = 1, store: Callable[[WeightBucket], object] | None = None) -> None:
        """Start empty.

        Args:
            num_ranks: of the group; so many reports complete a save.
            store: puts a bucket where it outlives its sender, and returns what `weights` returns for it; None
                copies it.
        """
        self._num_ranks = num_ranks
        self._store = store or _copied
        self._arriving: dict[str, list[object]] = {}
        self._written: dict[int, dict[int, str]] = {}
        self._commands: list[Command] = []
        self._answers: dict[int, WorkerReply] = {}
        self._version: int | None = None
        self._buckets: Sequence[object] = ()
        self._error = ""
        self._num_starts = 0
        self._restart = RestartPoint()
        self._changed = asyncio.Event()

    async def put(self, command: Command) -> int:
        """Append a command and return its index."""
        self._commands.append(command)
        self._announce()
        return len(self._commands) - 1

    async def take(self, index: int, *, wait_seconds: float) -> Command | None:
        """Return the command at an index, or None when the wait ends without one.

        Raises:
            ValueError: its payload was freed, because a checkpoint covers it.
        """
        await self._until(lambda: index < len(self._commands), wait_seconds)
        if index >= len(self._commands):
            return None
        if self._commands[index].is_freed:
            raise ValueError(
                f"Command {index} is no longer stored: a checkpoint continues at command "
                f"{self._restart.index}. Rerun with --resume."
            )
        command = self._commands[index]
        is_over = {"send": index in self._answers, "save": self._is_written(index)}
        if is_over.get(command.kind, False):
            # After a restart: those engines no longer wait, and that folder is complete.
            return replace(command, payload=None)
        return command

    async def hold(self, start: str, bucket: WeightBucket) -> None:
        """Store one bucket of weights that the next `ready` or `answer` of this start of the group completes.

        The sender keeps one bucket at a time, and the weights of a sender that dies are never mixed with
        those of the next.
        """
        self._arriving.setdefault(start, []).append(self._store(bucket))

    async def ready(self, start: str, version: int) -> None:
        """Record that the group (re)started; what it holds here are its weights."""
        self._num_starts += 1
        self._keep(version, self._arrived(start))
        self._announce()

    async def answer(self, start: str, index: int, answer: WorkerReply) -> None:
        """Store rank 0's reply to a command, with the weights that it holds here.

        A second reply, after a restart, is ignored.
        """
        buckets = self._arrived(start)
        if index in self._answers:
            return
        self._answers[index] = replace(answer, num_starts=self._num_starts)
        self._keep(answer.version, buckets, is_restored=self._commands[index].kind == "restore")
        self._announce()

    async def fail(self, line: str) -> None:
        """Record an error that a restart cannot fix. The first one is kept."""
        self._error = self._error or line
        self._announce()

    async def give_up(self, index: int, line: str) -> None:
        """Reply to a command with an error in place of the group; an existing reply is kept."""
        await self.answer("", index, WorkerReply(version=self._version or 0, metrics={}, error=line))

    async def wait(self, index: int) -> WorkerReply:
        """Wait for the reply to a command, or for the error that prevents it."""
        await self._until(lambda: index in self._answers or bool(self._error))
        return (
            self._answers[index]
            if index in self._answers
            else WorkerReply(version=-1, metrics={}, error=self._error)
        )

    async def wait_ready(self) -> WorkerReply:
        """Wait for the version that the group started with, or for its error."""
        await self._until(lambda: self._version is not None or bool(self._error))
        version = self._version if self._version is not None else -1
        return WorkerReply(version=version, metrics={}, num_starts=self._num_starts, error=self._error)

    async def weights(self) -> tuple[object, ...]:
        """Return the newest weights, what `store` returned for each bucket.

        Raises:
            ValueError: the group has not started yet, or sends its weights itself.
        """
        if not self._buckets:
            raise ValueError(
                "The mailbox has no weights. Await wait_ready() first; with a route rank 0 sends them itself."
            )
        return tuple(self._buckets)

    async def checkpointed(self, point: RestartPoint) -> None:
        """Record a complete checkpoint, and free the payloads of all commands before it."""
        for position in range(self._restart.index, point.index):
            self._commands[position] = replace(self._commands[position], payload=None, is_freed=True)
        if point.index > self._restart.index:
            self._restart = point

    async def written(self, index: int, rank: int, line: str) -> None:
        """Record that a rank has written its part of a save command, or its error."""
        self._written.setdefault(index, {})[rank] = line
        self._announce()

    async def wait_written(self, index: int) -> WorkerReply:
        """Wait until all ranks have written their parts; the reply has the first error, by rank."""
        await self._until(lambda: self._is_written(index) or bool(self._error))
        lines = self._written.get(index, {})
        first = next((lines[rank] for rank in sorted(lines) if lines[rank]), "")
        return WorkerReply(self._version or 0, {}, error=first if self._is_written(index) else self._error)

    async def restart(self) -> RestartPoint:
        """Return where a (re)started group continues; saves that are not complete will be written again."""
        self._written = {index: lines for index, lines in self._written.items() if self._is_written(index)}
        return self._restart

    def _is_written(self, index: int) -> bool:
        return len(self._written.get(index, {})) == self._num_ranks

    def _arrived(self, start: str) -> Sequence[object]:
        """Return the buckets of one start of the group; forget them and those of earlier starts."""
        found = self._arriving.get(start, ())
        self._arriving = {}
        return found

    def _keep(self, version: int, buckets: Sequence[object], *, is_restored: bool = False) -> None:
        """Keep weights unless newer ones are kept; a restarted group repeats earlier versions."""
        if self._version is None or is_restored or version > self._version:
            self._version = version
            self._buckets = buckets or self._buckets

    def _announce(self) -> None:
        """Wake every waiter; each checks its own condition."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, is_met: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until a condition holds, at most for this time."""

        async def met() -> None:
            while not is_met():
                await self._changed.wait()

        try:
            await asyncio.wait_for(met(), seconds)
        except TimeoutError:
            return


def _copied(bucket: WeightBucket) -> WeightBucket:
    """Return a copy: the sender's memory is freed when the sender dies."""
    return replace(bucket, data=bucket.data.copy())
