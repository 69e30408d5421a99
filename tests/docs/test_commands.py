"""What the pages tell users to type: commands are run or checked, examples loaded or run."""

import contextlib
import io
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from serve_app.cli.main import build_parser
from serve_app.config.locations import ConfigError
from serve_app.snapshot import compile_snapshot
from tests.docs.commands import (
    PAGES,
    README,
    ROOT,
    Block,
    all_blocks,
    commands,
    consoles,
    excerpt,
    is_same,
    make_workspace,
    run,
)
from tests.scripted_provider import ScriptedProvider
from tests.site import Site
from tests.wire.conftest import serve_api

GUIDES: Final = sorted((ROOT / "docs/guides").glob("*.md"))
RUN_HERE: Final = {"check", "route", "eval", "migrate"}
"""Commands of fingerpost that need neither network nor a server."""

SHELL: Final = all_blocks("sh")
ADDRESS: Final = "http://127.0.0.1:8000"


def _typed(block: Block, name: str) -> list[str]:
    """The lines of a block that run a command of that name."""
    return [line for line in commands(block) if line.split()[0] == name]


OURS: Final = [
    (block.page, line)
    for block in SHELL
    for line in _typed(block, "fingerpost")
    if block.is_first_screen and line.split()[1] in RUN_HERE and " serve.yaml" not in line
]
"""But the one for a file that is made of Kubernetes' objects: tests/deploy runs that."""
CURLS: Final = [(block.page, line) for block in SHELL for line in _typed(block, "curl") if ADDRESS in line and block.is_first_screen]  # fmt: skip
CONSOLES: Final = [(page, command, shown) for page in PAGES for _, command, shown in consoles(page)]


def _id(value: object) -> str | None:
    return value.name if isinstance(value, Path) else None


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The gateway of `make demo`, without Serve, over a scripted provider."""
    with ScriptedProvider() as provider:
        text = (ROOT / "configs/demo.gateway.yaml").read_text("utf-8")
        config = tmp_path_factory.mktemp("demo") / "gateway.yaml"
        config.write_text(text.replace("http://127.0.0.1:9009/v1", f"{provider.url}/v1"))
        with serve_api(config, {"vllm": provider}, {}) as site:
            yield site


@pytest.mark.parametrize("page", [README, *GUIDES], ids=_id)
def test_first_screen_shows_a_command(page: Path) -> None:
    """README and each guide have one before the second heading."""
    assert any(
        block.page == page and block.is_first_screen for block in all_blocks("sh", "console")
    )


@pytest.mark.parametrize(("page", "line"), OURS, ids=_id)
def test_command_of_fingerpost_works(page: Path, line: str, tmp_path: Path) -> None:
    """It is run in a folder with the files that the page shows, and succeeds."""
    make_workspace(tmp_path, page)
    status, output = run(line, tmp_path)
    assert status == 0, output


@pytest.mark.parametrize(("page", "command", "shown"), CONSOLES, ids=_id)
def test_output_is_the_one_that_is_shown(
    page: Path, command: str, shown: list[str], tmp_path: Path
) -> None:
    """But for times, and the last digits of scores."""
    make_workspace(tmp_path, page)
    status, output = run(command, tmp_path)
    assert status == 0, output
    lines = excerpt(command, shown, output)
    assert is_same(shown, lines), f"run `python -m tests.docs.commands`; it prints\n{output}"


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_of_a_block_exist(block: Block, tmp_path: Path) -> None:
    """Bash reads them; options, make targets and files of the project are there."""
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    make_workspace(tmp_path, block.page)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in _typed(block, "fingerpost"):
        arguments = shlex.split(line, comments=True)[1:]
        build_parser().parse_args(arguments)  # exits where it does not fit
    for line in _typed(block, "make"):
        assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line
    for name in re.findall(
        r"(?<![\w/.~-])(?:configs|requirements|benchmarks)/[\w./-]+", block.text
    ):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(("page", "line"), CURLS, ids=_id)
def test_request_of_a_page_is_answered(page: Path, line: str, demo: Site) -> None:
    """It goes to the demo's gateway, and what `grep` looks for is in the answer."""
    words = shlex.split(line.partition("|")[0])
    (url,) = [word for word in words if word.startswith(ADDRESS)]
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    bodies = [words[i + 1].encode() for i, word in enumerate(words) if word == "-d"]
    answer = demo.send(
        bodies[0] if bodies else None,
        method="POST" if bodies else "GET",
        path=url.removeprefix(ADDRESS),
        headers=headers,
    )
    assert answer.status == 200
    wanted = re.findall(r"grep ([\w-]+)", line)
    assert all(any(name.startswith(text) for name in answer.names) for text in wanted)


