"""The plain form of a message, which the care rules search: one spelling, no disguises."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

_CONTRACTIONS = (
    (r"\bcan'?t\b", "can not"), (r"\bwon't\b", "will not"), (r"n't\b", " not"), (r"'m\b", " am"),
    (r"'ve\b", " have"), (r"'re\b", " are"), (r"'ll\b", " will"), (r"'d\b", " would"),
    (r"\b(he|she|it|there|that|who|what|where|here)'s\b", r"\1 is"), (r"'s\b", ""), (r"'", ""),
)  # fmt: skip
_LOOKALIKES = str.maketrans({"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s"})
_TRADITIONAL = str.maketrans(
    "殺傷結束點這個來過時氣歲藥樓遺書藏買準備劃強姦暴虐鎖關嗎爸媽說話兒們給讓對斷離開燒發為無論會變動當還體顏嘔吐醫壓",
    "杀伤结束点这个来过时气岁药楼遗书藏买准备划强奸暴虐锁关吗爸妈说话儿们给让对断离开烧发为无论会变动当还体颜呕吐医压",
)
_CJK = r"\u3400-\u9fff"
_SENTENCES = re.compile(r"[.!?;\n。！？；…]+")
_SPACED_OUT = re.compile(r"(?<![a-z])[a-z](?:[ .\-_*]{1,3}[a-z]){3,}(?![a-z])")


@dataclass(frozen=True, slots=True)
class Spelling:
    """Corrections of misspelled words.

    Attributes:
        listed: misspelling to correction.
        near: words that are recognized with one wrong, missing, added or swapped letter.
        but_not: correct words that are one letter from those.
    """

    listed: Mapping[str, str] = field(default_factory=dict[str, str])
    near: Collection[str] = ()
    but_not: Collection[str] = ()

    def correct(self, word: str) -> str:
        """Return the intended word."""
        if word in self.listed:
            return self.listed[word]
        if len(word) < 5 or word in self.near or word in self.but_not:
            return word
        return next((meant for meant in self.near if _is_one_slip(word, meant)), word)


def sentences(text: str, spelling: Spelling) -> tuple[str, ...]:
    """Return the sentences of a message in plain form.

    Replaces compatibility forms, hidden and combining characters, lookalike digits inside words, spaced-out
    letters, contractions, traditional Chinese characters and misspellings.

    Args:
        text: as the person wrote it.
        spelling: corrections of the rules.
    """
    plain = _visible(text).lower().translate(_TRADITIONAL)
    plain = re.sub(r"[\u2018\u2019\u02bc`´]", "'", plain)
    plain = re.sub(rf"(?<=[{_CJK}])[ .*_\-/·~|+]+(?=[{_CJK}])", "", plain)
    plain = _SPACED_OUT.sub(_join_letters, plain)
    plain = re.sub(r"(?<=[a-z])[!*|](?=[a-z])", "i", plain)
    plain = re.sub(r"[a-z013457@$]+", _letters_only, plain)
    for pattern, meant in _CONTRACTIONS:
        plain = re.sub(pattern, meant, plain)
    found = (_words(part, spelling) for part in _SENTENCES.split(plain))
    return tuple(sentence for sentence in found if sentence)


def _visible(text: str) -> str:
    """Remove what a reader does not see: zero-width characters, marks stacked on Latin letters."""
    folded = unicodedata.normalize("NFKD", text)
    kept = "".join(character for character in folded if unicodedata.category(character) not in ("Cf", "Mn"))
    return unicodedata.normalize("NFKC", kept)


def _join_letters(match: re.Match[str]) -> str:
    """Join spaced-out letters into words; two or more spaces separate words."""
    words = re.split(r"\s{2,}", match.group())
    return " ".join(re.sub(r"[^a-z]", "", word) for word in words)


def _letters_only(match: re.Match[str]) -> str:
    """Replace digits inside a word by letters: `d1e`, `mys3lf`, but not `5am` or `1998`."""
    word = match.group()
    num_letters = sum(character.isalpha() for character in word)
    is_inside = word[0].isalpha() and word[-1].isalpha()
    return word.translate(_LOOKALIKES) if num_letters >= 3 or (num_letters == 2 and is_inside) else word


def _words(sentence: str, spelling: Spelling) -> str:
    spaced = re.sub(rf"[^\w\s,{_CJK}]|_", " ", sentence)
    return " ".join(
        ",".join(spelling.correct(part) for part in word.split(",")) for word in spaced.split()
    ).strip(" ,")


def _is_one_slip(word: str, meant: str) -> bool:
    """Whether one letter of `meant` is wrong, missing or added, or two neighbours swapped."""
    if abs(len(word) - len(meant)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(word, meant, strict=False)) if a != b), None)
    if start is None:
        return True
    rest, goal = word[start:], meant[start:]
    swapped = rest[1:2] + rest[:1] + rest[2:] == goal
    return swapped or rest[1:] == goal[1:] or rest[1:] == goal or rest == goal[1:]
