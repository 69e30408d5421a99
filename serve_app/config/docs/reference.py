"""What may stand in ``gateway.yaml``, told to people and to editors; both from the schema alone.

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

In a heading, `[]` stands for each entry of a list, and `NAME` for each name of a mapping.
A text may not be empty, unless the table says so.
An unknown key is an error, and types are strict: `"8000"` is a text and no number.
"""


def files(model: type[BaseModel] = GatewayConfig) -> dict[str, str]:
    """What ``make reference`` writes: every file's content by its path in the project."""
    schema = json.dumps(json_schema(model), ensure_ascii=False, indent=2) + "\n"
    return {"configs/gateway.schema.json": schema, "docs/reference/configuration.md": reference(model)}


def reference(model: type[BaseModel]) -> str:
    """A page with a table for every section of a configuration, in the schema's order."""
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
        """By the name of their definition; the whole file has none."""
        self._add("", "Top level", whole)
        self._find(whole, "")

    def _add(self, name: str, title: str, schema: Schema) -> None:
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")  # as GitHub makes them
        count = self._anchors[anchor]
        self._anchors[anchor] += 1
        self.sections[name] = _Section(title, f"{anchor}-{count}" if count else anchor, schema)

    def _find(self, schema: Schema, path: str) -> None:
        """Adds the sections inside a section, each before what is inside of it, and once only."""
        for key, value in schema["properties"].items():
            found = [
                (name, f"{path}{key}{form}")
                for name, form in named(value)
                if "properties" in self._definitions[name]
            ]
            for name, place in found:
                if name not in self.sections:
                    section = self._definitions[name]
                    shared = sum(place == other for _, other in found) > 1
                    self._add(name, f"`{place}`{_kind(section) if shared else ''}", section)
                    self._find(section, f"{place}.")

    def table(self, section: _Section) -> Iterator[str]:
        """A section's heading, what it is for, and its keys."""
        yield from ("", f"## {section.title}", "")
        if "description" in section.schema:
            yield from (tidy(section.schema["description"]), "")
        yield from ("| key | type | default | meaning |", "|---|---|---|---|")
        required = section.schema.get("required", ())
        for key, value in section.schema["properties"].items():
            default = "required" if key in required else self._default(key, value)
            nothing = ", or null" if default != "none" and _takes_null(value) else ""
            meaning = meaning_of(value, self._definitions).replace("\n\n", " ")
            cells = (f"`{key}`", self._type(key, value) + nothing, default, meaning)
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    def _type(self, key: str, schema: Schema, *, many: bool = False) -> str:
        """The type in words; ``key`` tells bytes from other numbers."""
        parts = list(self._parts(schema))
        links = [_link(self.sections[name_of(part)]) for part in parts if "$ref" in part]
        told = [self._word(key, part, many=many) for part in parts if "$ref" not in part]
        if links:
            told.append(f"mapping{_s(many)}, see {_either(links)}")
        return _either(dict.fromkeys(told))

    def _parts(self, schema: Schema) -> Iterator[Schema]:
        """What a value may be, but null: sections by reference, all else as it is."""
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
        one, several = _WORDS.get(kind, ("anything", "anything"))
        return (several if many else one) + _limits(key, schema)

    def _default(self, key: str, schema: Schema) -> str:
        """What holds without the key, in words."""
        default = schema.get("default")
        if isinstance(default, dict) and default:
            own = [_defaults(self._definitions[name]) for name, form in named(schema) if not form]
            return "see there" if default in own else _code(default)
        if default is None:
            made = "default" not in schema and schema.get("type") in {"array", "object"}
            return "empty" if made else "none"
        if isinstance(default, list | dict):
            return ", ".join(_code(value) for value in default) or "empty"
        if default == "":
            return "empty"
        if isinstance(default, bool):
            return str(default).lower()
        return _number(key, default) if isinstance(default, int | float) else _code(default)


def _s(many: bool) -> str:  # noqa: FBT001 - an ending, not a switch
    return "s" if many else ""


def _kind(section: Schema) -> str:
    """What tells a section from another one at the same place."""
    for key, value in section["properties"].items():
        if "const" in value:
            return f" with `{key}: {value['const']}`"
    return ", another form"


_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "string": ("text", "texts"),
    "integer": ("whole number", "whole numbers"),
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
    """A number as one writes it; of bytes also what it comes to."""
    for size, unit in _UNITS:
        if key.endswith("_bytes") and value and value % size == 0:
            return f"{value} ({value // size} {unit})"
    return f"{int(value) if value == int(value) else value}"


def _limits(key: str, schema: Schema) -> str:
    """What a text or a number has to keep to."""
    if "pattern" in schema:
        return f" of the form `{schema['pattern']}`"
    if schema.get("type") == "string":
        return "" if schema.get("minLength") else ", also empty"
    bounds = {
        "greater than ": schema.get("exclusiveMinimum"),
        "less than ": schema.get("exclusiveMaximum"),
        "from ": schema.get("minimum"),
        "up to ": schema.get("maximum"),
    }
    told = [word + _number(key, bound) for word, bound in bounds.items() if bound is not None]
    text = "".join(f", {limit}" for limit in told)
    return text.replace(", up to ", " to ") if ", from " in text else text


def _count(schema: Schema) -> str:
    least = f", at least {schema['minItems']}" if "minItems" in schema else ""
    return least + (f", at most {schema['maxItems']}" if "maxItems" in schema else "")


def _takes_null(schema: Schema) -> bool:
    return any(part.get("type") == "null" for name in EITHER for part in schema.get(name, ()))


def _defaults(section: Schema) -> dict[str, Json]:
    found = section.get("properties", {}).items()
    return {key: value["default"] for key, value in found if "default" in value}


def write_files(root: Path) -> None:
    """Writes the files below a folder."""
    for name, content in files().items():
        (root / name).write_text(content, "utf-8")


if __name__ == "__main__":
    write_files(CHECKOUT)