def test_readme_reports_the_headers_of_the_demo(demo: Site) -> None:
    """Those that it names after its request."""
    (line,) = [line for page, line in CURLS if page == README]
    body = shlex.split(line.partition("|")[0])
    headers = demo.send(body[body.index("-d") + 1].encode()).headers
    text = README.read_text("utf-8")
    assert f"`x-fingerpost-model: {headers['x-fingerpost-model']}`" in text
    assert f"the route (`{headers['x-fingerpost-route']}`)" in text
    assert "the reason (`route`)" in text
    assert headers["x-fingerpost-reason"] in {"route", "cached"}  # another test may have asked it


def test_session_guide_tells_what_the_demo_does(demo: Site) -> None:
    """The second request of the named session stays on the model of the first."""
    found = []
    for text in ("Write a poem about the sea at night", "Debug this python function"):
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        answer = demo.send(json.dumps(body).encode(), headers={"x-model-affinity": "guide-1"})
        found.append([answer.headers.get(f"x-fingerpost-{n}") for n in ("affinity", "reason")])
    assert found[0][0] == "miss"
    assert found[1] == ["hit", "affinity"]


@pytest.mark.parametrize("block", all_blocks("python"), ids=str)
def test_python_example_runs(block: Block, demo: Site) -> None:
    """With the SDK of the lock, against the demo's gateway."""
    code = compile(block.text.replace(ADDRESS, demo.url), str(block), "exec")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, {"__name__": "example"})  # noqa: S102 - the example is ours


BASE: Final[dict[str, Any]] = {
    "version": "v0.4.0",
    "model_providers": [
        {"model": "openai/gpt-4o", "access_key": "$OPENAI_API_KEY"},
        {"model": "openai/gpt-4o-mini", "access_key": "$OPENAI_API_KEY"},
        {"model": "ollama/llama3.2", "base_url": "http://127.0.0.1:11434"},
        {"model": "vllm/coder", "base_url": "http://127.0.0.1:8001"},
    ],
}
"""What a part of a configuration is completed with; its own keys come first."""

BROKEN: Final = "acces_key"
"""Stands in the one example that shows what `check` finds; another test compares that."""


def _yaml_examples() -> list[Block]:
    return [block for block in all_blocks("yaml") if BROKEN not in block.text]


@pytest.mark.parametrize("block", _yaml_examples(), ids=str)
def test_yaml_example_loads(block: Block, tmp_path: Path) -> None:
    """By the real loader; a part of a configuration beside what it lacks."""
    content = yaml.safe_load(block.text)
    if "applications" in content:
        ServeDeploySchema.model_validate(content)
        return
    if "schema" in content:
        return  # Continue's own file, which test_agent_pages reads
    if "kind" in content or {"deployments", "args"} & set(content):
        return  # tests/deploy has objects of Kubernetes and parts of a serve.yaml
    file = tmp_path / "gateway.yaml"
    whole = content if "version" in content else {**BASE, **content}
    file.write_text(block.text if whole is content else json.dumps(whole))
    try:
        compile_snapshot(file)
    except ConfigError as error:
        pytest.fail(str(error))


@pytest.mark.parametrize("block", all_blocks("json"), ids=str)
def test_json_example_is_json(block: Block) -> None:
    """Each is one value."""
    json.loads(block.text)


def test_example_files_of_the_demo_are_those_of_make_demo() -> None:
    """README, Makefile and configuration name the same ports."""
    text = README.read_text("utf-8")
    serve = yaml.safe_load((ROOT / "configs/demo.serve.yaml").read_text("utf-8"))
    assert f"port {serve['http_options']['port']} " in text
    (port,) = re.findall(r"scripted_provider --port (\d+)", (ROOT / "Makefile").read_text("utf-8"))
    assert f"port {port} " in text
    assert f":{port}/v1" in (ROOT / "configs/demo.gateway.yaml").read_text("utf-8")


def test_environment_page_lists_every_setting() -> None:
    """Of configs/serve.env, with its value."""
    page = (ROOT / "docs/operate/environment.md").read_text("utf-8")
    settings = re.findall(r"^[A-Z_]+=\S+$", (ROOT / "configs/serve.env").read_text(), re.MULTILINE)
    assert re.findall(r"^\| `([A-Z_]+=\S+)` \|", page, re.MULTILINE) == settings
