"""One process at a time in a folder, on whatever node: a file that is locked as long as its process lives."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mica_ray.config.references import ConfigError

_POLL_SECONDS = 0.2


@contextmanager
def locked(path: Path, refusal: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold a file for this process; it is made when missing.

    Args:
        path: of the file.
        refusal: what another holder means, and the remedy.
        wait_seconds: for another holder to be gone.

    Raises:
        ConfigError: with the refusal.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise ConfigError(f"{path}: {refusal}") from None
                time.sleep(_POLL_SECONDS)
        yield
