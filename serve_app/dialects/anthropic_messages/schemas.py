"""JSON Schemas in the subset that binds an answer of Anthropic.

What the subset lacks goes into the description of its place, where the model reads it.

Source: Anthropic documentation, "Structured outputs", "JSON Schema limitations".
"""

from collections.abc import Mapping
from typing import Final

from serve_app.dialects.json_values import json_text, object_of
from serve_app.domain import Json

_KEPT: Final = frozenset(
    {"$ref", "type", "enum", "const", "title", "description", "required", "default"}
)
"""Keywords that stay as they are."""
_MAPS: Final = ("properties", "$defs", "definitions")
"""Keywords whose values are objects of schemas."""
_CHOICES: Final[Mapping[str, str]] = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
"""Keywords whose values are lists of schemas, and what they become."""
_SILENT: Final = frozenset({"additionalProperties", "$schema", "$id"})
"""Keywords that go, because they say nothing that a description could."""
_FORMATS: Final = frozenset(
    {
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "uri",
        "ipv4",
        "ipv6",
        "uuid",
    }
)


def binding_schema(schema: Json) -> Json:
    """A schema that the API takes: no object takes other keys than its schema names."""
    if not isinstance(schema, dict):
        return schema
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return binding_schema(_with_choices(schema, kinds))
    bound: dict[str, Json] = {}
    rest: dict[str, Json] = {}
    for key, value in schema.items():
        if _is_taken(key, value):
            bound[key] = value
        elif key in _MAPS:
            bound[key] = {name: binding_schema(each) for name, each in object_of(value).items()}
        elif key in _CHOICES and isinstance(value, list):
            bound[_CHOICES[key]] = [binding_schema(each) for each in value]
        elif key == "items" and isinstance(value, dict):
            bound[key] = binding_schema(value)
        elif key not in _SILENT:
            rest[key] = value
    if kinds == "object" or "properties" in bound:
        bound.setdefault("properties", {})
        bound.update(type="object", additionalProperties=False)
    return _described(bound, rest)


def _described(bound: dict[str, Json], rest: dict[str, Json]) -> dict[str, Json]:
    """A schema with the keywords that it cannot have in its description."""
    if not rest:
        return bound
    texts = filter(None, (bound.get("description"), json_text(rest)))
    return {**bound, "description": "\n\n".join(map(str, texts))}


def _with_choices(schema: dict[str, Json], kinds: list[Json]) -> dict[str, Json]:
    """A schema that names several types, as a choice of schemas with one type each."""
    if "enum" in schema or "const" in schema:
        return {key: value for key, value in schema.items() if key != "type"}
    outer = {"title", "description", "$defs", "definitions", "default"}
    inner = {key: value for key, value in schema.items() if key not in outer}
    choices = [
        {"type": "null"} if kind == "null" else {**inner, "type": kind}
        for kind in kinds
        if isinstance(kind, str)
    ]
    return {**{key: schema[key] for key in outer & schema.keys()}, "anyOf": choices}


def _is_taken(key: str, value: Json) -> bool:
    """True for a keyword that the API takes with this value."""
    if key == "format":
        return isinstance(value, str) and value in _FORMATS
    return key in _KEPT or (key == "minItems" and value in (0, 1))
