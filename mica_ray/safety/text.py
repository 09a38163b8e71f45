"""The plain form of a message, which the care rules search: one spelling, no disguises."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

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
_ENDINGS = ".!?;\n。！？；…"
_SENTENCES = re.compile(f"[{_ENDINGS}]+")
_LINE_BREAKS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_HYPHENATED = re.compile(r"(?<=[a-z])- *\n\s*(?=[a-z])")
_LONG_GAP = re.compile(r"[\W_]{9,}")
_LETTER_AND_LOOKALIKE = re.compile(r"(?<![a-z013457@$])(?=[a-z]*[013457@$])[a-z013457@$]+")
MAX_SENTENCE = 720
"""Characters of a longer sentence that are searched at once: the work grows in proportion to the length."""
OVERLAP = 240
"""Characters that two neighbouring parts share: more than any pattern of rules.toml spans."""
_LONGEST_WORD = 32
_LIGATURE = 4
"""Letters that one character stands for at most; those with more are words of other languages."""
_MAX_PIECE = 8192
"""Characters that are brought into plain form at once, a few milliseconds of work."""
_PIECE_OVERLAP = 400
_MAX_FOLDED = 65_536
"""Characters whose plain form is kept: more than the languages of the rules have."""
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
    near: tuple[str, ...] = ()
    but_not: Collection[str] = ()

    def correct(self, word: str) -> str:
        """Return the intended word."""
        if word in self.listed:
            return self.listed[word]
        if len(word) < 5 or word in self.near or word in self.but_not:
            return word
        return _nearest(word, self.near)


def sentences(text: str, spelling: Spelling) -> Iterator[str]:
    """Yield the sentences of a message in plain form; of a sentence over MAX_SENTENCE overlapping parts.

    Replaces compatibility forms, hidden and combining characters, lookalike digits inside words, spaced-out
    letters, contractions, traditional Chinese characters and misspellings. A line break is read twice: as the
    end of a sentence, and as a space, because a phrase may continue on the next line.

    The time is proportional to the length of the text, whatever it contains. What was yielded before becomes
    an empty string, so that a caller gets the control back after a few milliseconds in any case.

    Args:
        text: as the person wrote it.
        spelling: corrections of the rules.
    """
    seen: set[str] = set()
    for piece in _pieces(_visible(text).lower().translate(_TRADITIONAL)):
        for reading in _readings(piece):
            for part in _SENTENCES.split(_plain(reading)):
                # Twice: corrections can lengthen a part.
                words = (_words(raw, spelling) for raw in _parts(part))
                for sentence in itertools.chain.from_iterable(map(_parts, words)):
                    yield "" if sentence in seen else sentence
                    seen.add(sentence)


def _visible(text: str) -> str:
    """Remove what a reader does not see: zero-width characters, marks stacked on letters.

    Character by character, because normalizing a long run of marks takes quadratic time. Longer gaps between
    words are shortened, so that none moves the words of a phrase apart.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_FOLDED))
    return _LONG_GAP.sub(_short_gap, _LINE_BREAKS.sub("\n", text))


class _Folding(dict[int, str]):
    """Character code to its compatibility form without marks, computed at first use."""

    def __missing__(self, code: int) -> str:
        parts = unicodedata.normalize("NFKD", chr(code))
        shown = "".join(part for part in parts[:_LIGATURE] if not _is_hidden(part))
        if len(self) < _MAX_FOLDED:
            self[code] = shown
        return shown


_FOLDED = _Folding()


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Mn") or unicodedata.combining(character) != 0


def _short_gap(match: re.Match[str]) -> str:
    """Return the first end of a sentence in a gap, or spaces: more than separate spaced-out letters."""
    return next((character for character in match.group() if character in _ENDINGS), "    ")


def _pieces(text: str) -> Iterator[str]:
    """Cut a long text at ends of sentences; a sentence without an end is cut into overlapping pieces."""
    begin = 0
    while begin + _MAX_PIECE < len(text):
        end = begin + _MAX_PIECE
        overlap = end - _PIECE_OVERLAP
        ending = max(text.rfind(character, overlap, end) for character in _ENDINGS) + 1
        yield text[begin : ending or end]
        begin = ending or overlap
    yield text[begin:]


def _readings(text: str) -> tuple[str, ...]:
    if "\n" not in text:
        return (text,)
    return text, _HYPHENATED.sub("", text).replace("\n", " ")


def _plain(text: str) -> str:
    """Undo disguises of letters, and write contractions in full."""
    plain = re.sub(r"[\u2018\u2019\u02bc`´]", "'", text)
    plain = re.sub(rf"(?<=[{_CJK}])[ .*_\-/·~|+]+(?=[{_CJK}])", "", plain)
    plain = _SPACED_OUT.sub(_join_letters, plain)
    plain = re.sub(r"(?<=[a-z])[!*|](?=[a-z])", "i", plain)
    plain = _LETTER_AND_LOOKALIKE.sub(_letters_only, plain)
    for pattern, meant in _CONTRACTIONS:
        plain = re.sub(pattern, meant, plain)
    return plain


def _parts(sentence: str) -> Iterator[str]:
    """Yield a sentence; one over MAX_SENTENCE in parts that share OVERLAP, cut between words."""
    while len(sentence) > MAX_SENTENCE:
        yield sentence[:MAX_SENTENCE]
        start = MAX_SENTENCE - OVERLAP
        space = sentence.find(" ", start, start + _LONGEST_WORD)
        sentence = sentence[max(start, space + 1) :]
    yield sentence


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


@lru_cache(maxsize=8192)  # Most words of a message are common ones, and the search is half of a check.
def _nearest(word: str, near: tuple[str, ...]) -> str:
    """Return the first of some words that is one slip away; the word itself if there is none."""
    close = (meant for meant in near if abs(len(word) - len(meant)) <= 1)
    return next((meant for meant in close if _is_one_slip(word, meant)), word)


def _is_one_slip(word: str, meant: str) -> bool:
    """Whether one letter of `meant` is wrong, missing or added, or two neighbours swapped.

    Their lengths must differ by one letter at most.
    """
    start = next((i for i, (a, b) in enumerate(zip(word, meant, strict=False)) if a != b), None)
    if start is None:
        return True
    rest, goal = word[start:], meant[start:]
    swapped = rest[1:2] + rest[:1] + rest[2:] == goal
    return swapped or rest[1:] == goal[1:] or rest[1:] == goal or rest == goal[1:]
