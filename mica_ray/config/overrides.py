"""Change a config by `a.b=c` assignments or values at dotted keys, and validate it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from mica_ray.config.references import ConfigError, find_reference, nearest, reference_of, resolve
from mica_ray.types import ROLES

ConfigType = TypeVar("ConfigType", bound=BaseModel)

OBJECT_KEY = "object"
"""Key of a mapping that describes an object: {"object": "module:Class", field: value, ...}."""

_ALL_KEYS = "`mica train --dry-run` lists all keys."


def describe_object(value: object) -> dict[str, object]:
    """Describe a dataclass instance or function, so that `build_object` makes an equal one.

    Raises:
        ConfigError: it has no reference, or is of another type.
    """
    if inspect.isfunction(value):
        return {OBJECT_KEY: reference_of(value)}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ConfigError(
            f"{type(value).__name__} cannot be stored in a config. Make it a dataclass or a function."
        )
    fields = {item.name: getattr(value, item.name) for item in dataclasses.fields(value) if item.init}
    described = cast(dict[str, object], TypeAdapter(dict[str, Any]).dump_python(fields, mode="json"))
    return {OBJECT_KEY: reference_of(type(value)), **described}


def build_object(description: object) -> object:
    """Build an object from its description, or from a reference with default fields.

    Raises:
        ConfigError: unknown reference.
        ValueError: unknown or invalid field.
    """
    if isinstance(description, str):
        description = {OBJECT_KEY: description}
    if not isinstance(description, Mapping) or OBJECT_KEY not in description:
        return description
    rest = {str(key): value for key, value in description.items() if key != OBJECT_KEY}
    reference = str(description[OBJECT_KEY])
    found = resolve(reference)
    if not isinstance(found, type):
        if rest:
            raise ConfigError(f"{reference} is not a class. Remove its fields: {', '.join(rest)}.")
        return found
    if not dataclasses.is_dataclass(found):
        raise ConfigError(f"{reference} must be a dataclass. Decorate it with @dataclass(frozen=True).")
    return build_dataclass(found, rest)


def build_dataclass(kind: type[object], fields: Mapping[str, object]) -> object:
    """Build a dataclass from plain values of its fields.

    Raises:
        ConfigError: unknown field.
        ValueError: invalid field.
    """
    valid = [item.name for item in dataclasses.fields(cast(Any, kind)) if item.init]
    for key in fields:
        if key not in valid:
            raise ConfigError(f"Unknown key {key} of {kind.__name__}. {nearest(key, valid)}")
    try:
        return TypeAdapter(kind).validate_python(dict(fields))
    except ValidationError as error:
        # Not pydantic's own text: it repeats the whole input, which may contain a key by mistake.
        raise ValueError(explain(error, kind).removeprefix(f"{kind.__name__}: ")) from None


def describe_named(value: object) -> str:
    """Return the reference of a value that has a name in a module; text is returned as it is."""
    return value if isinstance(value, str) else find_reference(value)


def override(
    config: ConfigType, assignments: Sequence[str], *, values: Mapping[str, object] | None = None
) -> ConfigType:
    """Apply values at dotted keys, then `key.path=value` assignments, and validate the config.

    One validation at the end lets fields that depend on each other change together.
    `credit=module:Class` replaces a whole object, `credit.alpha=0.3` one field; `world=` and `judge=` are
    shorthands.

    Args:
        config: where all other values come from.
        assignments: as on the command line after --set; `read_value` reads the text behind "=".
        values: plain values (text, numbers, None, lists, mappings) by dotted key; not parsed.

    Raises:
        ConfigError: one line with the key, the problem and the fix.
    """
    tree = cast(dict[str, object], config.model_dump(mode="json"))
    for path, value in (values or {}).items():
        _assign(tree, path, value)
    for assignment in _without_shorthands(assignments):
        path, separator, text = assignment.partition("=")
        if not separator or not path.strip():
            raise ConfigError(f"--set {assignment} has no value. Write --set key.path=value.")
        _assign(tree, path.strip(), read_value(text.strip()))
    return validated(type(config), tree)


def with_values(config: ConfigType, values: Mapping[str, object]) -> ConfigType:
    """Apply values at dotted keys: plain values, references, or objects as in a recipe.

    Objects are set first, so that both `credit` and `credit.gamma` can be in `values`.

    Raises:
        ConfigError: one line with the key, the problem and the fix.
    """
    plain = (str, int, float, bool, list, tuple, dict, type(None))
    for is_plain in (False, True):
        chosen = {path: value for path, value in values.items() if isinstance(value, plain) is is_plain}
        if chosen:
            config = override(config, (), values=chosen)
    return config


def validated(kind: type[ConfigType], values: Mapping[str, object]) -> ConfigType:
    """Build a config from plain values.

    Raises:
        ConfigError: one line for the first problem.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(explain(error, kind)) from error


