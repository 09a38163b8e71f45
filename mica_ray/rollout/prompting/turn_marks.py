"""Turn marks that are ordinary text, such as "USER:" or Llama 2's [INST] without a token of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from mica_ray.control_marks import MARK, escape_marks, folded
from mica_ray.rollout.prompting.control_tokens import ControlTokens

_LONGEST = 40
"""Characters of the longest mark; a longer line is text of the template that ends in a mark."""
_LINE_START = r"(?:^|(?<=[\n\r\v\f\x85\u2028\u2029]))[^\S\n\r]*"
_PART_MARKS = r"<\|(?:start|channel|constrain|message|end|call)\|>"
_PART_BODY = rf"(?:(?!{_PART_MARKS}).)*"
_PART = rf"<\|channel\|>{_PART_BODY}(?:<\|constrain\|>{_PART_BODY})?<\|message\|>{_PART_BODY}"
_PART_END = r"<\|(?:end|call)\|>"
_CHANNELS = re.compile(
    rf"(?:{_PART}{_PART_END}<\|start\|>assistant)*{_PART}(?:{_PART_END})?|{_PART_BODY}", re.DOTALL
)
"""A reply of gpt-oss: thoughts and the reply itself, each a message of the assistant, or text only."""


def forges_channels(reply: str) -> bool:
    """Whether a reply of gpt-oss contains more than messages of the assistant."""
    return _CHANNELS.fullmatch(reply) is None


class TurnMarks:
    """The marks of one template, and text with these marks broken.

    Args:
        pieces: the template's text before the first content, between contents, and after the last.
        control: control tokens of its tokenizer.
        boundaries: the pieces, by index, at which another speaker begins.

    Attributes:
        pattern: finds the marks in folded text; None if the template has none.
    """

    def __init__(self, pieces: Sequence[str], control: ControlTokens, boundaries: Iterable[int]) -> None:
        texts = [_texts(piece, control) for piece in pieces]
        is_text_only = any(texts[index] == [pieces[index]] for index in boundaries if index < len(pieces))
        patterns = {re.escape(mark) for parts in texts for mark in MARK.findall(folded("\n".join(parts)))}
        if is_text_only:
            patterns |= {pattern for parts in texts for part in parts for pattern in _patterns(part)}
        ordered = sorted(patterns, key=len, reverse=True)
        self.pattern = re.compile("|".join(ordered), re.IGNORECASE) if ordered else None

    def broken_in(self, text: str) -> str:
        """Return the text with every mark broken; unchanged if it contains none."""
        return text if self.pattern is None else escape_marks(text, self.pattern)


def _texts(piece: str, control: ControlTokens) -> list[str]:
    """Return what is text in a piece: everything but its control tokens."""
    parts = control.split(piece) if control.has_spans else [piece]
    return [part for part in parts if isinstance(part, str)]


def _patterns(text: str) -> Iterator[str]:
    """Yield patterns of the marks in a text between two contents: its lines, wherever they occur."""
    for line in folded(text).splitlines():
        mark = MARK.sub("", line).strip()
        if len(mark) > _LONGEST:
            mark = mark.split()[-1]
            mark = mark if mark.endswith(":") else ""
        if not mark:
            continue
        escaped = r"\s+".join(map(re.escape, mark.split()))
        # A word is a mark only as a line of its own.
        is_word = mark.replace(" ", "").isalnum()
        yield rf"{_LINE_START}{escaped}(?=[^\S\n\r]*[\n\r])" if is_word else escaped
