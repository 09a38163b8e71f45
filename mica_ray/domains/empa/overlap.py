"""Text overlap of two cards: shingles of five characters, and sketches of them.

A sketch is a small set of hashes that identifies a text without revealing it.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

Shingles = frozenset[int]
"""Hashes (CRC-32) of all sequences of five letters in a text."""

NEAR_DUPLICATE = 0.5
"""Shared fraction from which two texts count as one. No pair of the 1010 published cards reaches 0.17."""

_LENGTH = 5
_NO_LETTER = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class NearText:
    """A text and its most similar reference."""

    name: str
    reference: str
    shared_fraction: float
    """Common shingles as a share of the smaller set."""

    @property
    def is_duplicate(self) -> bool:
        """Whether the two are the same text up to small changes."""
        return self.shared_fraction >= NEAR_DUPLICATE


def shingles(text: str) -> Shingles:
    """Return the shingles of a text; case, white space and punctuation are ignored."""
    letters = _NO_LETTER.sub("", text.lower())
    return frozenset(
        zlib.crc32(letters[start : start + _LENGTH].encode())
        for start in range(max(1, len(letters) - _LENGTH + 1))
    )


def sketch(found: Shingles, size: int = 32) -> Shingles:
    """Return the `size` smallest hashes: a deterministic random sample of a text's shingles.

    The share of a sketch that a second text contains estimates the share of the first text in it (bottom-k
    sketch; Broder 1997), with a standard error of at most 0.5 / sqrt(size).
    """
    return frozenset(sorted(found)[:size])


def shared_fraction(part: Shingles, whole: Shingles) -> float:
    """Return the share of `part` that is in `whole`; 0 if `part` is empty."""
    return len(part & whole) / len(part) if part else 0.0


def nearest(texts: Mapping[str, str], references: Mapping[str, str]) -> tuple[NearText, ...]:
    """Return the most similar reference of every text, most similar first.

        shared(a, b) = |S_a and S_b| / min(|S_a|, |S_b|),   S the shingles          overlap coefficient

    Args:
        texts: texts by name.
        references: reference texts by name.

    Returns:
        One entry per text that shares a shingle with a reference.
    """
    sizes = dict.fromkeys(references, 0)
    owners: defaultdict[int, list[str]] = defaultdict(list)
    for name, text in references.items():
        for shingle in (found := shingles(text)):
            owners[shingle].append(name)
        sizes[name] = len(found)
    near: list[NearText] = []
    for name, text in texts.items():
        found = shingles(text)
        shared = Counter(owner for shingle in found for owner in owners.get(shingle, ()) if owner != name)
        fractions = {owner: count / min(len(found), sizes[owner]) for owner, count in shared.items()}
        if fractions:
            best = max(sorted(fractions), key=fractions.__getitem__)
            near.append(NearText(name, best, fractions[best]))
    return tuple(sorted(near, key=lambda item: (-item.shared_fraction, item.name)))
