"""Converts foreign text to valid Unicode, where it enters: answers of models, files, requests of clients.

Everything that we write is UTF-8, which cannot encode half of a surrogate pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def valid_text(text: str) -> str:
    r"""Return the text as valid Unicode: joined surrogate pairs, and U+FFFD for each lone surrogate.

    Valid text is returned unchanged, NUL and U+2028 included.

    >>> valid_text("sad \\ud83d\\ude22"), valid_text("sad \\ud83d")
    ('sad 😢', 'sad �')
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def valid_json(value: Any) -> Any:
    r"""Return a JSON value with every string and every key converted by `valid_text`.

    >>> valid_json({"id": "a\\ud800", "stages": ["\\udfff", 1.5, None]})
    {'id': 'a�', 'stages': ['�', 1.5, None]}
    """
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, Mapping):
        return {valid_json(key): valid_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [valid_json(item) for item in value]
    return value
