"""Recall and false alarms of a care check on labelled messages. Prints no message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from mica_ray import checks
from mica_ray.files import JsonFileError, read_json_lines
from mica_ray.safety.check import KINDS, CareCheck, CareKind, FoundKind
from mica_ray.statistics import Interval, wilson

OWN_MESSAGES = Path(__file__).with_name("messages.jsonl")

Half = Literal["tuning", "held_out"]


@dataclass(frozen=True, slots=True)
class CareMessage:
    """One message of a test set."""

    text: str
    locale: str
    kind: CareKind | None
    """None: the message shows no acute danger."""
    hard: bool
    """With danger: worded indirectly or disguised. Without danger: sounds like it."""
    half: Half = "held_out"
    """The rules were tuned on one half; the other half was written before any rule."""

    def __post_init__(self) -> None:
        """Check the labels."""
        checks.one_of((*KINDS, None), kind=self.kind)
        checks.one_of(get_args(Half), half=self.half)


@dataclass(frozen=True, slots=True)
class CareShare:
    """The messages of one label, and the share in which the check found danger."""

    kind: CareKind | None
    hard: bool
    share: Interval
    """Share of messages with a finding of any kind, with its Wilson interval."""
    found: int
    right_kind: int
    """Messages found with the kind of their label; 0 for messages without danger."""
    total: int


def read_messages(path: Path = OWN_MESSAGES) -> tuple[CareMessage, ...]:
    """Read JSON lines of text, locale, kind, hard and half.

    Raises:
        ValueError: the file is missing, or a line has another form; the message names file and line.
    """
    try:
        lines = read_json_lines(path)
    except JsonFileError as error:
        raise ValueError(f"{error} Write one message a line, as in safety/messages.jsonl.") from error
    messages: list[CareMessage] = []
    for line in lines:
        try:
            messages.append(CareMessage(**line.fields))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{line.place} is not a labelled message ({error}). Write it as in safety/messages.jsonl."
            ) from error
    if not messages:
        raise ValueError(f"{path} has no messages. Write one JSON object a line.")
    return tuple(messages)


def measure(check: CareCheck, messages: Iterable[CareMessage]) -> tuple[CareShare, ...]:
    """Run the check on every message.

    Returns:
        One row for each label that occurs; messages without danger come last.
    """
    kinds: dict[tuple[CareKind | None, bool], list[FoundKind | None]] = {}
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
    """Return the recall on the plainly worded messages of all kinds; NaN if there are none."""
    plain = [share for share in shares if share.kind is not None and not share.hard]
    return wilson(sum(share.found for share in plain), sum(share.total for share in plain))


def care_record(shares: Sequence[CareShare]) -> dict[str, object]:
    """Return the rows as plain JSON values."""
    return {"plain_recall": asdict(plain_recall(shares)), "labels": [asdict(share) for share in shares]}


def _share(kind: CareKind | None, hard: bool, found: Sequence[FoundKind | None]) -> CareShare:
    num_found = sum(item is not None for item in found)
    right = sum(item == kind for item in found) if kind is not None else 0
    return CareShare(kind, hard, wilson(num_found, len(found)), num_found, right, len(found))
