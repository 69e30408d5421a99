"""The reference and the JSON Schema, of schemas that are made for these tests."""

from enum import Enum
from typing import Annotated, Any, Final, Literal

import jsonschema
import pytest
from pydantic import BaseModel, ConfigDict, Field

from serve_app.config.docs.json_schema import json_schema
from serve_app.config.docs.reference import reference


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Colour(Enum):
    """What it looks like."""

    RED = "red"
    BLUE = "blue"


class Cost(Strict):
    """A price list."""

    type: Literal["cost"]
    url: str = Field(min_length=1, description="where it is")


class Speed(Strict):
    """A stop watch."""

    type: Literal["speed"]


class Old(Strict):
    """As it was
    before.

    Nobody writes it any more.
    """

    port: int = 80


class Leaf(Strict):
    """The ``innermost`` part."""

    size_bytes: int = Field(default=2 << 20, ge=1 << 10, le=1 << 30, description="how much")


class Branch(Strict):
    """A part of it."""

    leaf: Leaf = Leaf()
    others: list[Leaf] = []


class Whole(Strict):
    """All of it."""

    plain: Any = Field(description="this | that")
    word: str = Field(default="", description="d")
    code: str = Field(default="a-1", pattern="^[a-z]-[0-9]$", description="d")
    colour: Colour = Colour.RED
    maybe: Colour | None = Field(None, description="d")
    either: int | list[str] = Field(default=1, description="d")
    needed: Annotated[float, Field(gt=0, lt=2.5)] | None = Field(description="d")
    most: int = Field(default=1, le=9, description="d")
    flags: list[bool] = Field(default_factory=list, max_length=3, min_length=1, description="d")
    table: dict[str, dict[str, int]] = Field(default={}, description="d")
    loose: dict[str, Any] = Field(default={"a": 1}, description="d")
    nested: list[list[float]] = Field(default=[], description="d")
    numbers: list[int] = Field(default=[1, 2], description="d")
    branch: Branch = Branch(leaf=Leaf(size_bytes=1 << 20))
    usual: Branch = Branch()
    old: list[Old] | Old = Field(default=[], description="d")
    sources: list[Annotated[Cost | Speed, Field(discriminator="type")]] = []
    named: dict[str, Old] = {}
    no: bool = Field(default=False, description="d")


ROWS: Final = {
    line.split(" | ")[0].strip("| `"): line.removeprefix("| ").removesuffix(" |").split(" | ")[1:]
    for line in reference(Whole).partition("## `branch`")[0].splitlines()
    if line.startswith("| `")
}
LEAF: Final = "[`branch.leaf`](#branchleaf)"


@pytest.mark.parametrize(
    ("key", "cells"),
    {
        "plain": ["any value", "required", "this \\| that"],
        "word": ["string, may be empty", "empty", "d"],
        "code": ["string of the form `^[a-z]-[0-9]$`", "`a-1`", "d"],
        "colour": ["`red` or `blue`", "`red`", "What it looks like."],
        "maybe": ["`red` or `blue`", "null", "d"],
        "either": ["integer or list of strings, may be empty", "1", "d"],
        "needed": ["number, greater than 0, less than 2.5, or null", "required", "d"],
        "most": ["integer, up to 9", "1", "d"],
        "flags": ["list of true or false, at least 1, at most 3", "empty", "d"],
        "table": ["mapping of names to mappings of names to integers", "empty", "d"],
        "loose": ["mapping", '`{"a": 1}`', "d"],
        "nested": ["list of lists of numbers", "empty", "d"],
        "numbers": ["list of integers", "`1`, `2`", "d"],
        "branch": [
            "mapping, see [`branch`](#branch)",
            '`{"leaf": {"size_bytes": 1048576}, "others": []}`',
            "A part of it.",
        ],
        "usual": ["mapping, see [`branch`](#branch)", "its defaults", "A part of it."],
        "old": ["list of mappings, see [`old[]`](#old) or mapping, see [`old[]`](#old)", "empty", "d"],
        "sources": [
            "list of mappings, see [`sources[]` with `type: cost`](#sources-with-type-cost) or [`sources[]` with `type: speed`](#sources-with-type-speed)",
            "empty",
            "A price list. A stop watch.",
        ],
        "named": ["mapping of names to mappings, see [`old[]`](#old)", "empty", "As it was before."],
        "no": ["true or false", "false", "d"],
    }.items(),
)  # fmt: skip
def test_key_is_described_in_words(key: str, cells: list[str]) -> None:
    """The row has its type with limits, its default and its meaning."""
    assert ROWS[key] == cells


