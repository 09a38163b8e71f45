"""What a thinking model says apart from what it thinks. One rule for every role and every server."""

from __future__ import annotations

import re
from dataclasses import dataclass

OPENINGS = ("<think>", "<thinking>", "<thought>", "<reasoning>")
"""What models write before they think; the same with a slash comes after."""

_MARKS = (*OPENINGS, *(mark.replace("<", "</") for mark in OPENINGS))
_OPENING = re.compile("|".join(OPENINGS))
_CLOSING = re.compile("|".join(_MARKS[len(OPENINGS) :]))
_MARK = re.compile("|".join(_MARKS))


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


class SpokenStream:
    """Takes the thinking out of a reply that comes piece by piece.

    Consumes pieces of text, produces the two parts of each as soon as they are certain: what may be the
    beginning of a mark waits for the next piece. However a reply is cut, its parts come out the same, and as
    `split_thinking` gives them where thoughts are opened, by the reply or by the prompt, and stand before all
    speech. Words once said cannot be taken back: speech before a thought stays speech, and a closing mark
    without a thought is left out.

    Args:
        is_open: the prompt ended inside a thought.

    Attributes:
        is_open: whether the reply is inside a thought; after `end`, that it was cut off there.
    """

    def __init__(self, *, is_open: bool = False) -> None:
        self.is_open = is_open
        self._rest = ""  # May be the beginning of a mark.
        self._blank: str = ""  # White space that may turn out to stand at the edge of a thought.
        self._has_mark = is_open
        self._has_thought = self._has_said = False

    def feed(self, piece: str) -> Spoken:
        """Give what has become certain by one more piece."""
        text = self._rest + piece
        end = _certain_end(text)
        self._rest = text[end:]
        return self._parts(text[:end])

    def end(self) -> Spoken:
        """Give what was held back: there are no more pieces."""
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
        """Take the white space off around thoughts; that of a reply without a mark stays."""
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
    """Give where the beginning of a mark starts that a text ends with; the text's length without one."""
    last = text.rfind("<")
    is_begun = last >= 0 and any(mark.startswith(text[last:]) and mark != text[last:] for mark in _MARKS)
    return last if is_begun else len(text)
