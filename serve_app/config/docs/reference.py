"""Generates the configuration reference for people, and the JSON Schema for editors.

``make reference`` writes docs/reference.md and configs/gateway.schema.json.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from serve_app.config.docs.json_schema import (
    EITHER,
    Schema,
    json_schema,
    meaning_of,
    name_of,
    named,
    tidy,
)
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import Json

CHECKOUT: Final = Path(__file__).resolve().parents[3]

_HEAD: Final = """\
# Configuration reference

Every key of `gateway.yaml`.
This page is generated: change [serve_app/config/schema/gateway.py](../../serve_app/config/schema/gateway.py) and run `make reference`.
The [guides](../guides/) say what the keys do together, with examples.

In a heading, `[]` means each entry of a list, and `NAME` each name of a mapping.
A string must not be empty unless the table allows it.
Unknown keys are errors, and types are strict: `"8000"` is a string, not a number.
"""


def files(model: type[BaseModel] = GatewayConfig) -> dict[str, str]:
    """The files that ``make reference`` writes: their contents by their paths in the project."""
    schema = json.dumps(json_schema(model), ensure_ascii=False, indent=2) + "\n"
    return {
        "configs/gateway.schema.json": schema,
        "docs/reference/configuration.md": reference(model),
    }


def reference(model: type[BaseModel]) -> str:
    """The page: a table for every section of a configuration, in the order of the schema."""
    page = _Page(model.model_json_schema())
    contents = [f"- {_link(section)}" for section in page.sections.values()]
    tables = [line for section in page.sections.values() for line in page.table(section)]
    return "\n".join([_HEAD, *contents, *tables]) + "\n"


@dataclass(frozen=True, slots=True)
class _Section:
    """A mapping whose keys are known."""

    title: str
    anchor: str
    schema: Schema


def _link(section: _Section) -> str:
    return f"[{section.title}](#{section.anchor})"


class _Page:
    """The sections of a schema, and how they are shown."""

    def __init__(self, whole: Schema) -> None:
        self._definitions: Schema = whole.get("$defs", {})
        self._anchors: Counter[str] = Counter()
        self.sections: dict[str, _Section] = {}
        """By the name of their definition; that of the whole file is empty."""
        self._add("", "Top level", whole)
        self._find(whole, "")

    def _add(self, name: str, title: str, schema: Schema) -> None:
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")  # as GitHub makes them
        count = self._anchors[anchor]
        self._anchors[anchor] += 1
        self.sections[name] = _Section(title, f"{anchor}-{count}" if count else anchor, schema)

    def _find(self, schema: Schema, path: str) -> None:
        """Adds the sections inside a section, each once and before the sections inside it."""
        for key, value in schema["properties"].items():
            inner = [
                (name, f"{path}{key}{form}")
                for name, form in named(value)
                if "properties" in self._definitions[name]
            ]
            for name, location in inner:
                if name not in self.sections:
                    section = self._definitions[name]
                    shared = sum(location == other for _, other in inner) > 1
                    self._add(name, f"`{location}`{_kind(section) if shared else ''}", section)
                    self._find(section, f"{location}.")

    def table(self, section: _Section) -> Iterator[str]:
        """The lines of a section: its heading, its description, and the table of its keys."""
        yield from ("", f"## {section.title}", "")
        if "description" in section.schema:
            yield from (tidy(section.schema["description"]), "")
        yield from ("| key | type | default | meaning |", "|---|---|---|---|")
        required = section.schema.get("required", ())
        for key, value in section.schema["properties"].items():
            default = "required" if key in required else self._default(key, value)
            null = ", or null" if default != "null" and _takes_null(value) else ""
            meaning = meaning_of(value, self._definitions).replace("\n\n", " ")
            cells = (f"`{key}`", self._type(key, value) + null, default, meaning)
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    def _type(self, key: str, schema: Schema, *, many: bool = False) -> str:
        """The type in words; numbers of a ``key`` that ends in ``_bytes`` are shown as sizes, too."""
        parts = list(self._parts(schema))
        links = [_link(self.sections[name_of(part)]) for part in parts if "$ref" in part]
        words = [self._word(key, part, many=many) for part in parts if "$ref" not in part]
        if links:
            words.append(f"mapping{_s(many)}, see {_either(links)}")
        return _either(dict.fromkeys(words))

    def _parts(self, schema: Schema) -> Iterator[Schema]:
        """The forms of a value, null aside; sections stay references."""
        if "$ref" in schema and name_of(schema) not in self.sections:
            yield from self._parts(self._definitions[name_of(schema)])
            return
        either = [part for name in EITHER for part in schema.get(name, ())]
        for part in either:
            if part.get("type") != "null":
                yield from self._parts(part)
        if not either:
            yield schema

    def _word(self, key: str, schema: Schema, *, many: bool) -> str:
        if "const" in schema or "enum" in schema:
            return _either(_code(value) for value in schema.get("enum", [schema.get("const")]))
        kind, inside = schema.get("type", ""), schema.get("additionalProperties")
        if kind == "array":
            items = self._type(key, schema.get("items", {}), many=True)
            return f"list{_s(many)} of {items}{_count(schema)}"
        if kind == "object":
            names = ""
            if isinstance(inside, Mapping) and inside:
                names = f" of names to {self._type(key, inside, many=True)}"
            return f"mapping{_s(many)}{names}"
        one, several = _WORDS.get(kind, ("any value", "any values"))
        return (several if many else one) + _limits(key, schema)

    def _default(self, key: str, schema: Schema) -> str:
        """The value without the key, in words."""
        default = schema.get("default")
        if isinstance(default, dict) and default:
            own = [_defaults(self._definitions[name]) for name, form in named(schema) if not form]
            return "its defaults" if default in own else _code(default)
        if default is None:
            made = "default" not in schema and schema.get("type") in {"array", "object"}
            return "empty" if made else "null"
        if isinstance(default, list | dict):
            return ", ".join(_code(value) for value in default) or "empty"
        if default == "":
            return "empty"
        if isinstance(default, bool):
            return str(default).lower()
        return _number(key, default) if isinstance(default, int | float) else _code(default)


def _s(many: bool) -> str:  # noqa: FBT001 - the plural ending
    return "s" if many else ""


def _kind(section: Schema) -> str:
    """Distinguishes a section from another one at the same location."""
    for key, value in section["properties"].items():
        if "const" in value:
            return f" with `{key}: {value['const']}`"
    return ", another form"


_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "string": ("string", "strings"),
    "integer": ("integer", "integers"),
    "number": ("number", "numbers"),
    "boolean": ("true or false", "true or false"),
}
_UNITS: Final = ((1 << 20, "MiB"), (1 << 10, "KiB"))


def _either(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _code(value: Json) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def _number(key: str, value: float) -> str:
    """A number as it is written; a number of bytes also in KiB or MiB."""
    for size, unit in _UNITS:
        if key.endswith("_bytes") and value and value % size == 0:
            return f"{value} ({value // size} {unit})"
    return f"{int(value) if value == int(value) else value}"


def _limits(key: str, schema: Schema) -> str:
    """The limits of a string or a number, in words."""
    if "pattern" in schema:
        return f" of the form `{schema['pattern']}`"
    if schema.get("type") == "string":
        return "" if schema.get("minLength") else ", may be empty"
    bounds = {
        "greater than ": schema.get("exclusiveMinimum"),
        "less than ": schema.get("exclusiveMaximum"),
        "from ": schema.get("minimum"),
        "up to ": schema.get("maximum"),
    }
    limits = [word + _number(key, bound) for word, bound in bounds.items() if bound is not None]
    text = "".join(f", {limit}" for limit in limits)
    return text.replace(", up to ", " to ") if ", from " in text else text


def _count(schema: Schema) -> str:
    least = f", at least {schema['minItems']}" if "minItems" in schema else ""
    return least + (f", at most {schema['maxItems']}" if "maxItems" in schema else "")


def _takes_null(schema: Schema) -> bool:
    return any(part.get("type") == "null" for name in EITHER for part in schema.get(name, ()))


def _defaults(section: Schema) -> dict[str, Json]:
    properties = section.get("properties", {}).items()
    return {key: value["default"] for key, value in properties if "default" in value}


def write_files(root: Path) -> None:
    """Writes the files under a folder."""
    for name, content in files().items():
        (root / name).write_text(content, "utf-8")


if __name__ == "__main__":
    write_files(CHECKOUT)