def test_every_section_has_one_table() -> None:
    """Tables are in the order of the schema, with a list of links to them."""
    page = reference(Whole)
    titles = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert titles == [
        "Top level", "`branch`", "`branch.leaf`", "`old[]`", "`sources[]` with `type: cost`",
        "`sources[]` with `type: speed`",
    ]  # fmt: skip
    links = [line for line in page.splitlines() if line.startswith("- ")]
    assert [link[3 : link.index("](")] for link in links] == titles
    assert page.endswith("| `type` | `speed` | required |  |\n")


def test_section_is_described_by_its_docstring() -> None:
    """It is Markdown with all paragraphs; bytes are shown as MiB, too."""
    page = reference(Whole)
    assert "\n## `old[]`\n\nAs it was before.\n\nNobody writes it any more.\n\n| key |" in page
    row = "| `size_bytes` | integer, from 1024 (1 KiB) to 1073741824 (1024 MiB) | 2097152 (2 MiB) | how much |"
    assert (
        f"\n## `branch.leaf`\n\nThe `innermost` part.\n\n| key | type | default | meaning |\n|---|---|---|---|\n{row}\n"
        in page
    )
    assert f"| `leaf` | mapping, see {LEAF} | its defaults |" in page
    assert f"| `others` | list of mappings, see {LEAF} | empty |" in page


class Same(Strict):
    """One form."""

    a: int = 1


class Other(Strict):
    """Another form."""

    b: int = 2


class Forms(Strict):
    """Two sections with one name."""

    part: Same | Other = Same()
    ab: Literal[1] = 1


class Clash(Strict):
    """``a.b`` and ``ab`` have one anchor."""

    a: "Holder"
    ab: Other


class Holder(Strict):
    """Holds."""

    b: Same


def test_sections_at_one_location_are_distinguished() -> None:
    """Links lead to the right one, also without a distinguishing key."""
    page = reference(Forms)
    assert "[`part`, another form](#part-another-form) or" in page
    assert "| `ab` | `1` | 1 |" in page


def test_equal_anchors_are_numbered() -> None:
    """They are numbered as by GitHub."""
    page = reference(Clash)
    assert "- [`a.b`](#ab)\n- [`ab`](#ab-1)\n" in page


SCHEMA: Final = json_schema(Whole)


def test_schema_has_no_references() -> None:
    """Sections are written out, important keys come first, and pydantic's keys are removed."""
    assert list(SCHEMA)[:4] == ["$schema", "title", "description", "type"]
    assert SCHEMA["properties"]["named"] == {
        "description": "As it was before.",
        "type": "object",
        "additionalProperties": {
            "description": "As it was before.\n\nNobody writes it any more.",
            "type": "object",
            "additionalProperties": False,
            "properties": {"port": {"type": "integer", "default": 80}},
        },
    }
    assert SCHEMA["properties"]["maybe"] == {
        "description": "d",
        "anyOf": [
            {"description": "What it looks like.", "type": "string", "enum": ["red", "blue"]},
            {"type": "null"},
        ],
    }
    assert SCHEMA["properties"]["numbers"]["default"] == [1, 2]
    assert SCHEMA["properties"]["sources"]["description"] == "A price list. A stop watch."


def test_schema_validates_files() -> None:
    """It accepts a valid file and refuses an invalid one."""
    valid = jsonschema.Draft7Validator(SCHEMA).is_valid
    good = {"plain": None, "needed": 1, "branch": {"leaf": {"size_bytes": 1024}}}
    assert valid({**good, "sources": [{"type": "speed"}, {"type": "cost", "url": "x"}]})
    for bad in (
        {"plain": None},
        {**good, "x": 1},
        {**good, "needed": 2.5},
        {**good, "colour": "green"},
        {**good, "branch": {"leaf": {"size_bytes": 1}}},
        {**good, "sources": [{"type": "speed", "url": "x"}]},
    ):
        assert not valid(bad)


class Ring(Strict):
    """Goes round."""

    next: "Ring | None" = None


def test_recursive_section_is_an_error() -> None:
    """It cannot be written out."""
    with pytest.raises(ValueError, match="Ring contains itself"):
        json_schema(Ring)


class Bare(BaseModel):
    a: Leaf = Leaf()
    b: dict[str, str] = {}
    c: list[Any] = []


def test_section_without_descriptions_is_shown() -> None:
    """Its meanings are empty, and nothing is invented."""
    table = "| key | type | default | meaning |\n|---|---|---|---|\n"
    assert f"\n## Top level\n\n{table}| `a` | mapping, see [`a`](#a) |" in reference(Bare)
    assert "| `b` | mapping of names to strings, may be empty | empty |  |" in reference(Bare)
    assert "| `c` | list of any values | empty |  |" in reference(Bare)
    assert "description" not in json_schema(Bare)["properties"]["b"]
