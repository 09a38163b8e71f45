"""The one JSON object in what a model wrote: lenient on form, never on content.

Forms that models are known for are mended here; what the object must hold is checked by each role.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import cast

from mica_ray.chat.thinking import UnclosedThoughtError, split_thinking

_STRING_OR_MARK = re.compile(r'("(?:[^"\\]|\\.)*")|[,，]\s*(?=[}\]])|([：，])', re.DOTALL)
_MARKS = {"：": ":", "，": ","}
_MOST_STARTS = 16
"""Braces that may open before the object's own: prose that names sets and axes has a few."""

# A quoted reply may hold line breaks that the model did not escape.
_DECODER = json.JSONDecoder(strict=False)


def read_object(text: str) -> Mapping[str, object]:
    """Read the one JSON object in a model's answer.

    Thoughts and prose before it and a fence around it are passed over. Trailing commas, full-width colons and
    commas between fields, and line breaks inside texts are mended. Two objects are refused: which one is
    meant would be a guess.

    Raises:
        ValueError: there is no JSON object, or it is broken, or there are several.
    """
    try:
        spoken = split_thinking(text).text
    except UnclosedThoughtError as error:
        raise ValueError("the answer ends within its thoughts and holds no JSON object") from error
    end = spoken.rfind("}") + 1
    problem = None
    for start in _starts(spoken[:end]):
        for candidate in (spoken[start:end], _tidied(spoken[start:end])):
            try:
                found, used = _DECODER.raw_decode(candidate)
            except (json.JSONDecodeError, RecursionError) as error:
                problem = str(error)
                continue
            if used == len(candidate):
                return cast("Mapping[str, object]", found)
            raise ValueError("the answer is not one valid JSON object: something stands after it")
    if problem is None and "{" in spoken[end:]:
        raise ValueError("the answer breaks off within its JSON object")
    if problem is None:
        raise ValueError("the answer holds no JSON object")
    raise ValueError(f"the answer is not one valid JSON object: {problem}")


def _starts(text: str) -> Iterator[int]:
    """Give where an outermost brace opens: a brace inside a broken object is no object of its own."""
    depth = count = 0
    for place in re.finditer(r"[{}]", text):
        if place.group() == "}":
            depth = max(0, depth - 1)
            continue
        if depth == 0:
            count += 1
            if count > _MOST_STARTS:
                return
            yield place.start()
        depth += 1


def _tidied(text: str) -> str:
    """Drop trailing commas and narrow full-width marks, outside of texts alone."""

    def mended(match: re.Match[str]) -> str:
        return match.group(1) or _MARKS.get(match.group(2) or "", "")

    return _STRING_OR_MARK.sub(mended, text)
