"""The Director's seven moves as tools: arguments, JSON schema, guidance for the Actor.

A call is a JSON object, {"move": name, its argument, "guidance": text}; dialogue/director.py executes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mica_ray.chat.model import JsonSchema


class Move(StrEnum):
    """The seven moves of EMPA (arXiv 2603.00552)."""

    REVEAL_STAGE = "reveal_stage"
    """The user reveals a story fragment that is not told yet; possible while one is left."""
    REVEAL_MEMORY = "reveal_memory"
    """The user recalls more of a fragment already revealed."""
    ADJUST_EMPATHY = "adjust_empathy"
    """The user becomes more open or more guarded."""
    TURNING_POINT = "turning_point"
    """The user gains a new perspective, or loses patience."""
    OBSERVE = "observe"
    """No change; the Actor gets no guidance."""
    CONTINUE = "continue"
    """The dialogue continues as it is."""
    END = "end"
    """The user leaves, because their needs are met."""


@dataclass(frozen=True, slots=True)
class Argument:
    """The argument of a move, besides the guidance."""

    name: str
    about: Mapping[str, str]
    """Description for the Director, by language."""
    heard: Mapping[str, str]
    """Guidance to the Actor from a free text {value}, by language; empty for none."""
    choices: Mapping[str, Mapping[str, str]] | None = None
    """Allowed values, each with its guidance to the Actor by language; None for free text."""


ARGUMENTS: Mapping[Move, Argument] = {
    Move.REVEAL_MEMORY: Argument(
        name="memory",
        about={"en": "what comes back, one sentence", "zh": "想起了什么，一句话"},
        heard={"en": "You remember: {value}", "zh": "你想起了：{value}"},
    ),
    Move.ADJUST_EMPATHY: Argument(
        name="openness",
        about={"en": "how the person takes the next words", "zh": "这个人接下来怎样听"},
        heard={},
        choices={
            "more_open": {"en": "You open up more than before.", "zh": "你比刚才更愿意敞开一些。"},
            "more_guarded": {"en": "You are more guarded than before.", "zh": "你比刚才更有防备。"},
        },
    ),
    Move.TURNING_POINT: Argument(
        name="turn",
        about={"en": "which way it turns", "zh": "往哪边转"},
        heard={},
        choices={
            "sees_anew": {"en": "It looks different to you now.", "zh": "你忽然对这件事有了不同的看法。"},
            "loses_patience": {"en": "You are losing your patience.", "zh": "你快没有耐心了。"},
        },
    ),
    Move.END: Argument(
        name="reason",
        about={"en": "why the person leaves", "zh": "这个人为什么离开"},
        heard={},
    ),
}
"""Argument by move. reveal_stage takes the number of the stage; moves not listed take only guidance."""

_STAGE = {"en": "stage: the number of a fragment of untold", "zh": "stage：untold 中一个片段的编号"}
_HEADINGS = {
    "en": "Each move is a call with its own argument, given between move and guidance:",
    "zh": "每个动作都是一次调用，带有自己的参数，写在 move 和 guidance 之间：",
}
_OR = {"en": " or ", "zh": " 或 "}
_COLON = {"en": ": ", "zh": "："}
_SPACE = {"en": " ", "zh": ""}


def moves_schema(moves: Sequence[Move], stages: Sequence[int]) -> JsonSchema:
    """Return the JSON schema of one call: a union over the possible moves, keyed by `move`.

    Args:
        moves: the possible moves.
        stages: numbers of the stages that can be revealed.
    """
    # Nested under a key, because some endpoints reject a union at the root.
    return _record({"call": {"anyOf": [_call_schema(move, stages) for move in moves]}})


def moves_text(moves: Sequence[Move], language: str) -> str:
    """Describe the arguments of the moves; unknown languages use English.

    Args:
        moves: the moves to describe.
        language: language code as in `Scenario.language`.
    """
    language = _known(language)
    lines = [_HEADINGS[language]]
    for move in moves:
        argument = ARGUMENTS.get(move)
        if move is Move.REVEAL_STAGE:
            lines.append(f"- {move}({_STAGE[language]})")
        elif argument is not None:
            choices = _OR[language].join(f'"{choice}"' for choice in argument.choices or ())
            about = argument.about[language]
            text = f"{argument.name}{_COLON[language]}{about}{choices and _COLON[language]}{choices}"
            lines.append(f"- {move}({text})")
        else:
            lines.append(f"- {move}()")
    return "\n".join(lines)


def chosen_stage(call: Mapping[str, object], stages: Sequence[int]) -> int:
    """Return the number of the stage that a call reveals.

    Args:
        call: the Director's JSON object.
        stages: numbers of the stages that can be revealed.

    Raises:
        ValueError: the call names no stage, or another one. Models read the message.
    """
    named = str(call.get("stage")).strip()
    for stage in stages:
        if named == str(stage):
            return stage
    allowed = ", ".join(map(str, stages))
    raise ValueError(f"stage must be a number in untold, {allowed}; got {call.get('stage')!r:.40}")


def actor_guidance(move: Move, call: Mapping[str, object], language: str) -> str | None:
    """Convert a call's argument and guidance to the guidance that the Actor gets.

    The argument may be missing if there is guidance.

    Args:
        move: the called move.
        call: the Director's JSON object.
        language: language of the scenario.

    Returns:
        The guidance; None for none.

    Raises:
        ValueError: a field that must be text is not, a value is not allowed, or argument and guidance are
            both missing. Models read the message.
    """
    guidance = _text(call, "guidance")
    argument = ARGUMENTS.get(move)
    if argument is None:
        return guidance or None
    heard = _heard(argument, _text(call, argument.name), _known(language))
    if not heard and not guidance and move is not Move.END:
        raise ValueError(f"{move} needs {argument.name} or guidance; got neither")
    return _SPACE[_known(language)].join(part for part in (heard, guidance) if part) or None


def _heard(argument: Argument, value: str, language: str) -> str:
    if not value:
        return ""
    if argument.choices is None:
        return argument.heard[language].format(value=value) if argument.heard else ""
    if value not in argument.choices:
        raise ValueError(f"{argument.name} must be one of {', '.join(argument.choices)}; got {value!r:.40}")
    return argument.choices[value][language]


def _text(call: Mapping[str, object], name: str) -> str:
    value = call.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be text; got {value!r:.40}")
    return (value or "").strip()


def _call_schema(move: Move, stages: Sequence[int]) -> JsonSchema:
    fields: dict[str, object] = {"move": {"type": "string", "enum": [move.value]}}
    argument = ARGUMENTS.get(move)
    if move is Move.REVEAL_STAGE:
        fields["stage"] = {"type": "integer", "enum": list(stages)}
    elif argument is not None:
        choices = {} if argument.choices is None else {"enum": list(argument.choices)}
        fields[argument.name] = {"type": "string", **choices}
    return _record(fields | {"guidance": {"type": "string"}})


def _record(fields: Mapping[str, object]) -> JsonSchema:
    return {
        "type": "object",
        "properties": dict(fields),
        "required": list(fields),
        "additionalProperties": False,
    }


def _known(language: str) -> str:
    return language if language in _HEADINGS else "en"
