"""What a thinking model says apart from what it thinks. One rule for every role and every server."""

from __future__ import annotations

import re
from dataclasses import dataclass

OPENINGS = ("<think>", "<thinking>", "<thought>", "<reasoning>")
"""What models write before they think; the same with a slash comes after."""

_OPENING = re.compile("|".join(OPENINGS))
_CLOSING = re.compile("|".join(mark.replace("<", "</") for mark in OPENINGS))


class UnclosedThoughtError(ValueError):
    """The model was cut off while it thought: it said nothing."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A reply in its two parts."""

    text: str
    """What was said; as it came where there is no mark of thinking."""
    thinking: str = ""
    """What was thought; empty where nothing was, or where the server keeps it to itself."""


def split_thinking(text: str, reasoning: str = "", *, is_open: bool = False) -> Spoken:
    """Take the thinking out of a reply.

    All up to the last closing mark is thought, whether or not its opening mark was sampled: many chat
    templates put that one into the prompt.

    Args:
        text: the reply.
        reasoning: what the server had already taken out.
        is_open: the prompt ended inside a thought.

    Raises:
        UnclosedThoughtError: a thought was begun and not finished.
    """
    *thoughts, spoken = _CLOSING.split(text)
    if _OPENING.search(spoken) or (is_open and not thoughts):
        raise UnclosedThoughtError(
            "the reply ends inside its thinking: raise max_tokens, or turn the model's thinking off"
        )
    if not thoughts:
        return Spoken(text, reasoning.strip())
    thought = _OPENING.sub("", "".join(thoughts)).strip()
    return Spoken(spoken.lstrip(), "\n".join(part for part in (reasoning.strip(), thought) if part))
