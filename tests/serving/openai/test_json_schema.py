"""Schemas of clients are bounded before an engine compiles them."""

from __future__ import annotations

from typing import Any

import pytest

from mica_ray.serving.openai.json_schema import check_schema


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


GOOD: list[dict[str, Any]] = [
    {},
    {"type": ["string", "null"]},
    {"type": "object", "properties": {"a": True, "b": {"enum": [1]}}, "required": ["a"]},
    {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"},
    {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
    {"type": "string", "maxLength": 1024, "minLength": 0, "pattern": "a" * 256},
    {"some_keyword_of_next_year": {"a": 1}},
    nested(24),
]
BAD: list[dict[str, Any]] = [
    {"type": "set"},
    {"type": []},
    {"type": [5]},
    {"properties": []},
    {"properties": {"a": 5}},
    {"items": 5},
    {"anyOf": {}},
    {"anyOf": []},
    {"enum": []},
    {"enum": "a"},
    {"required": "a"},
    {"required": [1]},
    {"maxLength": 1025},
    {"minItems": -1},
    {"maxItems": True},
    {"pattern": "a" * 257},
    {"pattern": "\0"},
    {"pattern": 5},
    {"description": "a" * 16_384},
    {"$ref": 5},
    {"$ref": "https://example.org/schema"},
    {"$ref": "#/$defs/a"},
    {"$ref": "#"},
    {"anyOf": [{"type": "string"}, {"$ref": "#"}]},
    {"allOf": [{"$ref": "#"}]},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"oneOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
    {"properties": {"a": {"$ref": "#/properties/a"}}},
    nested(25),
    {
        "$defs": {f"a{n}": {"items": {"$ref": f"#/$defs/a{n + 1}"}} for n in range(399)} | {"a399": {}},
        "$ref": "#/$defs/a0",
    },
]


@pytest.mark.parametrize("schema", GOOD, ids=lambda value: str(value)[:40])
def test_a_usable_schema_is_accepted(schema: dict[str, Any]) -> None:
    check_schema(schema)


@pytest.mark.parametrize("schema", BAD, ids=lambda value: str(value)[:40])
def test_a_schema_that_cannot_be_compiled_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|\$ref"):
        check_schema(schema)
