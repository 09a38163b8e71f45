"""What each message of a user is like: length, disclosure, resistance, repetition, diversity.

simulators/comparison.py compares the values of people and simulated users.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.dialogue.message_faults import has_control_mark, is_script, speaks_as_model
from mica_ray.simulators.words import (
    Language,
    content_words,
    is_first_person,
    resists,
    sentences_of,
    tokens_of,
)

WINDOW = 50
"""Tokens of the moving window of the type-token ratio (Covington and McFall 2010)."""
_GRAM = {"en": 3, "zh": 4}
"""Tokens of a repeated n-gram: three words, four characters."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One value of every message."""

    key: str
    title: str
    unit: str
    meaning: str


MEASURES: tuple[Measure, ...] = (
    Measure("length", "message length", "words", "Words of the message; in Chinese, characters."),
    Measure(
        "first_person",
        "first-person statements",
        "share",
        "Disclosure: share of the message's sentences in the first person singular.",
    ),
    Measure(
        "new_content",
        "new content words",
        "words",
        "Disclosure: different content words that the user has not used before; in Chinese, characters.",
    ),
    Measure(
        "resistance",
        "resistance",
        "share",
        "Share of sentences with a word of negation, refusal or contrast (not, never, but). A rate of words: "
        "it does not tell what is resisted.",
    ),
    Measure(
        "repetition",
        "repetition",
        "share",
        "Share of the message's n-grams (three words, four characters) in the user's own earlier messages. "
        "The first message, and messages without an n-gram, have none.",
    ),
    Measure(
        "diversity",
        "lexical diversity",
        "share",
        f"Moving type-token ratio: different words among {WINDOW}, over all windows of the user's words that "
        f"end in the message. Messages before the word number {WINDOW} have none.",
    ),
    Measure(
        "model_talk",
        "talk that only a model writes",
        "share",
        "Share of messages that are a script, contain control marks, or speak as an AI.",
    ),
)
"""In the order of the columns of `measured`."""


def measured(messages: Sequence[str], language: Language) -> np.ndarray:
    """Measure the messages of one dialogue, [M, K] in the order of MEASURES; NaN where not defined.

    Args:
        messages: of the user, in order.
        language: decides the word lists and the length of an n-gram.
    """
    rows = np.full((len(messages), len(MEASURES)), np.nan)
    known: frozenset[str] = frozenset()
    grams: set[tuple[str, ...]] = set()
    ratios = _moving_ratios([tokens_of(message) for message in messages])
    for number, message in enumerate(messages):
        tokens, sentences = tokens_of(message), sentences_of(message)
        content = content_words(tokens, language)
        own = _grams(tokens, _GRAM[language])
        rows[number] = (
            len(tokens),
            _share([is_first_person(sentence, language) for sentence in sentences]),
            len(content - known),
            _share([resists(sentence, language) for sentence in sentences]),
            _share([gram in grams for gram in own]) if number else np.nan,
            ratios[number],
            float(is_script(message) or has_control_mark(message) or speaks_as_model(message)),
        )
        known |= content
        grams.update(own)
    return rows


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else np.nan


def _grams(tokens: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]


def _moving_ratios(messages: Sequence[Sequence[str]]) -> list[float]:
    """Return for each message the mean type-token ratio of the windows that end in it, or NaN."""
    spoken: list[str] = []
    counts: Counter[str] = Counter()
    means: list[float] = []
    for tokens in messages:
        ratios: list[float] = []
        for token in tokens:
            spoken.append(token)
            counts[token] += 1
            if len(spoken) > WINDOW:
                leaving = spoken[-WINDOW - 1]
                counts[leaving] -= 1
                if not counts[leaving]:
                    del counts[leaving]
            if len(spoken) >= WINDOW:
                ratios.append(len(counts) / WINDOW)
        means.append(float(np.mean(ratios)) if ratios else np.nan)
    return means
