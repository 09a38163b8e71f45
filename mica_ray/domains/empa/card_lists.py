"""The lists next to EMPA cards: stories, official cases, and metadata of cases, each by card id.

empa/cards.py reads the cards themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from mica_ray.domains.empa.card_text import CardFlaw, CardText
from mica_ray.domains.empa.ratings import read_json, read_mapping
from mica_ray.files import JsonFileError, read_text

_STAGES = ("阶段1", "阶段2", "阶段3", "阶段4")


def read_stories(
    path: Path, texts: Mapping[str, CardText], flaws: list[CardFlaw]
) -> dict[str, tuple[str, ...]]:
    """Read the four stages of each card's story."""
    entries = read_json(path, flaws)
    items = cast("list[object]", entries) if isinstance(entries, list) else []
    if not items:
        flaws.append(CardFlaw(path.name, "text", "contains no stories", "write one entry per card"))
        return {}
    by_name = _numbered(items, "剧本编号", path.name, flaws)
    found: dict[str, tuple[str, ...]] = {}
    for name in texts:
        if name not in by_name:
            remedy = f"add an entry with 剧本编号 {name}"
            flaws.append(CardFlaw(path.name, name, "the story is missing", remedy))
            continue
        course = _mapping(by_name[name].get("故事的经过"))
        stages = tuple(str(_mapping(course.get(stage)).get("内容") or "").strip() for stage in _STAGES)
        empty = [stage for stage, text in zip(_STAGES, stages, strict=True) if not text]
        flaws += [
            CardFlaw(path.name, f"{name}.故事的经过.{stage}.内容", "is missing or empty", "write the stage")
            for stage in empty
        ]
        if not empty:
            found[name] = stages
    return found


def read_listed_cases(path: Path, names: set[str], flaws: list[CardFlaw]) -> frozenset[str]:
    """Read the folder's own list of test ids."""
    if not path.is_file():
        return frozenset()
    try:
        listed = frozenset(read_text(path).split())
    except JsonFileError as error:
        flaws.append(CardFlaw(path.name, "text", "cannot be read", str(error)))
        return frozenset()
    for name in sorted(listed - names):
        remedy = f"add cards/{name}.md or remove the id from the list"
        flaws.append(CardFlaw(path.name, name, "has no card", remedy))
    return listed


def read_metadata(path: Path, flaws: list[CardFlaw]) -> dict[str, Mapping[str, object]]:
    """Read category, axis and difficulty of the listed cases, by id."""
    cases = read_mapping(path, flaws).get("sampled_cases", [])
    items = cast("list[object]", cases) if isinstance(cases, list) else []
    return _numbered(items, "script_id", path.name, flaws)


def _numbered(
    items: Sequence[object], field: str, file: str, flaws: list[CardFlaw]
) -> dict[str, Mapping[str, object]]:
    """Return the entries by their case; a second entry of a case is a flaw."""
    found: dict[str, Mapping[str, object]] = {}
    place_of: dict[str, int] = {}
    for number, item in enumerate(map(_mapping, items), start=1):
        if field not in item:
            continue
        name = str(item[field])
        if name in found:
            problem = f"entries {place_of[name]} and {number} have the same {field}"
            flaws.append(CardFlaw(file, name, problem, "remove or renumber one of them"))
            continue
        found[name], place_of[name] = item, number
    return found


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}
