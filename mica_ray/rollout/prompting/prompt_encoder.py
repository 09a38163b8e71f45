"""Renderings of a chat template as token ids in which only the template places control tokens.

Ordinary contents are rendered and encoded in one piece. Contents that spell marks are encoded apart from the
template's text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property

from mica_ray.chat.thinking_marks import KNOWN, Marks
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.prompting.control_tokens import ControlTokens
from mica_ray.rollout.prompting.turn_marks import TurnMarks
from mica_ray.types import Generation, Message

Render = Callable[[Sequence[Message]], str]

_PROBES = ('Aa7Q0 "b" \\ c', "Dd7Q0 'e' & f", "Gg7Q0 {h} i\nj", "Kk7Q0 é <l> m")
"""Contents without marks that a template prints unchanged unless it transforms contents."""
_MOST_SHAPES = 512
"""Histories, by roles, whose control tokens are remembered."""


class PromptEncoder:
    """Consumes histories, produces token ids.

    The control tokens of a prompt are those of the same history with neutral contents: the same number, in
    the same order. Contents that would add others are encoded as plain text, which keeps every character. If
    a template transforms its contents, their marks are broken with spaces instead. Marks that are ordinary
    text (prompting/turn_marks.py) are always broken.

    Args:
        control: control tokens of the tokenizer.
        render: applies the chat template.
        roles: roles of a short dialogue that the template accepts; the last is the user.
        path: of the model, for error messages.
        marks: the marks of thoughts.

    Attributes:
        turn_ids: control tokens that the template places around turns, without those of thoughts.
    """

    def __init__(
        self, control: ControlTokens, render: Render, *, roles: Sequence[str], path: str, marks: Marks = KNOWN
    ) -> None:
        self._control, self._render, self._roles, self._path = control, render, roles, path
        self._expected_by_shape: dict[object, tuple[int, ...]] = {}
        pieces = [part for part in self._parts(_talk(roles, _PROBES), None) if isinstance(part, str)]
        ids = control.among(control.encode("".join(pieces)))
        texts = frozenset(control.texts.values())
        self.turn_ids = frozenset(index for index in ids if not marks.is_mark(control.texts[index], texts))
        changes = [index for index in range(1, len(roles)) if "system" not in roles[index - 1 : index + 1]]
        self._marks = TurnMarks(pieces, control, (*changes, len(roles)))

    def encode(self, history: Sequence[Message], *, after: int | None = None) -> tuple[int, ...]:
        """Return the tokens of a rendered history.

        Args:
            history: messages in an order that the template accepts.
            after: index of a message; only what follows its content is returned. None returns everything.

        Raises:
            EngineError: the template cannot render the history, drops the message `after`, or transforms
                contents so that they cannot be kept apart from its marks.
        """
        history = [_with(message, self._marks.broken_in(message["content"])) for message in history]
        expected = self._expected(history, after)
        ids = self._control.encode(self._text(history, after))
        if self._control.among(ids) == expected:
            return ids
        for hidden in self._hidings(history):
            assembled = self._assembled(history, hidden, after, expected)
            if assembled is not None:
                return assembled
        escaped = [_with(message, self._control.escape(message["content"])) for message in history]
        ids = self._control.encode(self._text(escaped, after))
        if self._control.among(ids) != expected:
            raise EngineError(
                f"The chat template of policy {self._path} turns a message into control tokens. Use another "
                "chat_template.jinja."
            )
        return ids

    def plain(self, text: str, *, after: Sequence[int]) -> tuple[int, ...]:
        """Return the tokens of a text without control tokens, its marks broken, that follow a prompt."""
        ids = self._control.encode(broken := self._marks.broken_in(text))
        if not self._control.among(ids):
            return ids
        last = next((index for index in reversed(after) if index in self._control.texts), None)
        return tuple(self._control.encode_plain(broken, after=last))

    def escaped(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages for another server, which renders them itself: with all marks broken."""
        return [
            _with(message, self._marks.broken_in(self._control.escape(message["content"])))
            for message in messages
        ]

    def spells_marks(self, text: str) -> bool:
        """Whether a text contains a control mark, as the tokenizer reads it or as text."""
        return bool(self._control.among(self._control.encode(text))) or self._marks.broken_in(text) != text

    def forges_turns(self, reply: Generation, stop_ids: Collection[int]) -> bool:
        """Whether a sampled reply contains turn marks besides the token that ended it."""
        *inner, last = reply.token_ids or (None,)
        marks = (*inner, *(() if last in stop_ids else (last,)))
        return not self.turn_ids.isdisjoint(marks) or self._marks.broken_in(reply.text) != reply.text

    def _expected(self, history: Sequence[Message], after: int | None) -> tuple[int, ...]:
        """Return the control tokens of the history with neutral contents; blank contents stay."""
        blanks = [None if message["content"].strip() else message["content"] for message in history]
        shape = (after, *zip((message["role"] for message in history), blanks, strict=True))
        if shape not in self._expected_by_shape:
            neutral = [
                _with(message, f"Neutral7Q0x{index}") if message["content"].strip() else message
                for index, message in enumerate(history)
            ]
            if len(self._expected_by_shape) >= _MOST_SHAPES:
                self._expected_by_shape.clear()
            ids = self._control.encode(self._text(neutral, after))
            self._expected_by_shape[shape] = self._control.among(ids)
        return self._expected_by_shape[shape]

    def _text(self, history: Sequence[Message], after: int | None) -> str:
        if after is None:
            return self._render(history)
        word = _unused_word(history)
        marked = [*history[:after], _with(history[after], word), *history[after + 1 :]]
        _, found, tail = self._render(marked).partition(word)
        return tail if found else self._refuse_dropped()

    def _refuse_dropped(self) -> str:
        raise EngineError(
            f"The chat template of policy {self._path} drops the assistant's replies. Use another "
            "chat_template.jinja."
        )

    @cached_property
    def _is_verbatim(self) -> bool:
        """Whether the template prints contents as they are."""
        rendered = self._render(_talk(self._roles, _PROBES))
        return all(probe in rendered for _, probe in zip(self._roles, _PROBES, strict=False))

    def _hidings(self, history: Sequence[Message]) -> Iterator[set[int]]:
        """Yield sets of messages to encode apart: first those that spell marks, then all.

        The assistant's are left to the template in the first attempt: it may strip their thoughts.
        """
        if not (self._control.has_spans and self._is_verbatim):
            return
        spoken = {index for index, message in enumerate(history) if message["content"].strip()}
        marked = {
            index
            for index in spoken
            if history[index]["role"] != "assistant"
            and self._control.among(self._control.encode(history[index]["content"]))
        }
        yield from (hidden for hidden in (marked, spoken) if hidden)

    def _assembled(
        self, history: Sequence[Message], hidden: set[int], after: int | None, expected: tuple[int, ...]
    ) -> tuple[int, ...] | None:
        """Encode the template's text and the hidden contents each in their own way.

        Returns:
            The tokens; None if the template's text has other control tokens than expected.
        """
        plain, parts = "", list[int | str]()
        for part in self._parts(history, hidden if after is None else hidden | {after}, after):
            if isinstance(part, int):
                plain += history[part]["content"].strip()
                continue
            for piece in self._control.split(part):
                if isinstance(piece, str):
                    plain += piece
                else:
                    parts += (plain, piece)
                    plain = ""
        parts.append(plain)
        if tuple(part for part in parts if isinstance(part, int)) != expected:
            return None
        ids, last = list[int](), None
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
                last = part
            elif part:
                ids += self._control.encode_plain(part, after=last)
        return tuple(ids)

    def _parts(
        self, history: Sequence[Message], hidden: Collection[int] | None, after: int | None = None
    ) -> list[int | str]:
        """Return a rendering as the template's text and the indices of the contents within it.

        White space around a hidden content stays outside, so that a template that trims contents does so.

        Args:
            history: the messages.
            hidden: messages whose content becomes an index; None for all.
            after: index of a hidden message; only what follows it is returned.
        """
        word = _unused_word(history)
        shown = [
            _with(message, _replaced(message["content"], f"{word}x{index}z"))
            if hidden is None or index in hidden
            else message
            for index, message in enumerate(history)
        ]
        parts: list[int | str] = re.split(rf"{word}x(\d+)z", self._render(shown), flags=re.IGNORECASE)  # type: ignore[assignment]
        parts[1::2] = [int(number) for number in parts[1::2]]
        if after is None:
            return parts
        if after not in parts:
            self._refuse_dropped()
        return parts[parts.index(after) + 1 :]


def _unused_word(history: Sequence[Message]) -> str:
    """Return a word that no content holds, without white space, so that trimming keeps it."""
    said = "\n".join(message["content"] for message in history).casefold()
    words = (f"Content{count}7Q0" for count in range(len(said) + 1))
    return next(word for word in words if word.casefold() not in said)


def _replaced(content: str, word: str) -> str:
    """Return the word between the white space at the content's ends."""
    spoken = content.strip()
    return content.replace(spoken, word, 1) if spoken else word


def _talk(roles: Sequence[str], contents: Sequence[str]) -> list[Message]:
    return [
        Message(role=role, content=content)  # type: ignore[typeddict-item]
        for role, content in zip(roles, contents, strict=False)
    ]


def _with(message: Message, content: str) -> Message:
    return message if message["content"] == content else {"role": message["role"], "content": content}
