"""The sizes, names and words that CONTRIBUTING.md sets, and texts that must stay true.

``python tests/docs/test_house_rules.py`` prints the counts of old phrases as they are now.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    file
    for folder in ("serve_app", "deployments", "tests", "benchmarks")
    for file in (ROOT / folder).rglob("*.py")
    if ".work" not in file.parts
)
TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

WORDED: Final = [
    ROOT / "README.md",
    *(
        file
        for place in ("serve_app", "deployments", "docs", "configs")
        for file in sorted((ROOT / place).rglob("*"))
        if file.suffix in {".py", ".md", ".yaml", ".json", ".env"}
    ),
]
"""Files whose words users and maintainers read."""

OLD_PHRASES: Final[Mapping[str, int]] = {
    r"(?<!there )\bis no [a-z]": 1,
    r"stands? there": 0,
    r"not in force": 0,
    r"comes? to\b": 1,
    r"who (asks|needs)": 0,
    r"gives no": 0,
    r"so many": 0,
    r"\b(whoever|nobody|somebody)\b": 2,
}
"""Patterns of the private language of earlier versions, and how often each is still there.

Counts only fall. Instead of "is no x" write "is not an x"; of "stands there twice" "duplicate"; of
"not in force" "ignored"; of "comes to" "compiles to" or "is"; of "gives no" "is unavailable" or the
verb with "not"; of "so many" the number; of whoever, nobody, somebody and "who asks" the actor.
"""

SAME_NAME: Final = {"Answer", "Orchestrator", "Role"}
"""Public classes of one name that are meant: the port and the deployment that runs engines, and
those of ``ir``, which are written ``ir.Answer`` and ``ir.Role``.
"""


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_and_functions_stay_small(file: Path) -> None:
    """No file is longer than 400 lines and no function longer than 60."""
    text = file.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, node.name


def counts() -> dict[str, int]:
    """How often each old phrase is in the files, in any letter case."""
    texts = [file.read_text("utf-8") for file in WORDED]
    return {
        pattern: sum(len(re.findall(pattern, text, re.IGNORECASE)) for text in texts)
        for pattern in OLD_PHRASES
    }


COUNTS: Final = counts()


@pytest.mark.parametrize("pattern", OLD_PHRASES)
def test_old_phrases_only_get_fewer(pattern: str) -> None:
    """A count that rises means a new one was written; one that falls is committed."""
    found, committed = COUNTS[pattern], OLD_PHRASES[pattern]
    assert found <= committed, (
        f"{found - committed} more of {pattern!r}: see CONTRIBUTING, Language"
    )
    assert found == committed, f"good: lower the count of {pattern!r} to {found} in OLD_PHRASES"


def test_public_classes_have_names_of_their_own() -> None:
    """No two modules define a class of the same name, but for those that are meant."""
    places = defaultdict(list)
    for file in SOURCES:
        if file.relative_to(ROOT).parts[0] in {"serve_app", "deployments"}:
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(str(file.relative_to(ROOT)))
    twice = {name: files for name, files in places.items() if len(files) > 1}
    assert set(twice) <= SAME_NAME, twice


def test_readme_stays_short() -> None:
    """It is read before anything else."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 220


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_between_texts_resolve(file: Path) -> None:
    """Every relative link names a file that is there."""
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", file.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (file.parent / target).exists(), target


def test_pages_that_sources_name_exist() -> None:
    """In a comment, a message or a configuration."""
    files = {*SOURCES, *WORDED, ROOT / "Makefile", ROOT / "Dockerfile", ROOT / "cluster.yaml"}
    for file in files - {Path(__file__)}:
        for name in re.findall(r"(?<![\w/.])docs/[\w/.-]+\.(?:md|svg)", file.read_text("utf-8")):
            assert (ROOT / name).exists(), (file, name)


def test_architecture_page_has_the_layers_of_the_contract() -> None:
    """In the order of pyproject.toml, and every module of the core has a line."""
    page = (ROOT / "docs/design/architecture.md").read_text("utf-8")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    assert "\n".join(["```", *layers, "```"]) in page
    table = page.partition("## What lives where")[2]
    for layer in layers:
        for name in layer.split(" | "):
            assert f"`serve_app/{name}" in table or f"`{name}.py`" in table, name


def test_the_locks_hold_what_the_project_asks_for() -> None:
    """Each dependency of pyproject.toml is pinned, by hash, in both locks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[\[<>=]", dependency)[0] for dependency in project["dependencies"]]
    for lock in ("base.txt", "test.txt"):
        text = (ROOT / "requirements" / lock).read_text()
        for name in names:
            assert re.search(rf"^{name}(\[.*\])?==\S+", text, re.MULTILINE), (lock, name)
        assert text.count("--hash=sha256:") > text.count("==")


def test_base_is_part_of_test() -> None:
    """Both locks pin one version of everything that they share."""
    pins = [
        set(re.findall(r"^\S+==\S+", (ROOT / "requirements" / lock).read_text(), re.MULTILINE))
        for lock in ("base.txt", "test.txt")
    ]
    assert pins[0] <= pins[1]


def test_no_file_names_this_machine() -> None:
    """Nothing that is tracked holds an absolute path of a checkout."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        file = ROOT / name
        if file.suffix in {".py", ".md", ".yaml", ".toml", ".txt", ".in", ".json", ".env"}:
            assert str(ROOT) not in file.read_text("utf-8"), name


if __name__ == "__main__":
    for phrase, number in COUNTS.items():
        sys.stdout.write(f'    r"{phrase}": {number},\n')
