"""Care: signs of acute danger are looked for before the model is asked; a help line then leads the answer.

The rules that look are in care_rules.py, what counts them in care_counts.py. No text is kept or logged here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

CareKind = Literal["self_harm", "violence", "abuse", "medical"]
"""What danger: to oneself, to others, from others, of the body."""

KINDS: tuple[CareKind, ...] = get_args(CareKind)


@dataclass(frozen=True, slots=True)
class CareFinding:
    """A sign of acute danger in one message."""

    kind: CareKind
    lead: str
    """The help-line text with which the answer begins."""


class CareCheck(Protocol):
    """Looks through what a person wrote, before any model is asked. Safe to call at once from many."""

    def check(self, text: str, locale: str) -> CareFinding | None:
        """Give what was found, None where nothing was.

        Args:
            text: one message of the person.
            locale: its language as BCP 47 has it, such as `en-GB`; it chooses the help line, not the rules.
        """
        ...


@dataclass(frozen=True, slots=True)
class HelpLine:
    """A text of the operator's for one language, and for one kind of danger or for all."""

    locale: str
    text: str
    kind: CareKind | None = None
    """None: for every kind that has no text of its own."""

    def __post_init__(self) -> None:
        """Refuse a text that could not be shown or found."""
        for name in ("locale", "text"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} must not be empty; got {getattr(self, name)!r}")
        if self.kind is not None and self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)} or null; got {self.kind!r}")


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
    """The operator's texts. The default names no number, since those differ by country."""

    lines: tuple[HelpLine, ...] = _NO_NUMBER

    def __post_init__(self) -> None:
        """Refuse texts among which a locale could find none."""
        if not any(line.locale == "en" and line.kind is None for line in self.lines):
            raise ValueError("lines must have one with locale 'en' and no kind, for languages that have none")

    @classmethod
    def read(cls, path: Path) -> HelpLines:
        """Read `[{"locale": "en", "text": "...", "kind": null}, ...]`; what it leaves out keeps the default.

        Raises:
            ValueError: the file is missing or holds something else; the message names it and the remedy.
        """
        form = 'a JSON list of {"locale": "en", "text": "...", "kind": null}'
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
            lines = tuple(HelpLine(**entry) for entry in given)
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not read as help lines ({error}); write {form}") from error
        return cls((*lines, *_NO_NUMBER))

    def text(self, locale: str, kind: CareKind) -> str:
        """Give the text for `zh-Hans-CN`, or else `zh-Hans`, `zh`, `en`; the kind's own text first."""
        parts = locale.replace("_", "-").lower().split("-")
        asked = ["-".join(parts[:length]) for length in range(len(parts), 0, -1)]
        for candidate in (*asked, "en"):
            for wanted in (kind, None):
                for line in self.lines:
                    if line.locale.replace("_", "-").lower() == candidate and line.kind == wanted:
                        return line.text
        raise AssertionError("HelpLines has an English text")


class NoCare:
    """Finds nothing: for an operator whose own service looks through the messages before they come here."""

    def check(self, text: str, locale: str) -> CareFinding | None:
        """Give None."""
        return None
