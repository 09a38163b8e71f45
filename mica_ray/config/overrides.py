"""Dotted overrides of a config and its one-line errors: `a.b=c` in, a validated config out."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from mica_ray.config.references import ConfigError, find_reference, nearest, reference_of, resolve
from mica_ray.types import ROLES

ConfigType = TypeVar("ConfigType", bound=BaseModel)

OBJECT_KEY = "object"
"""The key that marks a mapping as a described object: {"object": "module:Class", field: value, ...}."""


def describe_object(value: object) -> dict[str, object]:
    """Describe a dataclass instance, or a function, so that `build_object` makes an equal one.

    Raises:
        ConfigError: it can be neither named nor described.
    """
    if inspect.isfunction(value):
        return {OBJECT_KEY: reference_of(value)}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ConfigError(f"{type(value).__name__} must be a dataclass or a function to stand in a config")
    fields = {item.name: getattr(value, item.name) for item in dataclasses.fields(value) if item.init}
    described = cast(dict[str, object], TypeAdapter(dict[str, Any]).dump_python(fields, mode="json"))
    return {OBJECT_KEY: reference_of(type(value)), **described}


def build_object(description: object) -> object:
    """Make the object of a description, or of a bare reference with every field at its default.

    Raises:
        ConfigError: an unknown reference.
        ValueError: an unknown or invalid field.
    """
    if isinstance(description, str):
        description = {OBJECT_KEY: description}
    if not isinstance(description, Mapping) or OBJECT_KEY not in description:
        return description
    rest = {str(key): value for key, value in description.items() if key != OBJECT_KEY}
    found = resolve(str(description[OBJECT_KEY]))
    if not isinstance(found, type):
        if rest:
            raise ConfigError(f"{description[OBJECT_KEY]} takes no fields; got {', '.join(rest)}")
        return found
    if not dataclasses.is_dataclass(found):
        raise ConfigError(f"{description[OBJECT_KEY]} must be a dataclass to stand in a config")
    return build_dataclass(found, rest)


def build_dataclass(kind: type[object], fields: Mapping[str, object]) -> object:
    """Make a dataclass of its fields' plain values.

    Raises:
        ConfigError: an unknown field.
        ValueError: an invalid one.
    """
    valid = [item.name for item in dataclasses.fields(cast(Any, kind)) if item.init]
    for key in fields:
        if key not in valid:
            raise ConfigError(f"unknown key {key} of {kind.__name__}; {nearest(key, valid)}")
    return TypeAdapter(kind).validate_python(dict(fields))


def describe_named(value: object) -> str:
    """Give a named value, or text, as the reference text."""
    return value if isinstance(value, str) else find_reference(value)


def override(config: ConfigType, assignments: Sequence[str]) -> ConfigType:
    """Give the config with `key.path=value` assignments applied together, so that bound fields can move.

    A value that starts like a JSON list, object or string is read as JSON, `null` and `none` as None;
    everything else is text that the field's type reads. `credit=module:Class` replaces a whole object,
    `credit.alpha=0.3` one field; `world=` and `judge=` are shorthands.

    Raises:
        ConfigError: one line naming the key, what is wrong and the remedy.
    """
    tree = cast(dict[str, object], config.model_dump(mode="json"))
    for assignment in spelled_out(assignments):
        path, separator, text = assignment.partition("=")
        if not separator or not path.strip():
            raise ConfigError(f"--set {assignment}: write --set key.path=value")
        _assign(tree, path.strip(), _read_value(text.strip()))
    return validated(type(config), tree)


def with_values(config: ConfigType, values: Mapping[str, object]) -> ConfigType:
    """Give the config with values at dotted keys: plain ones, references, or objects as in a recipe.

    Whole objects take their places first, so that `credit` and `credit.gamma` may be given together.

    Raises:
        ConfigError: one line naming the key, what is wrong and the remedy.
    """
    plain = (str, int, float, bool, list, tuple, dict, type(None))
    for is_plain in (False, True):
        chosen = {path: value for path, value in values.items() if isinstance(value, plain) is is_plain}
        if chosen:
            tree = cast(dict[str, object], config.model_dump(mode="json"))
            for path, value in chosen.items():
                _assign(tree, path, value)
            config = validated(type(config), tree)
    return config


def validated(kind: type[ConfigType], values: Mapping[str, object]) -> ConfigType:
    """Make a config from plain values.

    Raises:
        ConfigError: one line for the first thing that is wrong.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(explain(error, kind)) from error


def explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """Put the first problem of a validation into one line: key, complaint, nearest key if unknown."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path) or kind.__name__
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        close = nearest(path[-1], _sibling_keys(kind, path[:-1]))
        return f"unknown key {key}; {close}; `mica train --dry-run` shows all keys"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key}: {message[:1].lower()}{message[1:]}; got {first['input']!r}"


def _sibling_keys(kind: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Give the keys beside an unknown one, by walking the default config."""
    node: object = kind.model_construct().model_dump(mode="json")
    for part in path:
        node = node.get(part, {}) if isinstance(node, Mapping) else {}
    return [str(name) for name in node] if isinstance(node, Mapping) else []


def _assign(tree: dict[str, object], path: str, value: object) -> None:
    *parents, last = path.split(".")
    node = tree
    for depth, part in enumerate([*parents, last]):
        if part not in node:
            prefix = ".".join(path.split(".")[:depth])
            where = f"{prefix}." if prefix else ""
            close = nearest(part, [name for name in node if name != OBJECT_KEY])
            raise ConfigError(f"unknown key {where}{part}; {close}; `mica train --dry-run` shows all keys")
        if part is last and depth == len(parents):
            break
        child = node[part]
        if not isinstance(child, dict):
            raise ConfigError(
                f"unknown key {path}: {'.'.join(parents[: depth + 1])} is {child!r} and has no fields"
            )
        node = cast(dict[str, object], child)
    current = node[last]
    is_reference = isinstance(current, dict) and OBJECT_KEY in current and isinstance(value, str)
    if is_reference or (isinstance(value, dict) and OBJECT_KEY in value):
        # So that its fields are keys. What cannot be built, such as "scripted", is for its key to read.
        with suppress(ValueError):
            value = describe_object(build_object(value))
    elif isinstance(current, int) and isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value):
        value = int(value)  # A choice among numbers, such as a ZeRO stage, takes no text.
    node[last] = value


def _read_value(text: str) -> object:
    if text.lower() in ("null", "none"):
        return None
    if text[:1] in ("{", "[", '"'):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{text}: not JSON: {error.msg} at character {error.pos}") from error
    return text


WORLDS: Mapping[str, str] = {
    "embedded": "mica_ray.domains.emotional_support:EMOTIONAL_SUPPORT",
    "empa": "mica_ray.domains.empa:EMPA",
    "sage": "mica_ray.domains.sage:SAGE",
    "tutoring": "mica_ray.domains.tutoring:TUTORING",
    "customer_support": "mica_ray.domains.customer_support:CUSTOMER_SUPPORT",
}
"""Domains by short name."""


def spelled_out(assignments: Sequence[str]) -> Iterator[str]:
    """Give assignments with whole keys: `world=NAME` sets the domain, `judge=X` all three roles.

    Who judges plays the user and the Director too, until `roles.actor` or `roles.director` says otherwise.

    Raises:
        ConfigError: no such world.
    """
    for assignment in assignments:
        key, separator, text = (part.strip() for part in assignment.partition("="))
        if separator and key == "judge":
            yield from (f"roles.{role}={text}" for role in ROLES)
        elif separator and key == "world":
            if text not in WORLDS:
                known = f"{nearest(text, list(WORLDS))}, or set domain=module:NAME"
                raise ConfigError(f"world={text}: not known; {known}")
            yield f"domain={WORLDS[text]}"
        else:
            yield assignment
