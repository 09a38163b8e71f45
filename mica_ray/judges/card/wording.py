"""The same question to a judge in other words: axes in another order, instructions rephrased.

The prompts of any domain are changed as text, so that the rubric and everything without a rephrasing stay.
paraphrases.py has the sentences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from mica_ray.chat.model import ChatModel, ChatReply, JsonSchema
from mica_ray.judges.card.paraphrases import SENTENCES
from mica_ray.types import AXES, Message, Sampling

ORDER = ("P", "A", "C")
"""The other order of the axes: the first becomes the last."""

_LIST = re.compile(r"([(（])[CAP](, |、)[CAP]\2[CAP]([)）])")
"""The axes as a list in brackets."""
_FIELD = re.compile(r"- ([CAP])_(?:progress|regress)_(?:evidence|reasoning|level)$")


@dataclass(frozen=True, slots=True)
class RewordedChat:
    """A chat model that gets a judge's question in other words. The answer and its fields stay the same."""

    inner: ChatModel
    reword: Callable[[str], str]
    """Converts the instructions."""
    order: Sequence[str] = AXES
    """Order of the axes in the case and in the schema of the answer."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Ask the inner model.

        Raises:
            ChatError: from the inner model.
        """
        instructions, case, *rest = messages
        changed: list[Message] = [
            {"role": "system", "content": self.reword(instructions["content"])},
            {"role": "user", "content": _case_in_order(case["content"], self.order)},
            *rest,
        ]
        ordered = None if schema is None else _schema_in_order(schema, self.order)
        return await self.inner.chat(changed, sampling, ordered)


def reorder_axes(prompt: str, order: Sequence[str] = ORDER) -> str:
    """Return a judge's instructions with rubric, list of axes and list of fields in another order.

    Instructions without exactly one paragraph of rubric for each axis are returned unchanged.
    """
    paragraphs = prompt.split("\n\n")
    places = {axis: _rubric_places(paragraphs, axis) for axis in AXES}
    if any(len(found) != 1 for found in places.values()):
        return prompt
    slots = sorted(found[0] for found in places.values())
    changed = list(paragraphs)
    for slot, axis in zip(slots, order, strict=True):
        changed[slot] = paragraphs[places[axis][0]]
    text = _LIST.sub(lambda found: found[1] + found[2].join(order) + found[3], "\n\n".join(changed))
    return _fields_in_order(text, order)


def paraphrase(prompt: str) -> str:
    """Return a judge's instructions in other words.

    Sentences with a rephrasing are replaced; the rubric, names of fields and all other sentences stay.
    """
    return "\n\n".join(text if _is_rubric(text) else _rephrased(text) for text in prompt.split("\n\n"))


def _rephrased(text: str) -> str:
    for sentence, other in SENTENCES:
        text = text.replace(sentence, other)
    return text


def _is_rubric(paragraph: str) -> bool:
    return any(_rubric_places([paragraph], axis) for axis in AXES)


def _rubric_places(paragraphs: Sequence[str], axis: str) -> list[int]:
    levels = (f"{axis}_progress_level:", f"{axis}_regress_level:")
    return [place for place, text in enumerate(paragraphs) if all(level in text for level in levels)]


def _fields_in_order(text: str, order: Sequence[str]) -> str:
    """Sort the lines that name a field by their axis; other lines keep their places."""
    lines = text.split("\n")
    found = {place: match[1] for place, line in enumerate(lines) if (match := _FIELD.match(line))}
    ordered = sorted(found, key=lambda place: (order.index(found[place]), place))
    changed = list(lines)
    for place, source in zip(found, ordered, strict=True):
        changed[place] = lines[source]
    return "\n".join(changed)


def _case_in_order(content: str, order: Sequence[str]) -> str:
    """Return the case with every object that has one value per axis in the order of the axes."""
    try:
        case = json.loads(content)
    except ValueError:
        return content
    return json.dumps(_in_order(case, order), ensure_ascii=False)


def _in_order(value: Any, order: Sequence[str]) -> Any:
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    if set(fields) == set(AXES):
        return {axis: fields[axis] for axis in order}
    return {key: _in_order(item, order) for key, item in fields.items()}


def _schema_in_order(schema: JsonSchema, order: Sequence[str]) -> JsonSchema:
    """Return the schema with its fields sorted by axis: guided models write in the order of the schema."""
    properties = cast("Mapping[str, object]", schema.get("properties", {}))

    def rank(field: str) -> int:
        axis = field.partition("_")[0]
        return order.index(axis) if axis in order else -1

    fields = sorted(properties, key=rank)
    return {**schema, "properties": {field: properties[field] for field in fields}, "required": fields}
