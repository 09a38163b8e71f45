"""Token ids as texts: the sampled tokens of a reply, whose texts add up to the reply's text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mica_ray.serving.http.backend import TextLogprob
from mica_ray.types import TokenLogprob

_INCOMPLETE = "\ufffd"
"""What a decoder returns for a token that is only a part of a character."""


class TokenTexts:
    """Decodes tokens one by one, each in the context of the token before it.

    Args:
        decode: of the tokenizer, without special tokens.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._context: list[int] = []
        """The last tokens with a text of their own."""
        self._open: list[int] = []
        """Tokens after them that form no complete character yet."""

    def add(self, sampled: TokenLogprob) -> TextLogprob:
        """Return the next token; its text is empty while its character is incomplete."""
        text = self._text(sampled.token_id)
        is_complete = not text.endswith(_INCOMPLETE)
        shown = text if is_complete else ""
        top = tuple(
            (shown if token == sampled.token_id else self._text(token), logprob)
            for token, logprob in sampled.top
        )
        self._open.append(sampled.token_id)
        if is_complete:
            self._context, self._open = self._open, []
        return TextLogprob(shown, sampled.logprob, top)

    def _text(self, token: int) -> str:
        known = self._decode(self._context)
        return self._decode([*self._context, *self._open, token])[len(known) :]
