"""Separates a model's thoughts from what it said, by one rule for every role, policy and server.

The marks of the model families are in thinking_marks.py.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from mica_ray.chat.thinking_marks import ANSWER_BEGUN, ANSWER_CLOSING, ANSWER_OPENING, KNOWN, Family, Marks

_BLANK = re.compile(r"[\s\ufeff\u200b\u2060]*")
_QUOTES = ("''", '""', "``", "“”", "‘’", "「」", "『』", "«»", "()", "（）")
_SENTENCE_ENDS = tuple(".!?。！？…")
_CLOSING_QUOTES = "\"'”’」』)）*_"
_DECODER = json.JSONDecoder(strict=False)
_MOST_OBJECTS = 16
"""Maximum number of opening braces to try; text before an answer may contain a few."""
_LONGEST_BLANK = 80
"""Characters after a mark that are white space if it is at the end of its line."""
_MESSAGE = "<|message|>"
"""Ends the header of gpt-oss's reply, whose end has a mark too."""


class UnclosedThoughtError(ValueError):
    """The model was cut off inside a thought, so that there is no reply."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A reply and the thoughts before it."""

    text: str
    """What was said; unchanged if the output has no thought."""
    thinking: str = ""
    """The thoughts; empty if there are none or the server does not return them."""


def split_thinking(
    text: str, reasoning: str = "", *, is_open: bool | None = None, marks: Marks = KNOWN
) -> Spoken:
    r"""Split a model's output into reply and thoughts.

    Marks count only at the start of the text, after white space and other thoughts, or where the prompt
    opened a thought. Everywhere else, and in quotes, they are ordinary text. A thought ends at the closing
    mark that balances it. If none does, because the thought mentions an opening mark, it ends at the last
    closing mark, unless another thought opens after that.

    If the prompt is unknown, it may have opened the thought. A closing mark without an opening one then ends
    a thought where prose has no such mark: at the end of a line, right after a sentence, or between two words
    without white space. This does not apply inside a JSON object, to text that starts as JSON or a code
    fence, or to servers that separated the reasoning.

    >>> split_thinking("<think>Loss.</think>That hurts.")
    Spoken(text='That hurts.', thinking='Loss.')
    >>> split_thinking("Write `</think>` to end it.").text
    'Write `</think>` to end it.'
    >>> split_thinking("A loss.\n</think>\n\nThat hurts.", is_open=None).text
    'That hurts.'

    Args:
        text: the model's output.
        reasoning: thoughts that the server has already separated.
        is_open: whether the prompt ended inside a thought; None if the prompt is unknown.
        marks: the marks to look for.

    Raises:
        UnclosedThoughtError: the thought is not closed, so that nothing was said.
    """
    stream = SpokenStream(is_open=bool(is_open), marks=marks)
    parts = (stream.feed(text), stream.end())
    if stream.is_open:
        raise UnclosedThoughtError(
            "The reply ends inside a thought. Raise max_tokens, or turn the model's thinking off."
        )
    spoken = Spoken("".join(part.text for part in parts), "".join(part.thinking for part in parts))
    if is_open is None and not stream.has_mark and not reasoning.strip():
        found = _lone_closing(text, marks)
        if found is not None:
            rest = split_thinking(text[found.end() :], is_open=False, marks=marks)
            thoughts = (text[: found.start()].strip(), rest.thinking)
            spoken = Spoken(_BLANK.sub("", rest.text, count=1), "\n".join(filter(None, thoughts)))
    thinking = "\n".join(part for part in (reasoning.strip(), spoken.thinking) if part)
    return Spoken(spoken.text, thinking)


