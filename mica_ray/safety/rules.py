"""The rules of the care check, read from rules.toml: signs of danger, and excuses."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mica_ray.safety.check import KINDS, CareFinding, CareKind, CareSteps, HelpLines, complete
from mica_ray.safety.text import Spelling, sentences

OWN_RULES = Path(__file__).with_name("rules.toml")


@dataclass(frozen=True, slots=True)
class Sign:
    """Patterns that show one kind of danger."""

    kind: CareKind
    patterns: tuple[re.Pattern[str], ...]
    excuses: tuple[re.Pattern[str], ...]
    """If one of them matches the same sentence, the sign does not count."""

    def is_in(self, remainder: str, sentence: str) -> bool:
        """Whether the sign is in a sentence.

        Args:
            remainder: the sentence without harmless phrases; searched for the patterns.
            sentence: searched for the excuses.
        """
        if not any(pattern.search(remainder) for pattern in self.patterns):
            return False
        return not any(excuse.search(sentence) for excuse in self.excuses)


@dataclass(frozen=True, slots=True)
class CareRules:
    """All rules: signs of danger, harmless phrases, spelling."""

    signs: tuple[Sign, ...]
    harmless: tuple[re.Pattern[str], ...]
    """Idioms and negations, removed before the search for signs."""
    spelling: Spelling

    @classmethod
    def read(cls, path: Path = OWN_RULES) -> CareRules:
        """Read rules from a file in the form of rules.toml.

        Raises:
            ValueError: it is missing or has another form; the message names the file and the entry.
        """
        try:
            return _rules(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ValueError(
                f"{path} cannot be read ({error.strerror}). Name a file of care rules."
            ) from error
        except (ValueError, KeyError, TypeError, re.error) as error:
            raise ValueError(
                f"{path} is not a file of care rules ({error}). Write it as in safety/rules.toml."
            ) from error

    def find(self, text: str) -> CareKind | None:
        """Return the kind of danger that a message shows; None if it shows none."""
        return most_urgent(self.search(text))

    def search(self, text: str) -> Iterator[CareKind | None]:
        """Search a message in steps of about a millisecond; yield the kind that a step found, or None."""
        for sentence in sentences(text, self.spelling):
            yield None
            if not sentence:
                continue
            remainder = sentence
            for phrase in self.harmless:
                remainder = phrase.sub(" - ", remainder)
            for sign in self.signs:
                yield sign.kind if sign.is_in(remainder, sentence) else None


_ORDER: Sequence[CareKind] = ("self_harm", "medical", "abuse", "violence")
"""The kind that is reported if a message shows several. Abuse comes before violence: a person who writes
that someone threatens to kill them is in danger, not dangerous."""


def most_urgent(kinds: Iterable[CareKind | None]) -> CareKind | None:
    """Return the kind to report of all that were found; None if there is none."""
    found = set(kinds)
    return next((kind for kind in _ORDER if kind in found), None)


class RuleCare:
    """Our care check: readable rules instead of a model, milliseconds a message."""

    def __init__(self, rules: CareRules, help_lines: HelpLines) -> None:
        self._rules, self._help_lines = rules, help_lines

    def check(self, text: str, locale: str) -> CareFinding | None:
        """Return what the rules find, with the operator's text for the locale."""
        return complete(self.steps(text, locale))

    def steps(self, text: str, locale: str) -> CareSteps:
        """Do the same in steps."""
        found: set[CareKind | None] = set()
        for kind in self._rules.search(text):
            found.add(kind)
            yield
        kind = most_urgent(found)
        return None if kind is None else CareFinding(kind, self._help_lines.text(locale, kind))

    def help_line(self, locale: str) -> str:
        """Return the operator's text for a message that could not be checked."""
        return self._help_lines.text(locale, None)

    def without_help_line(self, text: str) -> str:
        """Return a reply without the operator's help line."""
        return self._help_lines.removed_from(text)


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
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {entry['kind']!r}")
    patterns = tuple(_pattern(text, words) for text in entry["patterns"])
    return Sign(entry["kind"], patterns, tuple(excuses[name] for name in entry["excuses"]))


def _pattern(text: str, words: Mapping[str, str]) -> re.Pattern[str]:
    """Replace each `<name>` by its list of words, which may contain other names, and compile."""
    full, depth = text, 0
    while names := [name for name in words if f"<{name}>" in full]:
        depth += 1
        if depth > len(words):
            raise ValueError(f"words {', '.join(names)} contain themselves. Remove the cycle.")
        for name in names:
            full = full.replace(f"<{name}>", words[name])
    try:
        return re.compile(full)
    except re.error as error:
        raise ValueError(f"pattern {text!r}: {error}") from error
