"""How fast a reply grows, so that a stream of one can be cut into pieces that each take about so long."""

from __future__ import annotations

_AT_FIRST = 4
_AT_MOST = 64
_WEIGHT = 0.2
"""Of the newest reply: a pace of long ago says little once others share the engine."""


class ReplyPace:
    """Tokens per second of one reply, as a moving average over those that have ended.

    Counted in tokens and not by a clock, since vLLM then makes no output that nobody would be sent.
    """

    def __init__(self) -> None:
        self._tokens_per_second: float | None = None

    def tokens_in(self, seconds: float) -> int:
        """Give how many tokens a reply grows by in so many seconds: 1 to 64, and 4 before any has ended."""
        if self._tokens_per_second is None:
            return _AT_FIRST
        return max(1, min(_AT_MOST, round(self._tokens_per_second * seconds)))

    def add(self, num_tokens: int, seconds: float) -> None:
        """Take in a reply that has ended.

        Args:
            num_tokens: after its first piece.
            seconds: from its first piece to its last; a reply of one piece says nothing.
        """
        if num_tokens < 1 or seconds <= 0:
            return
        found = num_tokens / seconds
        known = self._tokens_per_second
        self._tokens_per_second = found if known is None else known + _WEIGHT * (found - known)
