"""Which models answered the same conversation for the same key: what a vote on two models refers to."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from mica_ray.types import Message

_MAX_CONVERSATIONS = 1000
"""Of each key: the requests of one do not displace the conversations of another."""
_SECONDS = 3600.0
"""Time in which a person votes on a pair of replies."""


class RecentReplies:
    """Remembers who answered what, without the text: a keyed fingerprint of each conversation.

    Args:
        clock: monotonic, seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._models: dict[str, OrderedDict[bytes, tuple[float, set[str]]]] = {}

    def add(self, owner: str, messages: Sequence[Message], model: str) -> None:
        """Remember that a model has answered a conversation of a key."""
        own, key = self._models.setdefault(owner, OrderedDict()), self._fingerprint(messages)
        _, models = own.pop(key, (0.0, set[str]()))
        own[key] = (self._clock(), models | {model})
        if len(own) > _MAX_CONVERSATIONS:
            own.popitem(last=False)

    def take(self, owner: str, models: set[str]) -> bool:
        """Forget the latest conversation that all these models answered; return whether there was one."""
        earliest = self._clock() - _SECONDS
        own = self._models.get(owner, OrderedDict[bytes, tuple[float, set[str]]]())
        for key, (answered_at, answered) in reversed(own.items()):
            if answered_at < earliest:
                return False
            if models <= answered:
                del own[key]
                return True
        return False

    def _fingerprint(self, messages: Sequence[Message]) -> bytes:
        text = json.dumps([[message["role"], message["content"]] for message in messages])
        return hashlib.blake2b(text.encode(), key=self._secret, digest_size=16).digest()
