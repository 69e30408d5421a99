"""``fingerpost suggest``: what it asks, prints and writes."""

import json
from pathlib import Path
from typing import Final

import pytest
import yaml

from serve_app.cli.main import main
from serve_app.snapshot import compile_snapshot
from tests.unit.cli.example_provider import (
    ExampleProvider,
    Suggest,
    edit,
    wanted_of,
    writes,
)
from tests.unit.cli.test_imports import MODEL, imported_by

EXAMPLES: Final = {
    "code": ['why: does "this" loop', "#1 bug", "- fix", "naïve 関数 😀"],
    "poems: all": ["{rhyme}", "yes", "a song", "a Haiku!"],
    "no route": ["hi", "thx", "wer bist du", "rent?", "  a  b ", "c", "d", "e"],
}  # fmt: skip


def test_examples_are_printed_as_yaml(run: Suggest, file: Path, provider: ExampleProvider) -> None:
    """Those of all routes and of "no route"; the file is not changed, the rest goes to stderr."""
    before = file.read_text("utf-8")
    status, out, err = run("--count", "4", scripts=(writes(EXAMPLES),))
    assert (status, file.read_text("utf-8")) == (0, before)
    content = yaml.safe_load(out)
    assert content["routing_preferences"] == [
        {"name": "code", "examples": EXAMPLES["code"]},
        {"name": "poems: all", "examples": ["a haiku", "{rhyme}", "yes", "a song"]},
    ]
    assert content["no_route_examples"] == [" ".join(t.split()) for t in EXAMPLES["no route"]]
    assert "asking vllm/large for 15 messages\n  1 of 2, code, poems: all: 7 of 7 in " in err
    assert "Measured on these 16 examples by the embedded engine:" in err
    assert "real traffic" in err
    assert "--write does that, but asks anew" in err


def test_default_model_is_asked_as_its_entry_says(run: Suggest, provider: ExampleProvider) -> None:
    """With its key and headers, and with each route that the configuration has."""
    assert run("--languages", "de, fr")[0] == 0
    assert provider.paths == ["/v1/chat/completions"] * 2
    headers, body = provider.headers[0], provider.bodies[0]
    assert (headers["authorization"], headers["x-team"]) == ("Bearer sk-secret-1234", "blue")
    assert (body["model"], body["stream"], body["max_tokens"]) == ("large", False, 8192)
    assert body["response_format"] == {"type": "json_object"}
    routes, none = provider.prompts
    assert wanted_of(routes) == {"code": 20, "poems: all": 19}
    assert wanted_of(none) == {"no route": 40}
    assert all('- "code": writing, explaining and debugging code\n' in p for p in (routes, none))
    assert "2 in German, 2 in French" in routes
    assert "Spanish" not in routes


def test_named_model_is_asked(run: Suggest, provider: ExampleProvider) -> None:
    """By its full name or without the provider; the key of another one is not needed."""
    for name in ("vllm/small", "small"):
        assert run("--model", name, "--languages", "en")[0] == 0
        assert provider.bodies[-1]["model"] == "small"
        assert "authorization" not in provider.headers[-1]
    assert "Write every message in English." in provider.prompts[0]


def test_first_model_is_asked_without_a_default(
    run: Suggest, file: Path, provider: ExampleProvider
) -> None:
    """Wildcards do not count, but one of their models can be named."""
    edit(file, "    default: true\n", "")
    edit(file, "  - model: vllm/small", "  - {model: xai/*, access_key: x}\n  - model: vllm/small")
    assert run()[0] == 0
    assert provider.bodies[-1]["model"] == "small"


def test_wildcard_alone_needs_a_name(run: Suggest, file: Path, provider: ExampleProvider) -> None:
    """A wildcard has no model that could be chosen."""
    edit(file, "vllm/small", "vllm/*")
    edit(file, "vllm/large", "vllm/x")
    edit(file, "[small, large]", "[vllm/x]")
    file.write_text(
        file.read_text("utf-8").replace(
            "  - model: vllm/x\n    base_url: " + provider.url + "/v1\n    access_key: $UNIT_KEY\n"
            "    headers: {x-team: blue}\n    default: true\n",
            "",
        )
    )
    status, _, err = run()
    assert (status, "only wildcards; name a model to ask, such as --model vllm/NAME" in err) == (
        1,
        True,
    )
    assert run("--model", "vllm/any")[0] == 0
    assert provider.bodies[-1]["model"] == "any"


def test_examples_are_written_into_the_file(run: Suggest, file: Path) -> None:
    """Comments and order are kept, and existing examples come first."""
    before = file.read_text("utf-8")
    status, out, err = run("--count", "4", "--write", scripts=(writes(EXAMPLES),))
    assert (status, out) == (0, "")
    after = file.read_text("utf-8")
    kept = iter(after.splitlines())
    assert all(line in kept for line in before.splitlines() if "haiku" not in line)
    policy = compile_snapshot(file).policy
    assert policy.routes[0].examples == tuple(EXAMPLES["code"])
    assert policy.routes[1].examples == ("a haiku", "{rhyme}", "yes", "a song")
    assert len(policy.no_route_examples) == 8
    assert f"{file}: 15 examples written (code, poems: all, no route)\n" in err
    status, _, err = run("--count", "4", "--write")
    assert (status, file.read_text("utf-8")) == (0, after)
    assert "no route lacks examples; --more asks for more" in err


