"""How many tokens each key has used today. A file keeps the counts over a restart."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mica_ray.files import read_json_object, write_whole

_LOG = logging.getLogger(__name__)
_DAY_SECONDS = 86_400


class TokenBudget:
    """Counts tokens by key and by day of UTC.

    Args:
        path: JSON file of the counts; None counts in memory only.
        clock: returns the Unix time, seconds.
    """

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._day, self._used = _read(path)
        self._is_saved = True

    def used(self, owner: str) -> int:
        """Return the tokens that a key has used today."""
        self._turn_day()
        return self._used.get(owner, 0)

    def add(self, owner: str, tokens: int) -> None:
        """Count tokens of a key."""
        self._turn_day()
        if tokens:
            self._used[owner] = self._used.get(owner, 0) + tokens
            self._is_saved = False

    @property
    def seconds_left(self) -> int:
        """Seconds until the day ends, rounded up."""
        return math.ceil(_DAY_SECONDS - self._clock() % _DAY_SECONDS)

    def save(self) -> None:
        """Write the counts; a disk that fails is logged, and the counts stay in memory."""
        if self._path is None or self._is_saved:
            return
        try:
            write_whole(self._path, json.dumps({"day": self._day, "tokens": self._used}))
            self._is_saved = True
        except OSError as error:
            _LOG.error("%s cannot be written (%s). Check its folder.", self._path, error.strerror)

    def _turn_day(self) -> None:
        today = int(self._clock() // _DAY_SECONDS)
        if today != self._day:
            self._day, self._used = today, {}


def _read(path: Path | None) -> tuple[int, dict[str, int]]:
    if path is None or not path.is_file():
        return 0, {}
    try:
        content = read_json_object(path)
        day, used = content["day"], content["tokens"]
        if isinstance(day, int) and isinstance(used, Mapping):
            return day, {str(owner): int(tokens) for owner, tokens in used.items()}
    except (KeyError, TypeError, ValueError):
        pass
    # A service that does not start over a counter helps nobody; the operator sees the line.
    _LOG.error("%s is not a file of token counts. The day starts at 0; delete the file.", path)
    return 0, {}