class SpokenStream:
    """Splits a streamed output into reply and thoughts, chunk by chunk.

    The parts do not depend on the chunk boundaries and equal those of `split_thinking` for the same prompt.
    Text that may be the beginning of a mark is held back until the next chunk; so is the text after an inner
    closing mark, until a closing mark balances the thought or the output ends.

    Args:
        is_open: whether the prompt ended inside a thought.
        marks: the marks to look for.
    """

    def __init__(self, *, is_open: bool = False, marks: Marks = KNOWN) -> None:
        self._marks = marks
        self._family: Family | None = marks.of_prompt if is_open else None
        self._depth = 1
        self._is_pending = False
        """Whether the text held back follows an inner closing mark: a thought or the reply."""
        self._is_speaking = self._is_wrapped = False
        self._rest = ""
        self._line = ""  # The thought's current line, to recognize quotes.
        self._blank: str = ""  # White space that may end the thoughts.
        self._has_thought = False
        self.has_mark = is_open
        """Whether a mark was found so far, or the prompt opened a thought."""

    @property
    def is_open(self) -> bool:
        """Whether the output is inside a thought; after `end`, whether it was cut off there."""
        return self._family is not None

    def feed(self, piece: str) -> Spoken:
        """Return the parts that are certain after one more chunk."""
        self._rest += piece
        return self._certain(is_last=False)

    def end(self) -> Spoken:
        """Return the text that was held back; there are no more chunks."""
        return self._certain(is_last=True)

    def _certain(self, *, is_last: bool) -> Spoken:
        text, thinking, goes_on = "", "", True
        while goes_on:
            if self._family is not None:
                thought, goes_on = self._think_on(self._family, is_last)
                thinking += thought
            elif self._is_speaking:
                text, goes_on = text + self._speak_on(is_last), False
            else:
                thought, goes_on = self._start(is_last)
                thinking += thought
        return Spoken(text, thinking)

    def _start(self, is_last: bool) -> tuple[str, bool]:
        """Look for a mark at the start; return the white space between thoughts, and whether to go on."""
        blank, body = self._split_blank()
        if (opened := self._marks.opening_at_start(body)) is not None:
            self._family, end = opened
            self._depth, self._line = 1, ""
            return self._found(blank, body[end:])
        # A closing mark without a thought: the model's thinking is off.
        if (empty := self._marks.empty.match(body)) is not None:
            self._is_wrapped = empty.group().endswith(_MESSAGE)
            return self._found(blank, body[empty.end() :])
        wrapper = ANSWER_OPENING.match(body)
        if wrapper is not None and (self.has_mark or wrapper.group("special")):
            self._is_wrapped = True
            return self._found("", body[wrapper.end() :])
        if not is_last and (not body or self._marks.may_begin(body)):
            return "", False
        self._is_speaking = True
        self._rest = body if self.has_mark else self._rest
        return "", True

    def _split_blank(self) -> tuple[str, str]:
        found = _BLANK.match(self._rest)
        end = 0 if found is None else found.end()
        return self._rest[:end], self._rest[end:]

    def _found(self, blank: str, rest: str) -> tuple[str, bool]:
        self.has_mark, self._rest = True, rest
        return self._thought(blank if self._has_thought else ""), True

    def _think_on(self, family: Family, is_last: bool) -> tuple[str, bool]:
        """Read the thought up to its next mark; return the certain part, and whether to go on."""
        found = self._next_mark(family, is_last)
        if found is None:
            return self._hold_back(family, is_last)
        if not is_last and found.end() == len(self._rest):
            # The next character decides whether the mark is quoted.
            if self._is_pending:
                return "", False
            thought, self._rest = self._rest[: found.start()], self._rest[found.start() :]
            return self._thought(thought), False
        thought = self._thought(self._rest[: found.start()])
        self._rest = self._rest[found.end() :]
        self._line += found.group()
        self._depth += {"opening": 1, "closing": -1}.get(found.lastgroup or "", 0)
        self._is_pending = found.lastgroup == "closing" and self._depth > 0
        self._is_wrapped = found.group().endswith(_MESSAGE)
        if self._depth == 0:
            self._family = None
        return thought, True

    def _hold_back(self, family: Family, is_last: bool) -> tuple[str, bool]:
        if self._is_pending:
            if is_last:
                self._family, self._is_pending = None, False
            return "", is_last
        begun = None if is_last else family.inner_begun.search(self._rest)
        end = len(self._rest) if begun is None else begun.start()
        thought, self._rest = self._rest[:end], self._rest[end:]
        return self._thought(thought), False

    def _next_mark(self, family: Family, is_last: bool) -> re.Match[str] | None:
        begun = None if is_last else family.inner_begun.search(self._rest)
        for found in family.inner.finditer(self._rest):
            if begun is not None and begun.start() < found.start():
                return None  # More text may turn what began before into one mark around this one.
            is_certain = is_last or found.end() < len(self._rest)
            line = (self._line + self._rest[: found.start()]).rpartition("\n")[2]
            if not is_certain or not _is_quoted(line, self._rest[found.end() : found.end() + 1]):
                return found
        return None

    def _thought(self, text: str) -> str:
        """Strip white space around the thoughts as a whole."""
        self._line = (self._line + text).rpartition("\n")[2]
        text = self._blank + text
        body = text.rstrip()
        self._blank = text[len(body) :]
        body = body if self._has_thought else body.lstrip()
        self._has_thought = self._has_thought or bool(body)
        return body

    def _speak_on(self, is_last: bool) -> str:
        if self._is_wrapped and (closing := ANSWER_CLOSING.search(self._rest)) is not None:
            self._is_wrapped = False
            self._rest = self._rest[: closing.start()] + self._rest[closing.end() :]
        begun = ANSWER_BEGUN.search(self._rest) if self._is_wrapped and not is_last else None
        end = len(self._rest) if begun is None else begun.start()
        text, self._rest = self._rest[:end], self._rest[end:]
        return text


def _is_quoted(line: str, following: str) -> bool:
    """Whether a mark is quoted, from the line before it and the character after it."""
    is_code = following == "`" and line.count("`") % 2 == 1
    return is_code or (bool(following) and line[-1:] + following in _QUOTES)


def _lone_closing(text: str, marks: Marks) -> re.Match[str] | None:
    """Return the closing mark of a thought that an unknown prompt opened; None if there is none."""
    if text.lstrip().startswith(("{", "[", "```")):
        return None
    opening = marks.opening.search(text)
    for found in marks.closing.finditer(text, 0, len(text) if opening is None else opening.start()):
        line = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
        after = text[found.end() : found.end() + _LONGEST_BLANK].partition("\n")[0]
        if text.count("```", 0, found.start()) % 2 or _is_quoted(line, after[:1]):
            continue
        if _is_in_object(text, found.start()):
            return None
        is_line_end = not after.strip()
        is_sentence_end = line.rstrip(_CLOSING_QUOTES)[-1:] in _SENTENCE_ENDS
        is_glued = all(char.isascii() and char.isalnum() for char in (line[-1:] or " ", after[:1] or " "))
        if is_line_end or is_sentence_end or is_glued:
            return found
    return None


def _is_in_object(text: str, place: int) -> bool:
    """Whether a place is inside a JSON object."""
    begin = -1
    for _ in range(_MOST_OBJECTS):
        begin = text.find("{", begin + 1, place)
        if begin < 0:
            return False
        try:
            _, end = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError):
            continue
        if end > place:
            return True
        begin = end - 1
    return False
