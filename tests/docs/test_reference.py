"""The configuration reference and the JSON Schema: current, complete, and true."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from serve_app.cli.main import main
from serve_app.config.docs.reference import files, write_files
from serve_app.config.schema.gateway import GatewayConfig
from tests.docs.commands import BROKEN_EXAMPLE
from tests.unit.config.broken import BROKEN

ROOT: Final = Path(__file__).parents[2]
FILES: Final = files()
SCHEMA: Final = json.loads(FILES["configs/gateway.schema.json"])
VALIDATOR: Final = jsonschema.Draft7Validator(SCHEMA)
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("name", FILES)
def test_generated_files_are_current(name: str) -> None:
    """Each is what `make reference` would write now."""
    assert (ROOT / name).read_text("utf-8") == FILES[name], "run `make reference` and commit"


def test_command_writes_both_files(tmp_path: Path) -> None:
    """It writes nothing else."""
    for folder in ("configs", "docs/reference"):
        (tmp_path / folder).mkdir(parents=True)
    write_files(tmp_path)
    written = {
        str(file.relative_to(tmp_path)): file.read_text("utf-8")
        for file in tmp_path.rglob("*")
        if file.is_file()
    }
    assert written == FILES


def sections(schema: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every mapping with known keys, with its place."""
    if "properties" in schema:
        yield place, schema
    for key, value in schema.get("properties", {}).items():
        yield from sections(value, f"{place}.{key}" if place else key)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from sections(schema[key], f"{place}[]")
    for key in ("anyOf", "oneOf"):
        for part in schema.get(key, ()):
            yield from sections(part, place)


def test_every_key_is_described() -> None:
    """The description is that of its field, or the docstring of its section."""
    lacking = [
        f"{place}.{key}" if place else key
        for place, section in sections(SCHEMA)
        for key, value in section["properties"].items()
        if not value.get("description")
    ]
    assert not lacking, f"give these keys of schema.py a description: {', '.join(lacking)}"


def test_every_section_is_described() -> None:
    """The description is the docstring of its class."""
    whole = GatewayConfig.model_json_schema()
    found = {"": whole, **whole["$defs"]}
    lacking = [name for name, part in found.items() if not part.get("description")]
    assert not lacking, f"give these classes of schema.py a docstring: {', '.join(lacking)}"


def test_schema_suits_editors() -> None:
    """It is draft 7, closed, without references, and without names of Python classes."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert all(section["additionalProperties"] is False for _, section in sections(SCHEMA))
    text = FILES["configs/gateway.schema.json"]
    assert text.endswith("}\n")
    assert not {"$ref", "$defs", "discriminator"} & set(re.findall(r'"([^"]+)":', text))
    assert text.count('"title": "') == 1


def examples() -> Iterator[tuple[str, str]]:
    """Whole configurations that the project shows, but for older forms of Plano's."""
    for file in (ROOT / "configs").glob("*gateway*.yaml"):
        yield file.name, file.read_text("utf-8")
    for page in PAGES:
        for index, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
            if re.search(r"^version: v0\.4", text, re.MULTILINE):
                yield f"{page.name}-{index}", text


EXAMPLES: Final = dict(examples())


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_names_the_schema(name: str) -> None:
    """A copied example makes the editor complete keys; the file is in the project."""
    first = EXAMPLES[name].partition("\n")[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found is not None
    assert (ROOT / "configs" / found[1]).is_file()


@pytest.mark.parametrize("name", EXAMPLES)
def test_schema_and_loader_agree_on_examples(name: str) -> None:
    """Most are valid; the others have unknown keys or wrong types."""
    content = yaml.safe_load(EXAMPLES[name])
    assert VALIDATOR.is_valid(content) is _fits(content)


SHAPES: Final = (
    "missing", "extra_forbidden", "_type", "literal_error", "enum", "less_than", "greater_than",
    "too_short", "too_long", "pattern_mismatch", "union_tag", "finite_number",
)  # fmt: skip
"""Kinds of pydantic's errors that JSON Schema can express; custom checks of a value are not."""


def _fits(content: Any) -> bool:
    """True if the loader accepts keys, types and limits."""
    try:
        GatewayConfig.model_validate(content)
    except ValidationError as error:
        kinds = [detail["type"] for detail in error.errors()]
        return not any(shape in kind for kind in kinds for shape in SHAPES)
    return True


def readable() -> dict[str, Any]:
    """Broken configurations that are valid YAML, without numbers that JSON lacks."""
    found = {}
    for name, (text, _) in BROKEN.items():
        try:
            content = yaml.safe_load(text)
            json.dumps(content, allow_nan=False)
        except (yaml.YAMLError, ValueError, TypeError):
            continue
        found[name] = content
    return found


READABLE: Final = readable()


@pytest.mark.parametrize("name", READABLE)
def test_schema_and_loader_agree(name: str) -> None:
    """They accept and refuse the same broken files."""
    assert VALIDATOR.is_valid(READABLE[name]) is _fits(READABLE[name])


def test_agreement_is_tested_with_both_outcomes() -> None:
    """There are enough valid and invalid files to compare."""
    bad = sum(not VALIDATOR.is_valid(content) for content in READABLE.values())
    assert bad > 20
    assert len(READABLE) - bad > 20


def test_guide_shows_the_output_of_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of its broken example, to the letter."""
    text = (ROOT / "docs/operate/troubleshooting.md").read_text("utf-8")
    found = BROKEN_EXAMPLE.search(text)
    assert found is not None
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text(found[1])
    assert main(["check", "gateway.yaml"]) == 1
    assert capsys.readouterr().err == found[2]


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub links to them."""
    found: set[str] = set()
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        anchor = re.sub(r"[^\w -]", "", shown.lower()).replace(" ", "-")
        count = sum(known == anchor or known.startswith(f"{anchor}-") for known in found)
        found.add(f"{anchor}-{count}" if anchor in found else anchor)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_headings_resolve(page: Path) -> None:
    """Links may lead to the page itself or to another one."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text("utf-8")):
        other = page.parent / target if target else page
        if not target.startswith(("http://", "https://")) and other.suffix == ".md":
            assert anchor in anchors(other), f"{target}#{anchor}"
