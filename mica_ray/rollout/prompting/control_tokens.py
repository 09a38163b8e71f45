"""The control tokens of a tokenizer, and text encoded without them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from mica_ray.control_marks import MARK, escape_marks, folded
from mica_ray.rollout.engine import EngineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BRACKETS = re.compile(r"[<\[{(|].*\w.*[>\]})|]", re.DOTALL)
"""Form of a token that stands for more than its letters, such as <tool_call> or [TOOL_CALLS]."""

_RARE = "\ue000\U0010fffd\u2fff"
"""Characters that no vocabulary contains."""


class ControlTokens:
    """Tokens that only the chat template may place.

    These are the special tokens, and the other added tokens that the template prints or that are written in
    brackets. An added word or run of spaces is ordinary text.

    Args:
        tokenizer: of the model.

    Attributes:
        texts: text of each control token, by id.
        has_spans: whether the tokenizer reports the place of each token in the text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.has_spans = bool(tokenizer.is_fast)
        template, special = str(tokenizer.chat_template), set(tokenizer.all_special_ids)
        self.texts: dict[int, str] = {
            int(index): str(token.content)
            for index, token in tokenizer.added_tokens_decoder.items()
            if token.special or index in special or _is_control(str(token.content), template)
        }
        for index in special - self.texts.keys():
            self.texts[index] = str(tokenizer.convert_ids_to_tokens(index))
        # Without bytes in its vocabulary, a tokenizer makes this token of characters that it does not know.
        if tokenizer.unk_token_id in self.encode(_RARE):
            self.texts.pop(int(str(tokenizer.unk_token_id)), None)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text in which control tokens are recognized."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def among(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Return the control tokens of a sequence, in order."""
        return tuple(index for index in ids if index in self.texts)

    def split(self, text: str) -> list[int | str]:
        """Return the control tokens of a text, and the text before, between and after them."""
        parts: list[int | str] = []
        begin = 0
        for index, start, end in self._found(text):
            parts += (text[begin:start], index)
            begin = end
        return [part for part in (*parts, text[begin:]) if part != ""]

    def encode_plain(self, text: str, *, after: int | None) -> list[int]:
        """Return the tokens of a text in which no control token is recognized.

        A mark is cut in its middle, and the parts are encoded on their own.

        Args:
            text: any text.
            after: the control token before it, which some tokenizers need to know; None at the start.
        """
        parts = [text]
        while (ids := self._joined(parts, after)) is None:
            cut = [piece for part in parts for piece in self._cut(part) if piece]
            if cut == parts:
                return [index for part in parts for index in self.encode(part)]
            parts = cut
        return ids

    def escape(self, text: str) -> str:
        """Return the text with this tokenizer's marks and those of all known families broken."""
        return escape_marks(escape_marks(text), self._pattern)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        texts = sorted((folded(text) for text in self.texts.values() if text.strip()), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts)) or MARK.pattern, re.IGNORECASE)

    @cached_property
    def _separator(self) -> int | None:
        """Return a control token that leaves the white space around it in place; None without one."""
        return next(
            (
                int(index)
                for index, token in self._tokenizer.added_tokens_decoder.items()
                if index in self.texts and not (token.lstrip or token.rstrip or token.single_word)
            ),
            None,
        )

    def _joined(self, parts: Sequence[str], after: int | None) -> list[int] | None:
        """Encode parts in one call, as a hostile text may have thousands; None if one has a control token."""
        if self._separator is None:
            ids = [index for part in parts for index in self.encode(part)]
            return None if self.among(ids) else ids
        first = () if after is None else (after,)
        between = (self._separator,) * (len(parts) - 1)
        text = "".join(map(self.texts.__getitem__, first)) + self.texts[self._separator].join(parts)
        ids = self.encode(text)
        if ids[: len(first)] != first or self.among(ids) != first + between:
            return None
        return [index for index in ids if index not in self.texts]

    def _cut(self, text: str) -> Iterator[str]:
        """Yield the parts of a text that is cut within each of its control tokens."""
        begin = 0
        for index, start, end in self._found(text):
            if end <= start:
                raise EngineError(
                    f"The tokenizer finds {self.texts[index]} in a text of {len(text)} characters, but not "
                    "its place. Use a fast tokenizer (tokenizer.json)."
                )
            if end - start == 1:
                yield f"{text[begin:start]}\N{REPLACEMENT CHARACTER}"
                begin = end
            else:
                yield text[begin : (start + end) // 2]
                begin = (start + end) // 2
        yield text[begin:]

    def _found(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Yield each control token of a text, and the place of its mark."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        for index, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            if index in self.texts:
                yield index, start, end


def _is_control(text: str, template: str) -> bool:
    is_word = text.replace("_", "").isalnum() or not text.strip()
    return bool(_BRACKETS.fullmatch(text.strip())) or (text in template and not is_word)
