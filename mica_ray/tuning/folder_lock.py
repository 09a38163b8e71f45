"""A lock file that one process at a time holds, on any node. It is freed when the process ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mica_ray.config.references import ConfigError

_POLL_SECONDS = 0.2


@contextmanager
def locked(path: Path, refusal: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold a lock file for the duration of the context.

    Args:
        path: of the lock file; created when missing, kept after release.
        refusal: who holds the lock otherwise, and what to do.
        wait_seconds: how long to wait for another holder.

    Raises:
        ConfigError: another process still holds the lock. The message is the path and `refusal`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        hold = FileLock(path).acquire(timeout=wait_seconds, poll_interval=_POLL_SECONDS)
    except Timeout as error:
        raise ConfigError(f"{path}: {refusal}") from error
    with hold:
        yield
