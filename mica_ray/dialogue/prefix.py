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
    told: tuple[int, ...] = ()
    """Numbers of the story fragments revealed so far, including in `user`; from 1, in their order."""

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


def find_told(stages: Sequence[str], messages: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of the story fragments that occur in user messages word for word, in their order.

    Recorded dialogues do not mark fragments. A fragment that the Actor rephrased is not found, and may be
    revealed again. A message reveals one fragment at most.

    Args:
        stages: the scenario's stages; the first one has number 1.
        messages: the user's messages, oldest first.
    """
    told: list[int] = []
    for message in map(_words, messages):
        found = (
            number
            for number, stage in enumerate(stages, start=1)
            if number not in told and _words(stage) in message
        )
        told += [number for number in (next(found, None),) if number is not None]
    return tuple(told)


def _words(text: str) -> str:
    return " ".join(text.split())
