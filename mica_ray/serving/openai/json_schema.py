"""Limits of the JSON schemas that clients send: the engine compiles each one before it samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_MAX_CHARS = 16_384
_MAX_DEPTH = 24
_MAX_COUNT = 1024
"""Limit of minItems and its kin: a grammar repeats its rule as often."""
_MAX_PATTERN_CHARS = 256
_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_SCHEMAS = frozenset(
    {"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"}
)
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SAME_PLACE = frozenset({"anyOf", "oneOf", "allOf", "not", "if", "then", "else"})
"""Keywords whose schemas describe the same value as their own one."""
_MAPPINGS = frozenset({"properties", "$defs", "definitions", "patternProperties"})


def check_schema(schema: Mapping[str, Any]) -> None:
    """Check that a schema is well formed and small enough to be compiled.

    Raises:
        ValueError: it is not. The message does not quote it.
    """
    if len(json.dumps(schema)) > _MAX_CHARS:
        raise ValueError(f"the schema must have at most {_MAX_CHARS} characters")
    _check(schema, root=schema, depth=0)
    try:
        _check_ends(schema, schema, open_parts=set(), closed=set())
    except RecursionError as error:
        raise ValueError("the schema must not refer from part to part hundreds of times") from error


def _check(schema: Any, *, root: Mapping[str, Any], depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise ValueError("each part of the schema must be an object, true or false")
    if depth > _MAX_DEPTH:
        raise ValueError(f"the schema must be nested at most {_MAX_DEPTH} levels deep")
    for name, value in schema.items():
        _check_keyword(name, value, root)
        for part in _parts(name, value):
            _check(part, root=root, depth=depth + 1)


def _check_ends(part: Any, root: Mapping[str, Any], *, open_parts: set[int], closed: set[int]) -> None:
    """Check that no part refers to itself without a value in between: such a grammar has no end.

    Args:
        part: of the schema.
        root: the whole schema.
        open_parts: identities of the parts that led here by references and alternatives alone.
        closed: identities of the parts that are checked, so that each is visited once.

    Raises:
        ValueError: one does.
    """
    if id(part) in open_parts:
        raise ValueError("a part of the schema must not refer to itself without a value in between")
    if not isinstance(part, Mapping) or id(part) in closed:
        return
    deeper: list[Any] = []
    open_parts.add(id(part))
    for name, value in part.items():
        if name == "$ref":
            _check_ends(_target(value, root), root, open_parts=open_parts, closed=closed)
        for inner in _parts(name, value):
            if name in _SAME_PLACE:
                _check_ends(inner, root, open_parts=open_parts, closed=closed)
            else:
                deeper.append(inner)
    open_parts.remove(id(part))
    closed.add(id(part))
    for inner in deeper:
        _check_ends(inner, root, open_parts=set(), closed=closed)


def _check_keyword(name: str, value: Any, root: Mapping[str, Any]) -> None:
    if name == "type":
        kinds = value if isinstance(value, list) else [value]
        if not kinds or not all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
            raise ValueError("type must be a JSON type, or a list of them")
    elif name in _COUNTS:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_COUNT:
            raise ValueError(f"{name} must be in [0, {_MAX_COUNT}]")
    elif name == "pattern":
        if not isinstance(value, str) or len(value) > _MAX_PATTERN_CHARS or "\0" in value:
            raise ValueError(f"pattern must be a text of at most {_MAX_PATTERN_CHARS} characters")
    elif name == "enum":
        if not isinstance(value, list) or not value:
            raise ValueError("enum must be a list of values")
    elif name == "required":
        if not isinstance(value, list) or not all(isinstance(field, str) for field in value):
            raise ValueError("required must be a list of names")
    elif name == "$ref" and not _is_defined(value, root):
        raise ValueError("each $ref must name a part of the schema, such as #/$defs/NAME")


def _parts(name: str, value: Any) -> list[Any]:
    """Return the schemas below a keyword."""
    if name in _SCHEMAS:
        return [value]
    if name in _LISTS:
        if not isinstance(value, list) or not value:
            raise ValueError(f"{name} must be a list of schemas")
        return list(value)
    if name in _MAPPINGS:
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} must be an object")
        return list(value.values())
    return []


def _is_defined(reference: Any, root: Mapping[str, Any]) -> bool:
    return isinstance(_target(reference, root), Mapping | bool)


def _target(reference: Any, root: Mapping[str, Any]) -> Any:
    """Return the part of the schema that a reference names; None if there is none."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    place: Any = root
    for part in reference.removeprefix("#").removeprefix("/").split("/") if reference != "#" else []:
        if not isinstance(place, Mapping) or part not in place:
            return None
        place = place[part]
    return place
