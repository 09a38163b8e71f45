"""Rules of care: signs of danger as patterns, and what makes them harmless; rules.toml holds them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mica_ray.safety.check import KINDS, CareFinding, CareKind, HelpLines
from mica_ray.safety.text import Spelling, sentences

OWN_RULES = Path(__file__).with_name("rules.toml")


@dataclass(frozen=True, slots=True)
class Sign:
    """Patterns of one kind of danger."""

    kind: CareKind
    patterns: tuple[re.Pattern[str], ...]
    excuses: tuple[re.Pattern[str], ...]
    """Where one of them is in the same sentence, the sign does not count."""

    def is_in(self, sentence: str, whole: str) -> bool:
        """Look for the sign in what is left of a sentence; excuses are looked for in the whole of it."""
        if not any(pattern.search(sentence) for pattern in self.patterns):
            return False
        return not any(excuse.search(whole) for excuse in self.excuses)


@dataclass(frozen=True, slots=True)
class CareRules:
    """What is looked for, in the order in which kinds are named when a message shows several."""

    signs: tuple[Sign, ...]
    harmless: tuple[re.Pattern[str], ...]
    """Idioms and negations, taken out before signs are looked for."""
    spelling: Spelling

    @classmethod
    def read(cls, path: Path = OWN_RULES) -> CareRules:
        """Read rules from a file of the form of rules.toml.

        Raises:
            ValueError: it is missing or not of that form; the message names the file and the entry.
        """
        try:
            return _rules(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ValueError(
                f"{path}: cannot be read ({error.strerror}); name a file of care rules"
            ) from error
        except (ValueError, KeyError, TypeError, re.error) as error:
            raise ValueError(f"{path}: {error!s}; write it as mica_ray/serving/rules.toml is") from error

    def find(self, text: str) -> CareKind | None:
        """Give the kind of danger that a message shows, None where it shows none."""
        found = {kind for sentence in sentences(text, self.spelling) for kind in self._kinds(sentence)}
        return next((kind for kind in _ORDER if kind in found), None)

    def _kinds(self, sentence: str) -> set[CareKind]:
        left = sentence
        for phrase in self.harmless:
            left = phrase.sub(" - ", left)
        return {sign.kind for sign in self.signs if sign.is_in(left, sentence)}


_ORDER: Sequence[CareKind] = ("self_harm", "medical", "abuse", "violence")
"""A body in danger first; who is threatened with death and says so is in danger, not dangerous."""


class RuleCare:
    """The care check of our own: rules that anyone can read, no model, milliseconds a message."""

    def __init__(self, rules: CareRules, help_lines: HelpLines) -> None:
        self._rules, self._help_lines = rules, help_lines

    def check(self, text: str, locale: str) -> CareFinding | None:
        """Give what the rules find, with the operator's text for the locale."""
        kind = self._rules.find(text)
        return None if kind is None else CareFinding(kind, self._help_lines.text(locale, kind))


def _rules(content: Mapping[str, Any]) -> CareRules:
    words: Mapping[str, str] = content["words"]
    excuses = {name: _pattern(text, words) for name, text in content["excuses"].items()}
    phrases = [*content["harmless"]["idioms"], *content["harmless"]["negations"]]
    near = content["near"]
    return CareRules(
        signs=tuple(_sign(entry, words, excuses) for entry in content["signs"]),
        harmless=tuple(_pattern(text, words) for text in phrases),
        spelling=Spelling(content["spelling"], tuple(near["words"]), frozenset(near["but_not"])),
    )


def _sign(entry: Mapping[str, Any], words: Mapping[str, str], excuses: Mapping[str, re.Pattern[str]]) -> Sign:
    if entry["kind"] not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {entry['kind']!r}")
    patterns = tuple(_pattern(text, words) for text in entry["patterns"])
    return Sign(entry["kind"], patterns, tuple(excuses[name] for name in entry["excuses"]))


def _pattern(text: str, words: Mapping[str, str]) -> re.Pattern[str]:
    """Put named lists of words in, which may name others, and compile."""
    full = text
    while names := [name for name in words if f"<{name}>" in full]:
        for name in names:
            full = full.replace(f"<{name}>", words[name])
    try:
        return re.compile(full)
    except re.error as error:
        raise ValueError(f"pattern {text!r}: {error}") from error
