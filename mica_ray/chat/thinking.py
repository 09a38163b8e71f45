"""Separates a model's thoughts from its reply, by one rule for every role and server."""

from __future__ import annotations

import re
from dataclasses import dataclass

OPENINGS = ("<think>", "<thinking>", "<thought>", "<reasoning>")
"""Tags that open a thought; the same tags with a slash close it."""

_MARKS = (*OPENINGS, *(mark.replace("<", "</") for mark in OPENINGS))
_OPENING = re.compile("|".join(OPENINGS))
_CLOSING = re.compile("|".join(_MARKS[len(OPENINGS) :]))
_MARK = re.compile("|".join(_MARKS))


class UnclosedThoughtError(ValueError):
    """The model was cut off inside a thought, so that there is no reply."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A reply and the thoughts before it."""

    text: str
    """The reply; unchanged if the output contains no thinking tag."""
    thinking: str = ""
    """The thoughts; empty if there are none or the server does not return them."""


def split_thinking(text: str, reasoning: str = "", *, is_open: bool = False) -> Spoken:
    """Split a model's output into reply and thoughts.

    Everything up to the last closing tag is thought, even without an opening tag: many chat templates put
    the opening tag into the prompt.

    Args:
        text: the model's output.
        reasoning: thoughts that the server has already separated.
        is_open: whether the prompt ended inside a thought.

    Raises:
        UnclosedThoughtError: the last thought is not closed.
    """
    *thoughts, spoken = _CLOSING.split(text)
    if _OPENING.search(spoken) or (is_open and not thoughts):
        raise UnclosedThoughtError(
            "The reply ends inside a thought. Raise max_tokens, or turn the model's thinking off."
        )
    if not thoughts:
        return Spoken(text, reasoning.strip())
    thought = _OPENING.sub("", "".join(thoughts)).strip()
    return Spoken(spoken.lstrip(), "\n".join(part for part in (reasoning.strip(), thought) if part))


class SpokenStream:
    """Splits a streamed output into reply and thoughts, chunk by chunk.

    Text that may be the beginning of a tag is held back until the next chunk. The parts do not depend on the
    chunk boundaries. They equal those of `split_thinking` if all thoughts are opened (by the output or the
    prompt) and precede the reply. Text that was already streamed cannot be taken back: text before a thought
    stays part of the reply, and a closing tag without an open thought is dropped.

    Args:
        is_open: whether the prompt ended inside a thought.

    Attributes:
        is_open: whether the output is inside a thought; after `end`, whether it was cut off there.
    """

    def __init__(self, *, is_open: bool = False) -> None:
        self.is_open = is_open
        self._rest = ""  # May be the beginning of a tag.
        self._blank: str = ""  # White space that may turn out to border a thought.
        self._has_mark = is_open
        self._has_thought = self._has_said = False

    def feed(self, piece: str) -> Spoken:
        """Return the parts that are certain after one more chunk."""
        text = self._rest + piece
        end = _certain_end(text)
        self._rest = text[end:]
        return self._parts(text[:end])

    def end(self) -> Spoken:
        """Return the text that was held back; there are no more chunks."""
        last = self._parts(self._rest)
        return last if self._has_mark or self._has_said else Spoken(self._blank)

    def _parts(self, text: str) -> Spoken:
        parts = {True: "", False: ""}
        begin = 0
        for mark in _MARK.finditer(text):
            parts[self.is_open] += self._without_edges(text[begin : mark.start()])
            self.is_open, self._has_mark = mark.group() in OPENINGS, True
            begin = mark.end()
        parts[self.is_open] += self._without_edges(text[begin:])
        return Spoken(text=parts[False], thinking=parts[True])

    def _without_edges(self, text: str) -> str:
        """Strip white space around thoughts; keep it in an output without a tag."""
        if self._has_said and not self.is_open:
            return text
        text = self._blank + text
        if self.is_open:
            body = text.rstrip()
            self._blank = text[len(body) :]
            body = body if self._has_thought else body.lstrip()
            self._has_thought = self._has_thought or bool(body)
            return body
        body = text.lstrip()
        self._has_said = bool(body)
        self._blank = "" if body else text
        return body if self._has_mark or not body else text


def _certain_end(text: str) -> int:
    """Return the index where a possible partial tag at the end begins, or the text's length."""
    last = text.rfind("<")
    is_begun = last >= 0 and any(mark.startswith(text[last:]) and mark != text[last:] for mark in _MARKS)
    return last if is_begun else len(text)
