"""The sizes that CONTRIBUTING.md sets, and texts that must stay true."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    file
    for folder in ("serve_app", "deployments", "tests", "benchmarks")
    for file in (ROOT / folder).rglob("*.py")
    if ".work" not in file.parts
)
TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_and_functions_stay_small(file: Path) -> None:
    """No file is longer than 400 lines and no function longer than 60."""
    text = file.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, node.name


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_between_texts_resolve(file: Path) -> None:
    """Every relative link names a file that is there."""
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", file.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (file.parent / target).exists(), target


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
