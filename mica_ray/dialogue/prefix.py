"""The recorded beginning of a dialogue, from which an environment continues it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mica_ray.types import State


@dataclass(frozen=True, slots=True)
class Prefix:
    """Scored turns, and the user's message to reply to."""

    spoken: tuple[tuple[str, str], ...]
    """(user message, reply) of the turns, oldest first; empty at the opening."""
    states: tuple[State, ...]
    """P_0 ... P_t in points: one more than turns."""
    user: str
    """The message to reply to."""
    num_revealed: int = 0
    """Story fragments revealed so far, including in `user`."""

    def __post_init__(self) -> None:
        """Check that there is one state more than turns."""
        num_states = len(self.spoken) + 1
        if len(self.states) != num_states:
            raise ValueError(
                f"states must have {num_states} entries, one more than the turns, got {len(self.states)}."
            )

    @property
    def num_turns(self) -> int:
        """Number of turns, which is the index of the next turn."""
        return len(self.spoken)


def count_revealed(stages: Sequence[str], messages: Sequence[str]) -> int:
    """Count the story fragments that occur in user messages, in order and word for word.

    Recorded dialogues do not mark fragments. A fragment that the Actor rephrased is not counted, and may be
    revealed again.

    Args:
        stages: the scenario's stages, in order.
        messages: the user's messages, oldest first.
    """
    num_revealed = 0
    for message in messages:
        if num_revealed < len(stages) and _words(stages[num_revealed]) in _words(message):
            num_revealed += 1
    return num_revealed


def _words(text: str) -> str:
    return " ".join(text.split())
