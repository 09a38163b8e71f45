"""The beginning of a dialogue that was played before: where an environment goes on without asking again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mica_ray.types import State


@dataclass(frozen=True, slots=True)
class Prefix:
    """Turns that were spoken and scored, and the user's message that waits for a reply."""

    spoken: tuple[tuple[str, str], ...]
    """(user message, reply) of the turns played, oldest first; empty at the opening."""
    states: tuple[State, ...]
    """P_0 ... P_t, points: one more than turns played."""
    user: str
    """The message that waits."""
    num_revealed: int = 0
    """Story fragments that the user has told, `user` included."""

    def __post_init__(self) -> None:
        """Refuse a path that does not fit the turns."""
        if len(self.states) != len(self.spoken) + 1:
            raise ValueError(
                f"states must be one more than the {len(self.spoken)} turns spoken; got {len(self.states)}"
            )

    @property
    def num_turns(self) -> int:
        """Turns played, which is the index of the turn to come."""
        return len(self.spoken)


def count_revealed(stages: Sequence[str], messages: Sequence[str]) -> int:
    """Count the story fragments that user messages have told, by finding each in its order, word for word.

    A record keeps what was said and not which fragment it was. An Actor that puts fragments into words of its
    own leaves some uncounted, and may be given one of them again.

    Args:
        stages: of the scenario, in order.
        messages: of the user, oldest first.
    """
    num_revealed = 0
    for message in messages:
        if num_revealed < len(stages) and _words(stages[num_revealed]) in _words(message):
            num_revealed += 1
    return num_revealed


def _words(text: str) -> str:
    return " ".join(text.split())
