"""Reads initial deficits of cards from the benchmark's files and from our own ratings.

Nothing is estimated here. A card that is in no file has no P_0; empa/rater.py can rate it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mica_ray.content_files import named_file
from mica_ray.domains.empa.card_text import CardFlaw
from mica_ray.domains.empa.indicators import IndicatorError, checked_levels, initial_state
from mica_ray.files import parsed_json
from mica_ray.types import State

OFFICIAL_LEVELS = "official30_iedr.json"
MATCHED_LEVELS = "iedr_236_cases.json"
RATINGS = "rated_iedr.jsonl"
"""File name of the ratings in the folder itself."""

LEAST_OVERLAP = 0.6
"""Minimum overlap of a case matched by text. Compared with the cards' own grades of the three needs, 92 % of
the levels from this overlap on agree, and 18 % of those below, which is no better than chance."""


@dataclass(frozen=True, slots=True)
class GivenState:
    """The initial state of a card, and its source."""

    levels: Mapping[str, int]
    """Level 0..3 by indicator."""
    state: State
    """P_0, points."""
    source: str
    """Name of the source file."""


@dataclass(frozen=True, slots=True)
class GivenStates:
    """The initial states that the files of a folder contain."""

    states: Mapping[str, GivenState]
    """By card id."""
    flaws: tuple[CardFlaw, ...]


def read_given_states(folder: Path, digests: Mapping[str, str], ratings: Path | None = None) -> GivenStates:
    """Read all indicator levels; the benchmark's own have priority over our ratings.

    Args:
        folder: folder of the cards.
        digests: digest of each card's text by id; ratings of another text are not used.
        ratings: file of ratings; None for the one in the folder, if it exists.
    """
    found: dict[str, GivenState] = {}
    flaws: list[CardFlaw] = []
    for source, name, entry in _entries(folder, ratings or named_file(folder, RATINGS), digests, flaws):
        given = _given(source, name, entry, flaws)
        if given is None:
            continue
        if name not in digests:
            flaws.append(CardFlaw(source, name, "has no card", f"add cards/{name}.md", is_fatal=False))
        elif name not in found:
            found[name] = given
        elif found[name].state != given.state:
            first = found[name]
            problem = f"P_0 {_text_of(given.state)} differs from {_text_of(first.state)} in {first.source}"
            flaws.append(CardFlaw(source, name, problem, f"{first.source} is used", is_fatal=False))
    return GivenStates(found, tuple(flaws))


def finished_ratings(path: Path) -> dict[str, str]:
    """Return the digest of each rated card in a file, by id; invalid lines are skipped."""
    flaws: list[CardFlaw] = []
    return {name: str(entry.get("digest", "")) for name, entry in _lines(path, flaws)}


def _entries(
    folder: Path, ratings: Path, digests: Mapping[str, str], flaws: list[CardFlaw]
) -> Iterator[tuple[str, str, Mapping[str, object]]]:
    """Yield file, card id, and the levels with P_0 if the file has it."""
    for name, entry in read_mapping(named_file(folder, OFFICIAL_LEVELS), flaws).items():
        levels = _mapping(_mapping(_mapping(entry).get("iedr")).get("filled_iedr"))
        yield OFFICIAL_LEVELS, name, {**levels, "P_0": _mapping(entry).get("P_0")}
    for old_name, entry in read_mapping(named_file(folder, MATCHED_LEVELS), flaws).items():
        fields = _mapping(entry)
        # The key is the id in an earlier set of cards, `new_id` the one in the published set.
        name, overlap = str(fields.get("new_id", old_name)), fields.get("overlap", 1.0)
        if not isinstance(overlap, int | float) or overlap < LEAST_OVERLAP:
            problem = f"matched to {name} by {overlap} of the text, below {LEAST_OVERLAP}"
            remedy = "its levels are not used; rate the card with `mica data rate`"
            flaws.append(CardFlaw(MATCHED_LEVELS, old_name, problem, remedy, is_fatal=False))
            continue
        yield MATCHED_LEVELS, name, {**_mapping(fields.get("iedr")), "P_0": fields.get("P_0")}
    for name, entry in _lines(ratings, flaws):
        if name in digests and entry.get("digest") != digests[name]:
            remedy = "rate the card again"
            flaws.append(CardFlaw(ratings.name, name, "rates another text", remedy, is_fatal=False))
            continue
        yield ratings.name, name, {**_mapping(entry.get("levels")), "P_0": entry.get("P_0")}


def _given(source: str, name: str, entry: Mapping[str, object], flaws: list[CardFlaw]) -> GivenState | None:
    try:
        levels = checked_levels(entry)
        state = initial_state(levels)
    except IndicatorError as error:
        remedy = "set each of the nine indicators to a level from 0 to 3"
        flaws.append(CardFlaw(source, f"{name}.{error.field}", error.problem, remedy))
        return None
    recorded = entry.get("P_0")
    if recorded is not None and recorded != list(state):
        problem = f"is {recorded}, but the levels give {_text_of(state)}"
        flaws.append(CardFlaw(source, f"{name}.P_0", problem, "correct the levels or P_0"))
        return None
    return GivenState(levels, state, source)


def read_mapping(path: Path, flaws: list[CardFlaw]) -> Mapping[str, object]:
    """Read a file with one JSON object; empty if it is missing or unreadable."""
    content = read_json(path, flaws)
    found = _mapping(content)
    if content is not None and not isinstance(content, dict):
        flaws.append(
            CardFlaw(path.name, "text", "is not a JSON object", "write one object with an entry per card")
        )
    return found


def read_json(path: Path, flaws: list[CardFlaw]) -> object:
    """Read a JSON file; None if it is missing, or unreadable, which is a flaw."""
    if not path.exists():
        return None
    try:
        return cast("object", parsed_json(path.read_bytes(), has_unique_keys=True))
    except (OSError, ValueError, RecursionError) as error:
        flaws.append(CardFlaw(path.name, "text", f"cannot be read ({error})", "correct or remove the file"))
        return None


def _lines(path: Path, flaws: list[CardFlaw]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield card id and entry of each rating; an invalid or partial line is a flaw."""
    if not path.exists():
        return
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        flaws.append(CardFlaw(path.name, "text", f"cannot be read ({error})", "correct or remove the file"))
        return
    for number, line in enumerate(lines, start=1):
        try:
            content = cast("object", parsed_json(line)) if line.strip() else None
        except (ValueError, RecursionError):
            remedy = "remove the line and rate the card again"
            flaws.append(CardFlaw(path.name, f"line {number}", "is not JSON", remedy, is_fatal=False))
            continue
        if entry := _mapping(content):
            yield str(entry.get("script_id", f"line {number}")), entry


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _text_of(state: State) -> str:
    return "[" + ", ".join(f"{points:g}" for points in state) + "]"
