"""Cleans the text that the Actor's model wrote, and checks whether a person would send it.

What only a model writes is in message_faults.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mica_ray.chat.thinking import UnclosedThoughtError, split_thinking
from mica_ray.dialogue.message_faults import has_control_mark, is_script, speaks_as_model
from mica_ray.dialogue.role_messages import SpokenTurn

MOST_WORDS = 100
"""Maximum words (or Chinese characters) of a message without a new fragment: twice the prompts' limit."""
REPEATED_FRACTION = 0.5
"""Share of a message's letters in earlier sentences above which it is a repetition."""
SHORTEST_REPEAT = 6
"""Letters of the shortest sentence that counts as a repetition; "Yes." and "嗯。" may recur."""

_FENCE = re.compile(r"```\w*\n?(.*?)\n?```", re.DOTALL)
_LABEL = re.compile(
    r"(?:the\s+)?(?:user|person|actor|me|message|reply|用户|我|消息|回复|角色)\s*[:：]\s*", re.IGNORECASE
)
_QUOTES = (('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("「", "」"), ("『", "』"), ("«", "»"))
_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_WIDE}]|[^\W_{_WIDE}]+(?:['’][^\W_{_WIDE}]+)*")
_SENTENCE_END = re.compile(r"[.!?。！？…;；\n]+")


def clean_message(text: str) -> str:
    """Strip thoughts, a code fence, a role name at the start and quotes around the whole text.

    Returns an empty text for a message that was cut off inside a thought.

    Examples: '"I am tired."' -> 'I am tired.'; '用户：“我累了。”' -> '我累了。'; '"No," she said.' stays.
    """
    try:
        message = split_thinking(text).text.strip()
    except UnclosedThoughtError:
        return ""
    if fenced := _FENCE.fullmatch(message):
        message = fenced.group(1).strip()
    before = None
    while message != before:
        before = message
        message = _unquoted(_LABEL.sub("", message, count=1) if _LABEL.match(message) else message).strip()
    return message


@dataclass(frozen=True, slots=True)
class MessageProblem:
    """Why a message cannot be sent, in English and Chinese."""

    english: str
    chinese: str

    def __str__(self) -> str:
        """Return the reason in English, as errors show it."""
        return self.english


SILENCE = MessageProblem("it says nothing", "里面什么都没说")
CUT_OFF = MessageProblem("it breaks off before its end", "话没有说完就断了")
_FAULTS: tuple[tuple[Callable[[str], bool], MessageProblem], ...] = (
    (has_control_mark, MessageProblem("it contains control marks or headings", "里面有控制符号或标题")),
    (
        speaks_as_model,
        MessageProblem("it speaks as an AI model and not as the person", "这是AI的口气，不像本人说的话"),
    ),
)


def message_problem(
    message: str,
    dialogue: Sequence[SpokenTurn],
    *,
    fragment: str | None,
    instructions: Sequence[str] = (),
    persona: str = "",
) -> MessageProblem | None:
    """Return why a message cannot be the user's next one; None if it can.

    Args:
        message: the cleaned message.
        dialogue: oldest turn first, ends with the policy's reply.
        fragment: the story fragment to reveal now, which allows more words; None for none.
        instructions: the Actor's instructions, which small models tend to copy.
        persona: who the user is; the name in it is not written before the words.
    """
    if not message:
        return SILENCE
    for has_fault, problem in _FAULTS:
        if has_fault(message):
            return problem
    if is_script(message, persona):
        return MessageProblem(
            "it names who speaks, or speaks for both sides", "里面标出了说话的人，或者替双方说了话"
        )
    if message.startswith(("{", "[{")):
        return MessageProblem("it is JSON and not what a person says", "那是 JSON，不是人说的话")
    limit = MOST_WORDS + 2 * num_words(fragment or "")
    if (words := num_words(message)) > limit:
        return MessageProblem(
            f"it has {words} words or characters, and {limit} are the most",
            f"有 {words} 个字，最多只能有 {limit} 个字",
        )
    if repeated_fraction(message, [turn["user"] for turn in dialogue]) > REPEATED_FRACTION:
        return MessageProblem("it repeats what the person said before", "这些话之前已经说过了")
    reply = dialogue[-1]["reply"] if dialogue else None
    if reply and repeated_fraction(message, [reply]) > REPEATED_FRACTION:
        return MessageProblem("it repeats the helper's words", "照搬了对方刚说的话")
    if repeated_fraction(message, instructions) > REPEATED_FRACTION:
        return MessageProblem("it repeats the instructions", "照抄了给你的要求")
    return None


def num_words(text: str) -> int:
    """Count words; a character of a script without spaces counts as one."""
    return len(_WORD.findall(text))


def repeated_fraction(message: str, earlier: Sequence[str]) -> float:
    """Return the share of a message's letters in sentences that occur in earlier texts.

    A message that repeats an earlier text as a whole counts fully, however short its sentences are.

    Returns:
        Share in [0, 1]; 0 for a message without letters.
    """
    heard = [_letters(text) for text in earlier]
    whole = _letters(message)
    if not whole:
        return 0.0
    if len(whole) >= SHORTEST_REPEAT and whole in heard:
        return 1.0
    said = {part for text in earlier for part in _sentences(text)}
    again = sum(len(part) for part in _sentences(message) if len(part) >= SHORTEST_REPEAT and part in said)
    return again / len(whole)


def _sentences(text: str) -> list[str]:
    return [part for sentence in _SENTENCE_END.split(text) if (part := _letters(sentence))]


def _letters(text: str) -> str:
    """Keep letters and digits only, so that a changed comma does not make a new sentence."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def _unquoted(message: str) -> str:
    for opening, closing in _QUOTES:
        inner = message[1:-1]
        if len(message) > 1 and message[0] == opening and message[-1] == closing:
            # With quotes inside, the outer ones may belong to two different quotations.
            return message if opening in inner or closing in inner else inner
    return message
