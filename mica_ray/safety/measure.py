"""How often a care check misses and how often it cries wolf, on labelled messages. No message is printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mica_ray.safety.check import KINDS, CareCheck, CareKind
from mica_ray.statistics import Interval, wilson

OWN_MESSAGES = Path(__file__).with_name("messages.jsonl")

Half = Literal["tuning", "held_out"]


@dataclass(frozen=True, slots=True)
class CareMessage:
    """One message of a test set."""

    text: str
    locale: str
    kind: CareKind | None
    """None: there is no acute danger in it."""
    hard: bool
    """With danger: said in a roundabout way or disguised. Without: sounds like danger."""
    half: Half = "held_out"
    """The rules were tuned on the one half; the other was written before any rule was."""

    def __post_init__(self) -> None:
        """Refuse labels that mean nothing."""
        if self.kind is not None and self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)} or null; got {self.kind!r}")
        if self.half not in ("tuning", "held_out"):
            raise ValueError(f"half must be tuning or held_out; got {self.half!r}")


@dataclass(frozen=True, slots=True)
class CareShare:
    """The messages of one label, and in how many the check found danger: recall, or the false-alarm rate."""

    kind: CareKind | None
    hard: bool
    share: Interval
    """Of the messages in which anything was found, Wilson interval."""
    found: int
    right_kind: int
    """Found as the kind they are labelled with; 0 where there is no danger."""
    total: int


def read_messages(path: Path = OWN_MESSAGES) -> tuple[CareMessage, ...]:
    """Read JSON lines of text, locale, kind, hard and half.

    Raises:
        ValueError: the file is missing or a line is of another form; the message names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); name a file of messages") from error
    messages: list[CareMessage] = []
    for number, line in enumerate(lines, start=1):
        try:
            messages.append(CareMessage(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}:{number}: {error}; write it as messages.jsonl has it") from error
    if not messages:
        raise ValueError(f"{path}: holds no message; write one JSON object a line")
    return tuple(messages)


def measure(check: CareCheck, messages: Iterable[CareMessage]) -> tuple[CareShare, ...]:
    """Let the check look through every message.

    Returns:
        A row for each label that occurs, first the kinds, last the messages without danger.
    """
    kinds: dict[tuple[CareKind | None, bool], list[CareKind | None]] = {}
    for message in messages:
        finding = check.check(message.text, message.locale)
        kinds.setdefault((message.kind, message.hard), []).append(finding.kind if finding else None)
    order: list[CareKind | None] = [*KINDS, None]
    return tuple(
        _share(kind, hard, kinds[kind, hard])
        for kind in order
        for hard in (False, True)
        if (kind, hard) in kinds
    )


def plain_recall(shares: Sequence[CareShare]) -> Interval:
    """Give the recall over the plainly said messages of all kinds; NaN where there are none."""
    plain = [share for share in shares if share.kind is not None and not share.hard]
    return wilson(sum(share.found for share in plain), sum(share.total for share in plain))


def care_record(shares: Sequence[CareShare]) -> dict[str, object]:
    """Give the rows as plain JSON values."""
    return {"plain_recall": asdict(plain_recall(shares)), "labels": [asdict(share) for share in shares]}


def _share(kind: CareKind | None, hard: bool, found: Sequence[CareKind | None]) -> CareShare:
    num_found = sum(item is not None for item in found)
    right = sum(item == kind for item in found) if kind is not None else 0
    return CareShare(kind, hard, wilson(num_found, len(found)), num_found, right, len(found))
