"""What a command imports: the libraries that it needs, and none that only others need."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from serve_app.cli.main import COMMANDS

CONFIG: Final = str(Path(__file__).parents[3] / "configs/gateway.yaml")
SLOW: Final = (
    "aiohttp", "fastapi", "genai_prices", "numpy", "onnxruntime", "psutil", "ray", "redis", "ruamel",
    "starlette", "tokenizers", "torch", "tqdm", "vllm",
)  # fmt: skip
"""Libraries that take from 10 ms to seconds to import."""

MODEL: Final = {"numpy", "onnxruntime", "tokenizers"}
ROUTES: Final = {"routes": [{"name": "poems", "description": "poems and rhymes"}]}
CASE: Final = {"messages": [{"role": "user", "content": "Write a haiku"}], "expect": "poems"}
PROGRAM: Final = f"""
import json, sys
from serve_app.cli.main import main
try:
    status = main(sys.argv[1:])
except SystemExit as error:
    status = error.code
print(json.dumps([status, [name for name in {SLOW!r} if name in sys.modules]]))
"""


def imported_by(arguments: Sequence[str]) -> tuple[int, set[str]]:
    """The exit status of a command in a process of its own, and the slow libraries it imported."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    status, names = json.loads(done.stdout.splitlines()[-1])
    return status, set(names)


@pytest.mark.parametrize("arguments", [[], ["--version"], ["--help"], ["check", CONFIG]])
def test_help_and_check_import_no_slow_library(arguments: list[str]) -> None:
    """The configuration is read and compiled with pydantic and PyYAML alone."""
    assert imported_by(arguments) == (0, set())


def test_migrate_imports_the_yaml_editor_alone(tmp_path: Path) -> None:
    """ruamel.yaml keeps the comments; no other command needs it."""
    file = tmp_path / "plano_config.yaml"
    file.write_text("version: v0.3.0\nmodel_providers: [{model: openai/a}]\n")
    assert imported_by(["migrate", str(file)]) == (0, {"ruamel"})


def test_route_imports_the_embedded_engine_alone() -> None:
    """No HTTP client, no Ray, no progress bar."""
    assert imported_by(["route", "Write a haiku", "--config", CONFIG]) == (0, MODEL)


def test_eval_imports_the_embedded_engine_and_the_progress_bar(tmp_path: Path) -> None:
    """No HTTP client and no Ray."""
    file = tmp_path / "set.jsonl"
    file.write_text(f"{json.dumps(ROUTES)}\n{json.dumps(CASE)}\n")
    assert imported_by(["eval", str(file)]) == (0, {*MODEL, "tqdm"})


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_needs_neither_ray_nor_an_engine(name: str) -> None:
    """Ray takes seconds to import, and is needed to check a serve.yaml only."""
    status, names = imported_by([name, "--help"])
    assert status == 0
    assert not names & {"ray", "onnxruntime", "tokenizers", "aiohttp", "fastapi"}
