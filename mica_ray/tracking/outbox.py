"""A file of entries that a thread delivers in order, retrying during outages.

It does not interpret the entries; mlflow_tracker.py writes and delivers them.
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
"""Waits after failed deliveries, doubled each time: short outages end soon, long ones cost few attempts."""
_CHUNK_BYTES = 1 << 20
"""Bytes read from the file at once."""
_EVERY_STEP = 1 << 62
"""Step of `StepLog` that keeps all entries on reopening, because a delivery cannot be undone."""


class DeliveryError(Exception):
    """The receiver is unreachable; the same entries are delivered again later."""


class RefusedError(Exception):
    """The receiver refuses this entry permanently."""


class Deliver(Protocol):
    """Delivers entries in order; waits for the receiver within its own deadline."""

    def __call__(self, entries: Sequence[Entry]) -> int:
        """Deliver the first entry and any that can join it; return the number delivered.

        Entries whose delivery failed or was interrupted are passed again, so delivering an equal entry twice
        must have no effect.

        Raises:
            DeliveryError: nothing can be delivered now.
            RefusedError: the receiver refuses the first entry permanently.
        """
        ...


class Outbox:
    """Entries on the disk, and how far they are delivered. Waits only in `close`.

    FILE.sent next to the file contains the number of delivered bytes and is replaced after each delivery. A
    process killed in between delivers the last entries again, unchanged.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file, and drop an incomplete last line of a killed process."""
        self._log = StepLog(path, first_step=_EVERY_STEP)
        self._sent_file = path.with_name(f"{path.name}.sent")
        self._sent = int(self._sent_file.read_text()) if self._sent_file.is_file() else 0
        self._news, self._closing, self._given_up = (threading.Event() for _ in range(3))
        self._last_progress = time.monotonic()
        self._thread: threading.Thread | None = None

    @property
    def num_waiting(self) -> int:
        """Number of undelivered entries."""
        return sum(1 for _ in self._lines(limit=None))

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, delivered or not."""
        return self._log.rows()

    def put(self, step: int, entry: Entry) -> None:
        """Write an entry to the disk; the thread delivers it when it can."""
        self._log.append(step, [entry])
        self._news.set()

    def start(self, deliver: Deliver) -> None:
        """Start delivering in a daemon thread."""
        assert self._thread is None, "an outbox has one thread"
        self._thread = threading.Thread(target=self._run, args=(deliver,), name="outbox", daemon=True)
        self._thread.start()

    def close(self, patience_seconds: float) -> int:
        """Deliver the rest while deliveries succeed; return the number of undelivered entries.

        Args:
            patience_seconds: time without progress after which the rest stays on the disk.
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
                    _LOG.warning("%s. Metrics are stored in %s and sent later.", error, self._log.path)
                self._wait(failures)

    def _deliver(self, deliver: Deliver, lines: Sequence[bytes]) -> None:
        entries = [json.loads(line) for line in lines]
        try:
            count = deliver(entries)
        except RefusedError as error:
            # It stays in the file, but must not block the entries after it.
            _LOG.warning("%s. Skipped the entry: %s", error, lines[0][:200].decode(errors="replace"))
            count = 1
        self._sent += sum(map(len, lines[:count]))
        scratch = self._sent_file.with_name(f"{self._sent_file.name}.{os.getpid()}.part")
        scratch.write_text(f"{self._sent}\n")
        os.replace(scratch, self._sent_file)
        self._last_progress = time.monotonic()

    def _wait(self, failures: int) -> None:
        """Wait before the next attempt; briefly while closing, since `close` has a deadline."""
        if self._closing.is_set():
            self._given_up.wait(FIRST_RETRY_SECONDS)
        else:
            self._closing.wait(min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** (failures - 1)))

    def _lines(self, *, limit: int | None) -> Iterator[bytes]:
        """Yield complete undelivered lines, at least one, up to `limit` bytes."""
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
