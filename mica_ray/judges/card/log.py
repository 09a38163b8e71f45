"""The judgements of a card on disk, one line each; a later call asks only what is missing.

A failed call (timeout, endpoint down) has no line and is asked again; an invalid answer has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mica_ray.chat.ledger import Tally
from mica_ray.files import (
    JsonFileError,
    append_line,
    json_line,
    keep_settings,
    mend_lines,
    read_json_lines,
)
from mica_ray.judges.card.presentations import Presentation
from mica_ray.types import Judgement, State, Status

Levels = tuple[int, int, int]

REASONS: Mapping[str, tuple[str, ...]] = {
    "cut off": ("was cut off", "content filter", "breaks off", "within its thoughts"),
    "copied from the dialogue": ("copied from the dialogue",),
    "not one JSON object": ("JSON object",),
    "missing field": ("is missing",),
    "level out of range": ("must be one of",),
    "wrong type": ("must be text",),
}
"""Reasons of an invalid answer, and the words of the error by which they are recognized; the first counts."""
OTHER = "other"


class JudgementLogError(ValueError):
    """A log that cannot be continued; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer of a judge."""

    item: str
    condition: str
    repeat: int
    status: str
    progress: Levels | None = None
    regress: Levels | None = None
    delta: State | None = None
    """v_t in points; None if the answer is invalid."""
    error: str | None = None
    unfound_evidence: int = 0
    evidence: Mapping[str, str] = field(default_factory=dict[str, str])
    cost: Mapping[str, float] = field(default_factory=dict[str, float])
    """Fields of a `Tally`; empty for a judge that makes no calls."""

    @classmethod
    def of(cls, asked: Presentation, judgement: Judgement, cost: Tally | None) -> Judged:
        """Return the record of a judgement."""
        return cls(
            *asked.key,
            status=str(judgement.status),
            progress=judgement.progress,
            regress=judgement.regress,
            delta=judgement.delta,
            error=judgement.error,
            unfound_evidence=judgement.unfound_evidence,
            evidence=judgement.evidence,
            cost={} if cost is None else asdict(cost),
        )

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies the answer."""
        return self.item, self.condition, self.repeat

    @property
    def judgement(self) -> Judgement:
        """The judgement as its judge returned it."""
        return Judgement(
            progress=self.progress, regress=self.regress, delta=self.delta, status=Status(self.status),
            error=self.error,
        )  # fmt: skip

    @property
    def reason(self) -> str | None:
        """Why the answer is invalid, a key of `REASONS`; None for a valid one."""
        if self.delta is not None:
            return None
        error = self.error or ""
        return next((name for name, marks in REASONS.items() if any(mark in error for mark in marks)), OTHER)


class JudgementLog:
    """The answers of one judge, in one file next to its settings.

    Args:
        path: file of JSON lines, created if missing.
        settings: everything an answer depends on. A file holds the answers of one setting only.

    Raises:
        JudgementLogError: the file holds answers under other settings, or cannot be read.
    """

    def __init__(self, path: Path, settings: Mapping[str, object]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            change = keep_settings(path.with_suffix(".settings.json"), settings)
            if change is not None:
                name, was, now = change
                raise JudgementLogError(
                    f"{path} holds judgements with {name}={was!r:.200}, not {now!r:.200}. "
                    "Use another folder: --out DIR."
                )
            mend_lines(path)
            found = [_read(line.fields) for line in read_json_lines(path, is_growing=True)]
        except (JsonFileError, KeyError, TypeError) as error:
            raise JudgementLogError(f"{path}: not a file of judgements ({error}). Delete it.") from error
        self._judged = {one.key: one for one in found}

    def missing(self, asked: Sequence[Presentation]) -> list[Presentation]:
        """Return the questions without an answer, in their order."""
        return [one for one in asked if one.key not in self._judged]

    def answers(self, asked: Sequence[Presentation]) -> dict[tuple[str, str, int], Judged]:
        """Return the answers to these questions so far."""
        return {one.key: self._judged[one.key] for one in asked if one.key in self._judged}

    def record(self, judged: Judged) -> None:
        """Store an answer."""
        self._judged[judged.key] = judged
        append_line(self.path, json_line(asdict(judged)))


def _read(fields: Mapping[str, Any]) -> Judged:
    rows = {name: fields[name] for name in ("progress", "regress", "delta")}
    for name, row in rows.items():
        if row is not None and not (isinstance(row, list) and len(row) == 3):
            raise TypeError(f"{name} must be three numbers, got {row!r:.60}")
    return Judged(**{**fields, **{name: None if row is None else tuple(row) for name, row in rows.items()}})
