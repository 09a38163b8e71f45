"""Whether a judge's answer is its own: copied objects, and quotations that occur nowhere in the dialogue."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.types import AXES, Judgement, Scenario

_SHORTEST_COPY = 12
"""Letters of the shortest object that counts as a copy."""
_MOST_OBJECTS = 32
"""Opening braces of a text that are tried as the beginning of an object."""
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|「([^」]+)」|『([^』]+)』|«([^»]+)»|`([^`]+)`')
_BREAKS = re.compile(r"\.{2,}|…+|[\n;；|]|\s/\s|\[…\]")
_LABEL = re.compile(r"^[\w -]{1,30}[:：]")
_NOTHING = frozenset(
    {
        *("none", "na", "nil", "null", "noevidence", "noneobserved", "nothing", "notapplicable", "absent"),
        *("无", "没有", "暂无", "不适用", "无证据", "未体现", "无明显证据"),
    }
)
_OTHER = re.compile(r"[\W_]+")
_DECODER = json.JSONDecoder(strict=False)


def said_texts(scenario: Scenario, dialogue: Sequence[SpokenTurn]) -> tuple[str, ...]:
    """Return everything in a case that others wrote: the persona, and both sides of the dialogue."""
    turns = (text for turn in dialogue for text in (turn["user"], turn["reply"]) if text)
    return (scenario.persona, *turns)


def is_copied(answer: Mapping[str, object], said: Iterable[str]) -> bool:
    """Whether a judge's object is contained in a text of the case.

    Layout, quotation marks, punctuation, the order of keys and further keys in the text do not count. Such
    an object is the verdict of the author of the text, who may be the policy.

    Args:
        answer: the judge's object.
        said: the texts of the case.
    """
    own = _letters(_flat(answer))
    if len(own) < _SHORTEST_COPY:
        return False
    fields = _fields(answer)
    return any(
        own in _letters(text) or any(fields <= _fields(found) for found in _objects(text)) for text in said
    )


def num_unfound(judgement: Judgement, said: Sequence[str]) -> int:
    """Count the evidence texts that quote what nobody said.

    Only levels other than 0 need evidence. An empty text, or "none", quotes nothing. Quotation marks, white
    space, punctuation, case, ellipses and a label in front do not count; if parts of a text are in quotation
    marks, only these parts are looked up.

    Args:
        judgement: a judgement by levels.
        said: the texts of the case.
    """
    if judgement.progress is None or judgement.regress is None:
        return 0
    haystacks = [_letters(text) for text in said]
    sides = {"progress": judgement.progress, "regress": judgement.regress}
    return sum(
        level != 0 and not _is_found(judgement.evidence.get(f"{axis}_{side}_evidence", ""), haystacks)
        for side, levels in sides.items()
        for axis, level in zip(AXES, levels, strict=True)
    )


def _is_found(evidence: str, haystacks: Sequence[str]) -> bool:
    def occurs(text: str) -> bool:
        return any(_letters(text) in haystack for haystack in haystacks)

    if _letters(evidence) in _NOTHING or occurs(evidence):
        return True
    quotes = ["".join(groups) for groups in _QUOTED.findall(evidence)]
    parts = [part.strip() for text in quotes or [evidence] for part in _BREAKS.split(text)]
    return all(occurs(part) or occurs(_LABEL.sub("", part)) for part in parts)


def _objects(text: str) -> Iterator[Mapping[str, object]]:
    """Yield the JSON objects within a text."""
    for count, brace in enumerate(re.finditer(r"\{", text)):
        if count == _MOST_OBJECTS:
            return
        try:
            found, _ = _DECODER.raw_decode(text, brace.start())
        except (json.JSONDecodeError, RecursionError):
            continue
        yield cast("Mapping[str, object]", found)


def _fields(found: Mapping[str, object]) -> set[tuple[str, str]]:
    return {(_letters(key), _letters(_flat(value))) for key, value in found.items()}


def _flat(value: object) -> str:
    """Return the keys and values of a JSON value as one text, in order."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, object]", value)
        return " ".join(f"{key} {_flat(item)}" for key, item in fields.items())
    if isinstance(value, list):
        return " ".join(_flat(item) for item in cast("list[object]", value))
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(cast("float", value)) if is_whole else value)


def _letters(text: str) -> str:
    """Keep letters and digits only, in one form."""
    return _OTHER.sub("", unicodedata.normalize("NFKC", text).casefold())
