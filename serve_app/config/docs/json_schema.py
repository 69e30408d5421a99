"""The schema as JSON Schema, for editors: complete, and without the names of Python classes.

A key is described by the ``description`` of its field, and a section by the docstring of its
class. The field of a section may leave its description to the section.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from serve_app.domain import Json

Schema = Mapping[str, Any]

EITHER: Final = ("anyOf", "oneOf")
"""Keys under which a schema lists the forms of a value."""

# Draft 7, because editors support it: yaml-language-server supports later ones since 2026 only.
# Draft 7 ignores keys beside a `$ref`, so every section is written out where it is used. That also
# keeps the names of Python classes out of the file.
_DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_FIRST: Final = ("description", "type", "const", "enum", "default")
_NOISE: Final = frozenset({"$ref", "$defs", "title", "discriminator"})
_INSIDE: Final = ("items", "additionalProperties", "propertyNames")


def json_schema(model: type[BaseModel]) -> dict[str, Json]:
    """The JSON Schema of a configuration. Raises ValueError for a section that contains itself."""
    whole = model.model_json_schema()
    plain = _written_out(whole, whole.get("$defs", {}), ())
    return {"$schema": _DRAFT, "title": "Configuration of a Fingerpost gateway", **plain}


def _written_out(schema: Schema, definitions: Schema, inside: tuple[str, ...]) -> dict[str, Json]:
    """A schema without references and without pydantic's titles, the important keys first."""
    if "$ref" in schema:
        name = name_of(schema)
        if name in inside:
            raise ValueError(f"{name} contains itself and cannot be written out")
        schema, inside = {**definitions[name], **schema}, (*inside, name)
    plain = {key: value for key, value in schema.items() if key not in _NOISE}
    if "default" in plain and not _is_shown(plain["default"]):
        del plain["default"]
    if "description" in plain:
        plain["description"] = tidy(plain["description"])
    for key in EITHER:
        if key in plain:
            plain[key] = [_written_out(part, definitions, inside) for part in plain[key]]
    for key in _INSIDE:
        if isinstance(plain.get(key), dict):
            plain[key] = _written_out(plain[key], definitions, inside)
    if "properties" in plain:
        plain["properties"] = {
            key: _written_out(_described(part, definitions), definitions, inside)
            for key, part in plain["properties"].items()
        }
    order = [*(key for key in _FIRST if key in plain), *plain]
    return {key: plain[key] for key in dict.fromkeys(order)}


def _is_shown(default: Json) -> bool:
    """Hides defaults of null, [] and whole sections: editors insert the default on completion."""
    return default is not None and default != [] and not isinstance(default, dict)


def _described(schema: Schema, definitions: Schema) -> Schema:
    meaning = meaning_of(schema, definitions)
    return {**schema, "description": meaning} if meaning else schema


def meaning_of(schema: Schema, definitions: Schema) -> str:
    """The description of a key: that of its field, else that of its section."""
    if "description" in schema:
        return tidy(schema["description"])
    sections = [definitions[name] for name, _ in named(schema)]
    texts = [tidy(part["description"]) for part in sections if "description" in part]
    return " ".join(text.partition("\n\n")[0] for text in texts)


def tidy(text: str) -> str:
    """A docstring as Markdown, each paragraph on one line."""
    paragraphs = text.replace("``", "`").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def name_of(schema: Schema) -> str:
    """The name of the definition that a reference refers to."""
    return str(schema["$ref"]).rpartition("/")[2]


def named(schema: Schema, form: str = "") -> Iterator[tuple[str, str]]:
    """The definitions that a value may contain, each with ``[]`` in a list, ``.NAME`` in a mapping."""
    if "$ref" in schema:
        yield name_of(schema), form
    for key in EITHER:
        for part in schema.get(key, ()):
            yield from named(part, form)
    for key, suffix in (("items", "[]"), ("additionalProperties", ".NAME")):
        if isinstance(schema.get(key), dict):
            yield from named(schema[key], form + suffix)