def test_more_examples_are_asked_for_when_wanted(run: Suggest, file: Path) -> None:
    """They must differ from those that are there."""
    assert run("--count", "4", "--write", scripts=(writes(EXAMPLES),))[0] == 0
    status, _, err = run("--count", "1", "--more", "--write", scripts=(writes(),))
    policy = compile_snapshot(file).policy
    assert status == 0
    assert [route.examples[4:] for route in policy.routes] == [
        ("code case 0",),
        ("poems: all case 0",),
    ]
    assert policy.no_route_examples[8:] == ("no route case 0", "no route case 1")
    assert "fewer" not in err


def test_lacking_messages_are_asked_for_once_more(
    run: Suggest, provider: ExampleProvider, file: Path
) -> None:
    """Then a route with three is used, and one with fewer is left out."""
    few = {"code": ["a", "b"], "poems: all": ["c", "d"], "no route": ["e", "f", "g"]}
    status, out, err = run("--count", "4", "--write", scripts=(writes(few),))
    assert (status, out) == (1, "")
    assert [list(wanted_of(prompt).values()) for prompt in provider.prompts] == [
        [4, 3], [8], [2, 1], [5],
    ]  # fmt: skip
    assert "asking vllm/large for 8 messages, once more" in err
    assert "fewer examples than asked for, but enough: poems: all, no route\n" in err
    assert "too few examples, left out: code; run the command again for them\n" in err
    policy = compile_snapshot(file).policy
    assert [route.examples for route in policy.routes] == [(), ("a haiku", "c", "d")]
    assert policy.no_route_examples == ("e", "f", "g")


def test_file_without_routes_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to write examples for."""
    file = tmp_path / "gateway.yaml"
    file.write_text("version: v0.4.0\n")
    assert main(["suggest", str(file)]) == 1
    assert "routing_preferences: no routes; add one" in capsys.readouterr().err


OLDER: Final = """\
version: v0.3.0
llm_providers:
  - model: vllm/m
    base_url: {url}
    routing_preferences:
      - name: code
        description: code
"""


def test_routes_of_an_older_format_are_not_written(
    file: Path, run: Suggest, provider: ExampleProvider
) -> None:
    """That is said before the model is asked; the examples can be printed all the same."""
    file.write_text(OLDER.format(url=provider.url))
    status, _, err = run("--write")
    assert (status, provider.bodies) == (1, [])
    assert "llm_providers[0].routing_preferences[0]: a route under a model cannot have" in err
    assert "fingerpost migrate --write" in err
    status, out, _ = run()
    assert (status, len(yaml.safe_load(out)["routing_preferences"][0]["examples"])) == (0, 20)


def test_file_in_another_encoding_is_not_written(
    file: Path, run: Suggest, provider: ExampleProvider
) -> None:
    """It can be read, but the editor of examples needs UTF-8."""
    file.write_bytes(file.read_text("utf-8").encode("utf-16"))
    status, _, err = run("--write")
    assert (status, provider.bodies) == (1, [])
    assert "cannot read the file: it is not UTF-8" in err


def test_engine_that_reads_no_examples_is_named(
    run: Suggest, file: Path, provider: ExampleProvider
) -> None:
    """The figures are those of the embedded engine then."""
    with file.open("a") as opened:
        opened.write(f"orchestrator: {{engine: http, base_url: '{provider.url}', model: m}}\n")
    assert "Engine http does not read examples; the embedded engine does" in run()[2]


def test_command_imports_the_engine_and_the_http_client_alone(file: Path) -> None:
    """No Ray and no server."""
    assert imported_by(["suggest", str(file), "--count", "1"]) == (0, {*MODEL, "aiohttp", "tqdm"})


@pytest.mark.parametrize(
    "options",
    [["--count", "0"], ["--count", "65"], ["--count", "x"], ["--languages", ""], ["--languages", "de,,fr"]],
)  # fmt: skip
def test_bad_option_is_a_usage_error(
    options: list[str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what is allowed."""
    with pytest.raises(SystemExit) as caught:
        main(["suggest", str(file), *options])
    assert caught.value.code == 2
    assert "must be" in capsys.readouterr().err


def test_check_points_to_the_command(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where routes have no examples and the engine reads them; it is not a warning."""
    edit(file, '["a haiku"]', "[a haiku, a sonnet, a song]")
    assert main(["check", str(file), "--strict"]) == 0
    note = (
        f"note: no examples for route code; let a model write some with `fingerpost suggest {file}`"
    )
    assert capsys.readouterr().out.splitlines()[-1] == note
    assert main(["check", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []
    edit(file, "models: [vllm/large]", "models: [vllm/large]\n    examples: [a, b, c]")
    assert main(["check", str(file)]) == 0
    assert "note:" not in capsys.readouterr().out
