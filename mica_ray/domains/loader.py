"""What a user names or supplies: a domain by its import path, scenarios as a JSON-lines file.

A scenario file is read whole and checked line by line; nothing is guessed and no field is dropped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar, cast, get_args

from mica_ray.dialogue.domain import Domain
from mica_ray.domains.sage import is_profile, profile_fields
from mica_ray.types import AXES, Scenario, Split, State

SPLITS: tuple[Split, ...] = get_args(Split)

_Value = TypeVar("_Value")
_LOWEST_POINTS = -1000.0
"""Far below any deficit of the published cards (-27), near enough to catch a slip of the pen."""


class ScenarioError(ValueError):
    """A scenario file that cannot be used; the message names the file, the line and the field."""


class _FieldError(ValueError):
    """What is wrong with one field, before file and line are known."""


def load_domain(path: str) -> Domain:
    """Give the domain at "module:NAME", for example "mica_ray.domains.tutoring:TUTORING".

    Raises:
        ValueError: the path has another form, there is no such module, or no Domain of that name in it.
    """
    module_name, separator, name = path.partition(":")
    if not (separator and name and all(part.isidentifier() for part in module_name.split("."))):
        raise ValueError(
            f"a domain is named module:NAME, as in mica_ray.domains.tutoring:TUTORING; got {path!r}"
        )
    if not _is_importable(module_name):
        raise ValueError(f"no module {module_name!r} for the domain {path!r}")
    attributes = cast("Mapping[str, object]", vars(import_module(module_name)))
    domain = attributes.get(name)
    if not isinstance(domain, Domain):
        found = sorted(key for key, value in attributes.items() if isinstance(value, Domain))
        raise ValueError(f"{module_name} holds no Domain {name!r}; it holds: {', '.join(found) or 'none'}")
    return domain


def _is_importable(module_name: str) -> bool:
    """Tell a module that is not there from one that fails inside, whose own error should be seen."""
    try:
        return find_spec(module_name) is not None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        return False


def load_scenarios(path: Path, domain: str) -> tuple[Scenario, ...]:
    """Read scenarios of one domain, one JSON object a line; blank lines are passed over.

    Fields: id, category, dominant_axis ("C", "A" or "P"), persona, opening, initial_state ([C, A, P] in
    points, none above 0 and not all 0), stages (a list of texts), split ("train", "valid" or "test");
    language is optional ("en"), topic too (""), and so is domain, which must then be the one asked for.
    A line of a SAGE or RLVER profile (domains/sage.py) is a scenario too.

    Args:
        path: the file, or a folder, whose *.jsonl files are read as one.
        domain: name of the domain they are played in.

    Raises:
        ScenarioError: the file cannot be read, holds no scenario, or one line is wrong.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise ScenarioError(f"{path}: holds no *.jsonl; name a file of scenarios, or a folder of such files")
    scenarios: list[Scenario] = []
    place_of: dict[str, str] = {}
    for file in files:
        for number, line in _lines(file):
            try:
                scenario = _scenario(_json_object(line), domain)
            except _FieldError as error:
                raise ScenarioError(f"{file}, line {number}: {error}") from error
            if scenario.id in place_of:
                first = place_of[scenario.id]
                raise ScenarioError(
                    f"{file}, line {number}: field 'id': {scenario.id!r} stands in {first} already"
                )
            place_of[scenario.id] = f"line {number}" if len(files) == 1 else f"{file.name}, line {number},"
            scenarios.append(scenario)
    if not scenarios:
        raise ScenarioError(f"{path}: holds no scenario; expected one JSON object a line")
    return tuple(scenarios)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give the lines that hold something, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    # Not splitlines(): JSON texts may hold U+2028, which it takes for the end of a line.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _json_object(line: str) -> Mapping[str, object]:
    """Parse one line into its fields."""
    try:
        fields = cast("object", json.loads(line))
    except (ValueError, RecursionError) as error:
        raise _FieldError(f"is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise _FieldError(f"must be a JSON object; got {_shown(fields)}")
    return cast("Mapping[str, object]", fields)


def _scenario(fields: Mapping[str, object], domain: str) -> Scenario:
    """Check the fields of one line and make the scenario."""
    checks = _text, _texts
    if is_profile(fields):
        fields = _of_profile(fields)
        checks = _text_or_nothing, _all_texts
    check_opening, check_stages = checks
    fields = {"domain": domain, "language": "en", "topic": "", "difficulty": "", **fields}
    unknown = sorted(set(fields) - set(Scenario.__dataclass_fields__))
    if unknown:
        raise _FieldError(
            f"field {unknown[0]!r} is unknown; known: {', '.join(Scenario.__dataclass_fields__)}"
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
        language=_checked(fields, "language", _text),
        topic=_checked(fields, "topic", _text_or_nothing),
        difficulty=_checked(fields, "difficulty", _text_or_nothing),
    )


def _of_profile(fields: Mapping[str, object]) -> Mapping[str, object]:
    try:
        return profile_fields(fields)
    except KeyError as error:
        raise _FieldError(f"field {error} of the profile is missing") from error
    except TypeError as error:
        raise _FieldError(f"field {str(error)!r} of the profile must be a text that is not empty") from error


def _checked(fields: Mapping[str, object], name: str, check: Callable[[object], _Value]) -> _Value:
    """Give the field's value if it is there and passes the check; the check says what is allowed."""
    if name not in fields:
        raise _FieldError(f"field {name!r} is missing")
    try:
        return check(fields[name])
    except _FieldError as error:
        raise _FieldError(f"field {name!r} must be {error}; got {_shown(fields[name])}") from error


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _FieldError("a text that is not empty")
    return value


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


def _all_texts(value: object) -> tuple[str, ...]:
    return _texts(value) if value else ()


def _state(value: object) -> State:
    items = cast("list[object]", value) if isinstance(value, list) else []
    points = [_points(item) for item in items]
    if len(points) != 3 or any(math.isnan(point) for point in points) or not any(points):
        raise _FieldError(f"three numbers (C, A, P) from {_LOWEST_POINTS:g} to 0, not all 0")
    return (points[0], points[1], points[2])


def _points(value: object) -> float:
    """Give NaN for what is no number of points: to Python True is 1, and json reads Infinity and 1e999."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _LOWEST_POINTS <= value <= 0:
        return math.nan
    return float(value)


def _shown(value: object) -> str:
    """Show a value of the file, short enough for one line of error."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
