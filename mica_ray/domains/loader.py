"""Loads domains by import path and scenarios from files of JSON lines.

Every line of a scenario file is checked: nothing is guessed, and unknown fields are errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar, cast, get_args

from mica_ray.content_files import content_files
from mica_ray.dialogue.domain import GRADES, Domain
from mica_ray.domains.sage import is_profile, profile_fields
from mica_ray.files import JsonFileError, JsonLine, read_json_lines
from mica_ray.types import AXES, LANGUAGES, Scenario, Split, State, primary_language

SPLITS: tuple[Split, ...] = get_args(Split)

_Value = TypeVar("_Value")
_LOWEST_POINTS = -1000.0
"""Lower limit of a state, far below the deficits of the published cards (-27), to catch typing errors."""


class ScenarioError(ValueError):
    """An invalid scenario file. The message names the file, the line and the field."""


class _FieldError(ValueError):
    """A problem with one field, before file and line are known."""


def load_domain(path: str) -> Domain:
    """Return the domain at "module:NAME", for example "mica_ray.domains.tutoring:TUTORING".

    Raises:
        ValueError: the path has another form, or the module or the Domain does not exist.
    """
    module_name, separator, name = path.partition(":")
    if not (separator and name and all(part.isidentifier() for part in module_name.split("."))):
        raise ValueError(
            f"A domain path must be module:NAME, such as mica_ray.domains.tutoring:TUTORING, got {path!r}."
        )
    if not _is_importable(module_name):
        raise ValueError(f"The domain {path!r} cannot be loaded: there is no module {module_name!r}.")
    attributes = cast("Mapping[str, object]", vars(import_module(module_name)))
    domain = attributes.get(name)
    if not isinstance(domain, Domain):
        found = sorted(key for key, value in attributes.items() if isinstance(value, Domain))
        listed = ", ".join(found) or "none"
        raise ValueError(f"{module_name} contains no Domain {name!r}. Its domains: {listed}.")
    return domain


def _is_importable(module_name: str) -> bool:
    """Whether the module exists; an import error inside an existing parent package is raised."""
    try:
        return find_spec(module_name) is not None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        return False


def load_scenarios(path: Path, domain: str) -> tuple[Scenario, ...]:
    """Read the scenarios of one domain from JSON lines.

    Required fields: id, category, dominant_axis ("C", "A" or "P"), persona, opening (empty if the simulated
    user writes it), initial_state ([C, A, P] in points, none above 0 and not all 0), stages (a list of
    texts), split ("train", "valid" or "test").
    Optional: language ("en"; "zh-CN" and "中文" are zh), topic (""), difficulty (""), priorities (three of
    "high", "mid", "low" and "", for C, A, P; or none), and domain, which must equal the argument. A line may
    also be a SAGE or RLVER profile (domains/sage.py).

    Args:
        path: a file, or a folder whose *.jsonl files are read as one (content_files.py).
        domain: name of the domain.

    Raises:
        ScenarioError: a file cannot be read or contains no scenario, a line is invalid, or two lines have the
            same id or, in two files, the same texts.
    """
    try:
        files = content_files(path, ".jsonl") if path.is_dir() else (path,)
    except OSError as error:
        raise ScenarioError(f"{path} cannot be read ({error.strerror}).") from error
    if not files:
        raise ScenarioError(f"{path} contains no *.jsonl. Name a file of scenarios, or a folder of them.")
    scenarios: list[Scenario] = []
    places = _Places()
    for file in files:
        for line in _lines(file):
            try:
                scenario = _scenario(line.fields, domain)
                places.add(scenario, line)
            except _FieldError as error:
                raise ScenarioError(f"{line.place}: {error}.") from error
            scenarios.append(scenario)
    if not scenarios:
        raise ScenarioError(f"{path} contains no scenario. Write one JSON object per line.")
    return tuple(scenarios)


class _Places:
    """Where each id and each story was read first."""

    def __init__(self) -> None:
        self._by_id: dict[str, str] = {}
        self._by_story: dict[Scenario, JsonLine] = {}

    def add(self, scenario: Scenario, line: JsonLine) -> None:
        """Add a scenario.

        Raises:
            _FieldError: its id was read before, or another file has its story; the message names that place.
        """
        if scenario.id in self._by_id:
            raise _FieldError(f"field 'id': {scenario.id!r} is already in {self._by_id[scenario.id]}")
        story = replace(scenario, id="", split="train", category="", difficulty="", topic="")
        first = self._by_story.setdefault(story, line)
        if first.path != line.path:
            place = first.place
            raise _FieldError(f"{scenario.id!r} has the same texts as the scenario in {place}; remove one")
        self._by_id[scenario.id] = line.place


def _lines(path: Path) -> tuple[JsonLine, ...]:
    try:
        return read_json_lines(path, has_unique_keys=True)
    except JsonFileError as error:
        raise ScenarioError(str(error)) from error


def _scenario(fields: Mapping[str, object], domain: str) -> Scenario:
    """Check the fields of one line and build the scenario."""
    checks = _opening, _texts
    if is_profile(fields):
        fields = _of_profile(fields)
        checks = _text_or_nothing, _all_texts
    check_opening, check_stages = checks
    fields = {"domain": domain, "language": "en", "topic": "", "difficulty": "", "priorities": [], **fields}
    unknown = sorted(set(fields) - set(Scenario.__dataclass_fields__))
    if unknown:
        raise _FieldError(
            f"field {unknown[0]!r} is unknown; the fields are {', '.join(Scenario.__dataclass_fields__)}"
        )
    one_of_splits = cast("Callable[[object], Split]", _one_of(SPLITS))
    return Scenario(
        id=_checked(fields, "id", _text),
        domain=_checked(fields, "domain", _one_of((domain,))),
        category=_checked(fields, "category", _text),
        dominant_axis=_checked(fields, "dominant_axis", _one_of(AXES)),
        persona=_checked(fields, "persona", _text),
        opening=_checked(fields, "opening", check_opening),
        initial_state=_checked(fields, "initial_state", _state),
        stages=_checked(fields, "stages", check_stages),
        split=_checked(fields, "split", one_of_splits),
        language=_checked(fields, "language", _language),
        topic=_checked(fields, "topic", _text_or_nothing),
        difficulty=_checked(fields, "difficulty", _text_or_nothing),
        priorities=_checked(fields, "priorities", _grades),
    )


def _of_profile(fields: Mapping[str, object]) -> Mapping[str, object]:
    try:
        return profile_fields(fields)
    except KeyError as error:
        raise _FieldError(f"field {error} of the profile is missing") from error
    except TypeError as error:
        raise _FieldError(f"field {str(error)!r} of the profile must be a text that is not empty") from error


def _checked(fields: Mapping[str, object], name: str, check: Callable[[object], _Value]) -> _Value:
    """Return the field's value after its check; the check's error states what is allowed."""
    if name not in fields:
        raise _FieldError(f"field {name!r} is missing")
    try:
        return check(fields[name])
    except _FieldError as error:
        raise _FieldError(f"field {name!r} must be {error}, got {_abbreviated(fields[name])}") from error


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _FieldError("a text that is not empty")
    return value


def _language(value: object) -> str:
    language = primary_language(value) if isinstance(value, str) else ""
    if language not in LANGUAGES:
        raise _FieldError(f"{' or '.join(map(repr, LANGUAGES))}, the supported languages")
    return language


def _opening(value: object) -> str:
    if value == "":
        return ""  # As in EMPA's cards: the Actor writes it.
    try:
        return _text(value)
    except _FieldError as error:
        raise _FieldError("a text, or empty if the simulated user writes the opening") from error


def _text_or_nothing(value: object) -> str:
    if not isinstance(value, str):
        raise _FieldError("a text")
    return value


def _one_of(allowed: tuple[str, ...]) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise _FieldError(" or ".join(repr(choice) for choice in allowed))
        return value

    return check


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _FieldError("a list of at least one text")
    return tuple(_text(item) for item in cast("list[object]", value))


def _grades(value: object) -> tuple[str, ...]:
    items = cast("list[object]", value) if isinstance(value, list) else [None]
    grades = tuple(item for item in items if isinstance(item, str) and item in ("", *GRADES))
    if len(grades) != len(items) or len(grades) not in (0, len(AXES)):
        raise _FieldError(f'a list of three of {", ".join(GRADES)} or "", in the order C, A, P, or empty')
    return grades


def _all_texts(value: object) -> tuple[str, ...]:
    return _texts(value) if value else ()


def _state(value: object) -> State:
    items = cast("list[object]", value) if isinstance(value, list) else []
    points = [_points(item) for item in items]
    if len(points) != 3 or any(math.isnan(point) for point in points) or not any(points):
        raise _FieldError(f"three numbers (C, A, P) from {_LOWEST_POINTS:g} to 0, not all 0")
    return (points[0], points[1], points[2])


def _points(value: object) -> float:
    """Return the points, or NaN if invalid: True, or Infinity and 1e999, which json accepts."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _LOWEST_POINTS <= value <= 0:
        return math.nan
    return float(value)


def _abbreviated(value: object) -> str:
    """Return a value of the file in at most 60 characters, for an error message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
