"""What the Actor's model wrote, as the message a person would send: cleaned of form, checked for content."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from mica_ray.chat.thinking import UnclosedThoughtError, split_thinking
from mica_ray.dialogue.role_messages import SpokenTurn

MOST_WORDS = 100
"""Words, or Chinese characters, of a message that tells no new fragment: twice what the prompts allow."""
REPEATED_FRACTION = 0.5
"""Share of a message, by its letters, above which sentences that were said before make it a repetition."""
SHORTEST_REPEAT = 6
"""Letters of the shortest sentence that counts as said before: "Yes." and "嗯。" may come again."""

_FENCE = re.compile(r"```\w*\n?(.*?)\n?```", re.DOTALL)
_LABEL = re.compile(
    r"(?:the\s+)?(?:user|person|actor|me|message|reply|用户|我|消息|回复|角色)\s*[:：]\s*", re.IGNORECASE
)
_QUOTES = (('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("「", "」"), ("『", "』"), ("«", "»"))
_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_WIDE}]|[^\W_{_WIDE}]+(?:['’][^\W_{_WIDE}]+)*")
_SENTENCE_END = re.compile(r"[.!?。！？…;；\n]+")


def clean_message(text: str) -> str:
    """Strip thoughts, a code fence, a role's name in front and quotes around the whole; keep the words.

    Nothing is left of a message that was cut off inside its thoughts.

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
    """Why a message cannot be sent, in the languages of the cards."""

    english: str
    chinese: str

    def __str__(self) -> str:
        """Give the reason as errors show it."""
        return self.english


def message_problem(
    message: str, dialogue: Sequence[SpokenTurn], *, fragment: str | None, instructions: Sequence[str] = ()
) -> MessageProblem | None:
    """Say why a message cannot be what the person says next, None when it can.

    Args:
        message: cleaned.
        dialogue: oldest first, ends with the policy's reply.
        fragment: the story fragment to tell now, which makes room for more words; None when there is none.
        instructions: what the Actor was told to do, which small models take for its lines.
    """
    if not message:
        return MessageProblem("it says nothing", "里面什么都没说")
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
    """Give the share of a message, by its letters, in sentences that stand in earlier ones word for word.

    A message that as a whole was said before counts fully, however short its sentences are.

    Returns:
        0..1; 0 for a message without letters.
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
    """Leave letters and digits alone, so that a changed comma is no new sentence."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def _unquoted(message: str) -> str:
    for opening, closing in _QUOTES:
        inner = message[1:-1]
        if len(message) > 1 and message[0] == opening and message[-1] == closing:
            # Quotes inside belong to what is said: then the outer ones need not be a pair.
            return message if opening in inner or closing in inner else inner
    return message
