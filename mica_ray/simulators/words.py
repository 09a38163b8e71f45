"""Words of a message, its sentences and language, in English and Chinese, without a model.

Chinese is counted by characters, because its words have no spaces; other scripts by words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Language = Literal["en", "zh"]

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_HAN}]|[^\W\d_{_HAN}]+(?:['’][^\W\d_{_HAN}]+)*")
_SENTENCE_END = re.compile(r"[.!?。！？…；\n]+")
_IS_HAN = re.compile(rf"[{_HAN}]")

_HAN_SHARE = 0.5
"""Share of Chinese characters among the tokens of a Chinese text; English words inside are common."""
_FUNCTION_SHARE = 0.2
"""Least share of function words of an English text. ESConv's seekers have 0.59, texts in other languages that
use the Latin alphabet below 0.1."""

_FIRST_PERSON = {
    "en": frozenset("i me my mine myself i'm i've i'd i'll im ive".split()),
    "zh": frozenset("我俺咱"),
}
"""First person singular."""

_FUNCTION_WORDS = {
    "en": frozenset(
        """a about after again all also always am an and any are as at be because been before being both but
        by can can't cannot could couldn't did didn't do does doesn't doing don't dont down else even ever
        every few for from get getting go going gone got had has hasn't have haven't having he he's her here
        hers him his how however i i'd i'll i'm i've if im in into is isn't it it's its ive just know let like
        lot made make many may maybe me might mine more most much must my myself never no nobody none nor not
        nothing now of off oh ok okay on once one only or other our out over own really said same say see she
        she's should shouldn't so some something still such than thank thanks that that's the their them then
        there there's these they they're thing things think this those though through to too under until up
        us very want was wasn't way we well went were weren't what what's when where which while who why will
        with won't would wouldn't yeah yes yet you you're your yours""".split()
    ),
    "zh": frozenset(
        "的了是我你您他她它们不没有在和就都也很这那么吗呢吧啊啦呀嘛哦嗯唉着过到要会能可说去来得地个一二三上下里"
        "还又再被把给让跟对从向但而且或因为所以如果虽然什怎样哪谁几多少些只才自己人之与及以于其此更最太真好像想"
    ),
}
"""Words without content of their own; in Chinese, characters."""

_RESISTANCE = {
    "en": re.compile(
        r"\b(?:no|not|never|nothing|nobody|none|nor|nope|nah|cannot|but|however|though|although|except|"
        r"useless|pointless|refuse|[a-z]+n['’]t|(?:ca|wo|do|did|does|is|was|could|would|should|have)nt)\b",
        re.IGNORECASE,
    ),
    "zh": re.compile("不(?!错|好意思)|没(?!错)|别(?!人|的)|但|可是|然而|算了|无法|拒绝|白费"),
}
"""Negation, refusal and contrast. A rate of such words, not a reading of what is resisted."""


def tokens_of(text: str) -> tuple[str, ...]:
    """Return the lower-case words of a text; every Chinese character is a token of its own.

    >>> tokens_of("I'm tired, 真的累 2day")
    ("i'm", 'tired', '真', '的', '累', 'day')
    """
    return tuple(token.replace("’", "'") for token in _TOKEN.findall(text.lower()))


def sentences_of(text: str) -> tuple[str, ...]:
    """Return the parts of a text between end marks that contain a word."""
    return tuple(part for part in _SENTENCE_END.split(text) if _TOKEN.search(part))


def language_of(texts: Sequence[str]) -> Language | None:
    """Return the language of texts; None if it is neither English nor Chinese, or there is no word."""
    tokens = [token for text in texts for token in tokens_of(text)]
    if not tokens:
        return None
    if sum(bool(_IS_HAN.match(token)) for token in tokens) >= _HAN_SHARE * len(tokens):
        return "zh"
    known = sum(token in _FUNCTION_WORDS["en"] for token in tokens)
    return "en" if known >= _FUNCTION_SHARE * len(tokens) else None


def content_words(tokens: Sequence[str], language: Language) -> frozenset[str]:
    """Return the different tokens that are no function words."""
    return frozenset(tokens) - _FUNCTION_WORDS[language]


def is_first_person(sentence: str, language: Language) -> bool:
    """Whether a sentence speaks in the first person singular."""
    return not _FIRST_PERSON[language].isdisjoint(tokens_of(sentence))


def resists(sentence: str, language: Language) -> bool:
    """Whether a sentence contains a word of negation, refusal or contrast."""
    return _RESISTANCE[language].search(sentence) is not None
