"""The speed of replies in tokens per second, to cut streams into chunks of equal duration."""

from __future__ import annotations

_AT_FIRST = 4
"""Tokens per chunk before any reply was measured."""
_AT_MOST = 64
_WEIGHT = 0.2
"""Weight of the newest reply in the average, since the pace changes with the load of the engine."""


class ReplyPace:
    """Tokens per second of a reply, as a moving average over finished replies.

    A chunk is a number of tokens and not a timer, so that vLLM produces no output between two chunks.
    """

    def __init__(self) -> None:
        self._tokens_per_second: float | None = None

    def tokens_in(self, seconds: float) -> int:
        """Return the tokens sampled in this time: 1 to 64, and 4 before any reply has ended."""
        if self._tokens_per_second is None:
            return _AT_FIRST
        return max(1, min(_AT_MOST, round(self._tokens_per_second * seconds)))

    def add(self, num_tokens: int, seconds: float) -> None:
        """Add a finished reply to the average.

        Args:
            num_tokens: after the first chunk.
            seconds: from the first chunk to the last; a reply of one chunk is ignored.
        """
        if num_tokens < 1 or seconds <= 0:
            return
        found = num_tokens / seconds
        known = self._tokens_per_second
        self._tokens_per_second = found if known is None else known + _WEIGHT * (found - known)