def explain(error: ValidationError, kind: type[object]) -> str:
    """Return one line for the first problem of a validation, with key and value."""
    first, *others = error.errors(include_url=False)
    path = _key_parts(first)
    key = ".".join(path) or kind.__name__
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return _unknown_key(key, path[-1], _sibling_keys(kind, path[:-1]))
    if first["type"] == "literal_error":
        # A union of literals reports one error per part.
        parts = [item for item in (first, *others) if _key_parts(item) == path]
        allowed = " or ".join(str(item.get("ctx", {}).get("expected")) for item in parts)
        return f"{key} must be {allowed}, got {first['input']!r}."
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{key}: {message}"
    if message.startswith("Input should "):
        rule = message.removeprefix("Input should ").replace("greater than or equal to", ">=")
        return f"{key} must {rule.replace('greater than', '>')}, got {first['input']!r}."
    return f"{key}: {message}, got {first['input']!r}."


def _key_parts(error: ErrorDetails) -> list[str]:
    """Return the keys that lead to an error, without pydantic's names for the parts of a union."""
    return [str(part) for part in error["loc"] if "[" not in str(part)]


def read_value(text: str) -> object:
    """Read the text of a value as --set does.

    `null` and `none` are None; JSON lists, objects and strings are parsed. Everything else stays text, which
    the type of the field converts.

    Raises:
        ConfigError: text that starts like JSON is not valid JSON.
    """
    if text.lower() in ("null", "none"):
        return None
    if text[:1] in ("{", "[", '"'):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{text} is not valid JSON: {error.msg} at character {error.pos}.") from error
    return text


def _unknown_key(key: str, name: str, valid: Sequence[str]) -> str:
    return f"Unknown key {key}. {nearest(name, valid)} {_ALL_KEYS}"


def _sibling_keys(kind: type[object], path: Sequence[str]) -> list[str]:
    """Return the valid keys at the place of an unknown one, from the default config."""
    if not issubclass(kind, BaseModel):
        return []
    node: object = kind.model_construct().model_dump(mode="json")
    for part in path:
        node = node.get(part, {}) if isinstance(node, Mapping) else {}
    return [str(name) for name in node] if isinstance(node, Mapping) else []


def _assign(tree: dict[str, object], path: str, value: object) -> None:
    *parents, last = path.split(".")
    node = tree
    for depth, part in enumerate([*parents, last]):
        if part not in node:
            key = ".".join([*parents[:depth], part])
            raise ConfigError(_unknown_key(key, part, [name for name in node if name != OBJECT_KEY]))
        if part is last and depth == len(parents):
            break
        child = node[part]
        if not isinstance(child, dict):
            parent = ".".join(parents[: depth + 1])
            raise ConfigError(
                f"Unknown key {path}. {parent} is {child!r} and has no fields; set {parent} itself."
            )
        node = cast(dict[str, object], child)
    node[last] = _as_node(node[last], value)


def _as_node(current: object, value: object) -> object:
    """Return a value in the form in which it takes the place of `current` in a config's tree."""
    is_reference = isinstance(current, dict) and OBJECT_KEY in current and isinstance(value, str)
    if is_reference or (isinstance(value, dict) and OBJECT_KEY in value):
        # Described with all fields, so that later assignments can address them. Text that is no reference,
        # such as "scripted", stays as it is and is validated with the whole config.
        with suppress(ValueError):
            return describe_object(build_object(value))
    elif isinstance(current, int) and isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value):
        return int(value)  # Literal types of numbers, such as a ZeRO stage, do not accept text.
    return value


WORLDS: Mapping[str, str] = {
    "embedded": "mica_ray.domains.emotional_support:EMOTIONAL_SUPPORT",
    "empa": "mica_ray.domains.empa:EMPA",
    "sage": "mica_ray.domains.sage:SAGE",
    "tutoring": "mica_ray.domains.tutoring:TUTORING",
    "customer_support": "mica_ray.domains.customer_support:CUSTOMER_SUPPORT",
}
"""Domains by short name."""


def _without_shorthands(assignments: Sequence[str]) -> Iterator[str]:
    """Expand shorthands: `world=NAME` sets the domain, `judge=X` sets all three roles.

    A later `roles.actor=` or `roles.director=` replaces X for that role.

    Raises:
        ConfigError: unknown world.
    """
    for assignment in assignments:
        key, separator, text = (part.strip() for part in assignment.partition("="))
        if separator and key == "judge":
            yield from (f"roles.{role}={text}" for role in ROLES)
        elif separator and key == "world":
            if text not in WORLDS:
                raise ConfigError(
                    f"Unknown world={text}. {nearest(text, list(WORLDS))} "
                    "For your own domain, set domain=module:NAME."
                )
            yield f"domain={WORLDS[text]}"
        else:
            yield assignment
