"""Converts foreign text to valid Unicode, where it enters: answers of models, files, requests of clients.

Everything that we write is UTF-8, which cannot encode half of a surrogate pair.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from typing import Any, cast


def valid_text(text: str) -> str:
    r"""Return the text as valid Unicode: joined surrogate pairs, and U+FFFD for each lone surrogate.

    Valid text is returned unchanged, NUL and U+2028 included.

    >>> valid_text("sad \ud83d\ude22"), valid_text("sad \ud83d")
    ('sad 😢', 'sad �')
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class ValidStream:
    r"""Converts a text that arrives in pieces, whose boundaries may cut a surrogate pair.

    >>> stream = ValidStream()
    >>> stream.feed("sad \ud83d"), stream.feed("\ude22!"), stream.end()
    ('sad ', '😢!', '')
    """

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """Return the valid text of a piece; the first half of a pair waits for the second."""
        text = self._half + piece
        ends_in_half = "\ud800" <= text[-1:] <= "\udbff"
        self._half = text[-1:] if ends_in_half else ""
        return valid_text(text[:-1] if ends_in_half else text)

    def end(self) -> str:
        """Return what still waits; there are no more pieces."""
        half, self._half = self._half, ""
        return valid_text(half)


def decoded(content: bytes) -> str:
    r"""Decode the content of a text file: UTF-8, with or without a byte order mark.

    Bytes in another encoding are an error, because their replacement would destroy whole texts. Halves of
    surrogate pairs, which some programs write as three bytes each, become valid text.

    >>> decoded(b"\xef\xbb\xbfsad"), decoded(b"\xed\xa0\xbd")
    ('sad', '�')

    Raises:
        ValueError: the bytes are not UTF-8; the message names the first wrong byte.
    """
    try:
        return valid_text(content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start})") from error


def valid_json(value: Any) -> Any:
    r"""Return a JSON value with every string and every key converted by `valid_text`.

    >>> valid_json({"id": "a\ud800", "stages": ["\udfff", 1.5, None]})
    {'id': 'a�', 'stages': ['�', 1.5, None]}
    """
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {valid_json(key): valid_json(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [valid_json(item) for item in cast("Sequence[Any]", value)]
    return value
