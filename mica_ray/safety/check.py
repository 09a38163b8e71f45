"""The care check: signs of danger are found before the model runs; a help line is added.

The rules are in safety/rules.py, the counters in safety/counts.py. No text is stored or logged here.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from mica_ray import checks

CareKind = Literal["self_harm", "violence", "abuse", "medical"]
"""Kind of danger: to oneself, to others, from others, or a medical emergency."""

KINDS: tuple[CareKind, ...] = get_args(CareKind)


FoundKind = CareKind | Literal["unchecked"]
"""`unchecked`: the check did not end before its deadline (safety/paced_check.py)."""


@dataclass(frozen=True, slots=True)
class CareFinding:
    """A sign of acute danger in one message."""

    kind: FoundKind
    lead: str
    """The help line: the text with which the answer begins."""


CareSteps = Generator[None, None, CareFinding | None]
"""A check that pauses after each few milliseconds of work, and returns its finding."""


class CareCheck(Protocol):
    """Checks what a person wrote, before any model runs. Safe for concurrent calls."""

    def check(self, text: str, locale: str) -> CareFinding | None:
        """Return the sign of danger that was found; None if there is none.

        Args:
            text: one message of the person.
            locale: its language as a BCP 47 tag such as `en-GB`; selects the help line, not the rules.
        """
        ...

    def steps(self, text: str, locale: str) -> CareSteps:
        """Do the same in steps, between which a service answers other requests."""
        ...

    def help_line(self, locale: str) -> str:
        """Return the help line for a message that could not be checked."""
        ...

    def without_help_line(self, text: str) -> str:
        """Return a reply without the help line with which it begins, if it begins with one."""
        ...


def complete(steps: CareSteps) -> CareFinding | None:
    """Run all steps of a check and return its finding."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@dataclass(frozen=True, slots=True)
class HelpLine:
    """The operator's text for one language, and for one kind of danger or for all."""

    locale: str
    text: str
    kind: CareKind | None = None
    """None: for every kind without a text of its own."""

    def __post_init__(self) -> None:
        """Check that no field is empty and that the kind exists."""
        for name, text in (("locale", self.locale), ("text", self.text)):
            if not text.strip():
                raise ValueError(f"{name} must not be empty, got {text!r}.")
        checks.one_of((*KINDS, None), kind=self.kind)


_NO_NUMBER = (
    HelpLine(
        "en",
        "If you or someone near you is in danger now, please call your local emergency number, or go to "
        "someone who can be with you. I am a machine and cannot send help.",
    ),
    HelpLine(
        "zh",
        "如果你或你身边的人正处于危险之中，请立即拨打当地的紧急求助电话，或去找一个能陪在你身边的人。我是一台机器，无法为你派出救援。",
    ),
)


@dataclass(frozen=True, slots=True)
class HelpLines:
    """The operator's texts. The default names no phone number: these differ by country."""

    lines: tuple[HelpLine, ...] = _NO_NUMBER

    def __post_init__(self) -> None:
        """Check that every locale finds a text."""
        if not any(line.locale == "en" and line.kind is None for line in self.lines):
            raise ValueError(
                "lines has no text with locale 'en' and no kind. Add one: it serves languages without a text."
            )

    @classmethod
    def read(cls, path: Path) -> HelpLines:
        """Read texts from a JSON list; locales that are not in it keep the default.

            [{"locale": "en", "text": "...", "kind": null}, ...]

        Raises:
            ValueError: the file is missing or has another form.
        """
        form = 'a JSON list of {"locale": "en", "text": "...", "kind": null}'
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            lines = tuple(HelpLine(**entry) for entry in entries)
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as help lines ({error}). Write {form}.") from error
        return cls((*lines, *_NO_NUMBER))

    def text(self, locale: str, kind: CareKind | None) -> str:
        """Return the text for `zh-Hans-CN`, else `zh-Hans`, `zh`, `en`; the kind's own first.

        Args:
            locale: a BCP 47 tag.
            kind: of danger; None for the text that has no kind.
        """
        parts = locale.replace("_", "-").lower().split("-")
        prefixes = ["-".join(parts[:length]) for length in range(len(parts), 0, -1)]
        for candidate in (*prefixes, "en"):
            for wanted in (kind, None):
                for line in self.lines:
                    if line.locale.replace("_", "-").lower() == candidate and line.kind == wanted:
                        return line.text
        raise AssertionError("HelpLines has an English text")

    def removed_from(self, text: str) -> str:
        """Return a reply without the help line with which it begins, if it begins with one."""
        # The longest first: one text may begin with another.
        for line in sorted((line.text for line in self.lines), key=len, reverse=True):
            if text.startswith(line):
                return text.removeprefix(line).lstrip()
        return text


class NoCare:
    """Finds nothing: for an operator whose own service checks the messages first."""

    def check(self, text: str, locale: str) -> CareFinding | None:
        """Return None."""
        return None

    def steps(self, text: str, locale: str) -> CareSteps:
        """Return None after no step."""
        yield from ()
        return None

    def help_line(self, locale: str) -> str:
        """Return the default help line; no check of this class is ever incomplete."""
        return HelpLines().text(locale, None)

    def without_help_line(self, text: str) -> str:
        """Return the text."""
        return text
