"""A file of entries that a thread delivers in order, however long their receiver is away.

What the entries mean is the business of whoever delivers them: mlflow_tracker.py.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mica_ray.files import StepLog

_LOG = logging.getLogger(__name__)

Entry = Mapping[str, object]

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.5, 15.0
"""Waits after a failed delivery, doubled from the first to the last: a receiver that comes back is found
soon, and one that does not is left alone."""
_CHUNK_BYTES = 1 << 20
"""Read at once from the file."""
_EVERY_STEP = 1 << 62
"""No entry is ever dropped: what was delivered cannot be taken back."""


class DeliveryError(Exception):
    """The receiver is away or does not answer; the same entries are delivered again later."""


class RefusedError(Exception):
    """The receiver will never take this entry."""


class Deliver(Protocol):
    """Hands entries over. Consumes entries in order; waits for the receiver, within its own deadline."""

    def __call__(self, entries: Sequence[Entry]) -> int:
        """Deliver the first of the entries, and as many after it as go with it; give how many.

        It may be called again with entries whose delivery failed or was cut off: a second delivery of an
        equal entry must change nothing.

        Raises:
            DeliveryError: nothing can be delivered now.
            RefusedError: the first entry will never be taken.
        """
        ...


class Outbox:
    """Entries on the disk, and how far they are delivered. Consumes entries at once, waits only in `close`.

    Beside the file, FILE.sent holds the byte up to which it is delivered, renamed into place after each
    delivery: a process killed in between delivers the last entries again, unchanged.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, made when missing, and drop a line that a kill cut short."""
        self._log = StepLog(path, first_step=_EVERY_STEP)
        self._sent_file = path.with_name(f"{path.name}.sent")
        self._sent = int(self._sent_file.read_text()) if self._sent_file.is_file() else 0
        self._news, self._closing, self._given_up = (threading.Event() for _ in range(3))
        self._last_progress = time.monotonic()
        self._thread: threading.Thread | None = None

    @property
    def num_waiting(self) -> int:
        """Entries that are not delivered."""
        return sum(1 for _ in self._lines(limit=None))

    def entries(self) -> Iterator[Entry]:
        """Give every entry ever put in, delivered or not."""
        return self._log.rows()

    def put(self, step: int, entry: Entry) -> None:
        """Write an entry to the disk; it is delivered once it can be."""
        self._log.append(step, [entry])
        self._news.set()

    def start(self, deliver: Deliver) -> None:
        """Begin to deliver, in a thread that ends with the process."""
        assert self._thread is None, "an outbox has one thread"
        self._thread = threading.Thread(target=self._run, args=(deliver,), name="outbox", daemon=True)
        self._thread.start()

    def close(self, patience_seconds: float) -> int:
        """Deliver what is left, as long as something gets through; give the number of entries still waiting.

        Args:
            patience_seconds: without any progress, after which the rest stays on the disk.
        """
        self._last_progress = time.monotonic()
        self._closing.set()
        self._news.set()
        while (
            self._thread is not None
            and self._thread.is_alive()
            and time.monotonic() - self._last_progress < patience_seconds
        ):
            self._thread.join(0.05)
        self._given_up.set()
        return self.num_waiting

    def _run(self, deliver: Deliver) -> None:
        failures = 0
        while not self._given_up.is_set():
            self._news.clear()
            lines = list(self._lines(limit=_CHUNK_BYTES))
            if not lines:
                if self._closing.is_set():
                    return
                self._news.wait()
                continue
            try:
                self._deliver(deliver, lines)
                failures = 0
            except DeliveryError as error:
                failures += 1
                if failures == 1:
                    _LOG.warning("%s; metrics wait in %s", error, self._log.path)
                self._wait(failures)

    def _deliver(self, deliver: Deliver, lines: Sequence[bytes]) -> None:
        entries = [json.loads(line) for line in lines]
        try:
            count = deliver(entries)
        except RefusedError as error:
            # It stays in the file, but must not keep back those behind it.
            _LOG.warning("%s; left out: %s", error, lines[0][:200].decode(errors="replace"))
            count = 1
        self._sent += sum(map(len, lines[:count]))
        scratch = self._sent_file.with_name(f"{self._sent_file.name}.{os.getpid()}.part")
        scratch.write_text(f"{self._sent}\n")
        os.replace(scratch, self._sent_file)
        self._last_progress = time.monotonic()

    def _wait(self, failures: int) -> None:
        """Wait before the next attempt; while closing only briefly, as `close` bounds the whole."""
        if self._closing.is_set():
            self._given_up.wait(FIRST_RETRY_SECONDS)
        else:
            self._closing.wait(min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** (failures - 1)))

    def _lines(self, *, limit: int | None) -> Iterator[bytes]:
        """Give whole lines not yet delivered, up to so many bytes and at least one."""
        if not self._log.path.exists():
            return
        with self._log.path.open("rb") as file:
            file.seek(self._sent)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield line
                if limit is not None and file.tell() - self._sent >= limit:
                    return
