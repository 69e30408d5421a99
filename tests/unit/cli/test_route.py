"""``fingerpost route`` and ``fingerpost eval`` with the embedded engine."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest

from serve_app.cli import route
from serve_app.cli.main import main
from serve_app.domain import Scores
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingModel, EmbeddingSettings
from serve_app.scoring.embedding import Vector
from tests.unit.config_texts import ONE_MODEL, VERSION
from tests.unit.evaluation.labelled_sets import HEAD, PROMPTS, line, write_set
from tests.unit.fakes import FakeOrchestrator, FakeUpstream, Rig, request_of, snapshot_of

TEXT: Final = f"""{VERSION}
model_providers:
  - {{model: openai/a, default: true}}
  - {{model: openai/b}}
routing_preferences:
  - {{name: code, description: "writing, explaining and debugging code", models: [b, a]}}
  - {{name: poems, description: "poems, song lyrics and rhymes", models: [a]}}
"""
SONNET: Final = "Write a sonnet about autumn"
RENT: Final = "How much is the rent of a flat in Oslo?"
CASES: Final = [line(*prompt) for prompt in PROMPTS]


class Remembered(EmbeddingModel):
    """The real model; it embeds each text once only, because every command asks for the same."""

    def __init__(self) -> None:
        super().__init__(EmbeddingSettings())
        self.known: dict[str, Vector] = {}

    def embed(self, text: str) -> Vector:
        if text not in self.known:
            self.known[text] = super().embed(text)
        return self.known[text]


@pytest.fixture(scope="module")
def model() -> Remembered:
    return Remembered()


@pytest.fixture(autouse=True)
def _one_model(model: Remembered, monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(settings: EmbeddingSettings) -> EmbeddingEngine:
        return EmbeddingEngine(settings, None if settings.model else model)

    monkeypatch.setattr(route, "EmbeddingEngine", engine)


Run = Callable[..., tuple[int, str, str]]
"""A command's exit status, and what it wrote to both outputs."""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, TEXT)
    return tmp_path / "gateway.yaml"


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    return write_set(tmp_path, HEAD, *CASES)


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8"))


def failed(result: tuple[int, str, str]) -> str:
    """The standard error of a command that failed; it has no other output and no traceback."""
    status, out, err = result
    assert (status, out) == (1, "")
    assert "Traceback" not in err
    return err


def test_prompt_is_routed(run: Run, config: Path) -> None:
    """The output has the prompt, all scores, the decision and the models with their reasons."""
    status, out, err = run("route", SONNET, "--config", config)
    assert (status, err) == (0, "")
    seen, _, head, first, second, none, _, decided, *models = out.splitlines()
    assert seen == f"seen: {SONNET}"
    assert head.split() == ["route", "score", "models"]
    assert [first.split()[:2], second.split()[0]] == [["->", "poems"], "code"]
    assert float(first.split()[2]) > float(second.split()[1])
    assert none.split()[:2] == ["(no", "route)"]
    assert decided.startswith("decided: poems (reason route, 0.")
    assert " ahead of the next; min_confidence 0.2, min_margin 0; " in decided
    assert models == ["  1. openai/a: model 1 of route 'poems'"]


def test_prompt_without_a_route_gets_the_default_model(run: Run, config: Path) -> None:
    """The scores are shown with the threshold that none reached."""
    config.write_text(TEXT + "orchestrator: {min_confidence: 1, min_margin: 0.5}\n", "utf-8")
    status, out, _ = run("route", SONNET, "--config", config)
    assert status == 0
    assert "->" not in out
    assert "decided: no route (reason no_match, 0." in out
    assert "min_confidence 1, min_margin 0.5; " in out
    assert out.endswith("  1. openai/a: the default model\n")


@pytest.mark.parametrize("text", ["", " \n", "[]", '{"messages": []}', "<system-reminder>x"])
def test_prompt_without_text_matches_no_route(text: str, run: Run, config: Path) -> None:
    """There is nothing to score, and that is not an error."""
    status, out, _ = run("route", text, "--config", config)
    assert (status, out.count("  -  ")) == (0, 2)
    assert "decided: no route (reason no_match; " in out


def messages(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (SONNET, [SONNET]),
        (f"{SONNET}\n\n", [SONNET]),
        ("Translate: 写代码", ["Translate: 写代码"]),
        (json.dumps(messages("Write", "a poem")), ["Write", "a poem"]),
        (json.dumps({"messages": messages(SONNET), "model": "x"}), [SONNET]),
        ('{"a": 1}', ['{"a": 1}']),
        ("42", ["42"]),
        ("[1, 2", ["[1, 2"]),
        ("[" * 3000, ["[" * 3000]),
        (b"caf\xff", ["caf\ufffd"]),
        (json.dumps(messages("half \ud83d")), ["half \ud83d"]),
    ],
)
def test_standard_input_is_a_prompt_or_messages(
    content: str | bytes,
    seen: list[str],
    run: Run,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """JSON with messages is read as such, anything else as a prompt."""
    pipe(monkeypatch, content if isinstance(content, bytes) else content.encode())
    status, out, err = run("route", "-", "--json", "--config", config)
    assert (status, err) == (0, "")
    assert [turn["content"] for turn in json.loads(out)["orchestrator"]["seen"]] == seen


def test_invalid_messages_fail(run: Run, config: Path) -> None:
    """The error has the path of the message."""
    assert failed(run("route", "[1]", "--config", config)) == "messages[0] must be an object\n"


def shape(value: Any) -> Any:
    """The keys of an answer and the kinds of its values, down to the bottom."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize("text", [SONNET, ""])
async def test_json_is_the_answer_of_the_gateway(
    text: str, run: Run, config: Path, tmp_path: Path
) -> None:
    """It has the keys and values of ``POST /v1/route``."""
    status, out, _ = run("route", text, "--json", "--config", config)
    printed, snapshot = json.loads(out), snapshot_of(tmp_path, TEXT)
    section = printed["orchestrator"]
    scores = Scores(
        section["scores"] or {},
        section["no_match"] or 0.0,
        printed["route"],
        none=section["none"],
        tier=section["tier"] or "",
    )
    gateway = Rig(snapshot, FakeUpstream({}), FakeOrchestrator(scores)).gateway
    request = request_of(snapshot, json.dumps({"messages": messages(text)}))
    answer = await gateway.explain(request)
    assert isinstance(answer.body, bytes)
    returned = json.loads(answer.body)
    assert (status, shape(printed)) == (0, shape(returned))
    del printed["took_ms"], returned["took_ms"]
    assert printed == returned


def test_configuration_without_routes_fails(run: Run, config: Path) -> None:
    """The error names the missing key."""
    config.write_text(ONE_MODEL, "utf-8")
    assert failed(run("route", "x", "--config", config)) == (
        f"{config} has 1 problem:\n  routing_preferences: no routes; add one with its models\n"
    )


def test_missing_model_fails(run: Run, config: Path, cases: Path) -> None:
    """A relative path starts at the configuration, or else at the current folder."""
    config.write_text(TEXT + "orchestrator: {model: own.onnx}\n", "utf-8")
    expected = f"there is no file {config.parent}/own.onnx; check orchestrator.model\n"
    assert failed(run("route", "x", "--config", config)) == expected
    assert failed(run("eval", cases, "--config", config)) == expected
    result = run("eval", cases, "--config", config, "--model", "/no/x.onnx")
    assert failed(result) == "there is no file /no/x.onnx; check orchestrator.model\n"


def test_set_is_measured(run: Run, cases: Path) -> None:
    """The report goes to standard output without a progress bar."""
    status, out, err = run("eval", cases)
    assert (status, err) == (0, "")
    assert out.startswith(f"{cases}: 2 routes, 7 cases with a route, 2 without\n\naccuracy  1.000")
    assert out.endswith("\nDescriptions that collide (cosine)\n  none\n")


def report_of(run: Run, *arguments: object) -> Any:
    status, out, err = run("eval", *arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_options_override_the_configuration(run: Run, cases: Path, config: Path) -> None:
    """The configuration overrides the defaults."""
    section = "orchestrator: {min_confidence: 0.3, min_margin: 0.1, threads: 2}\n"
    config.write_text(TEXT + section, "utf-8")
    options = ("--config", config, "--min-margin", 0.2, "--max-query-tokens", 32)
    assert report_of(run, cases, *options)["settings"] == {
        "model": None,
        "threads": 2,
        "max_query_tokens": 32,
        "min_confidence": 0.3,
        "min_margin": 0.2,
    }


def best_scores(report: Any) -> list[float | None]:
    return [row["probability"] for row in report["reliability"]]


def test_examples_can_be_ignored(run: Run, tmp_path: Path) -> None:
    """Ignoring them changes the scores; a set without examples stays the same."""
    routes = json.loads(HEAD)["routes"]
    routes[1]["examples"] = [SONNET, "A poem about rain", "Rhymes, please"]
    plain, taught = (write_set(folder, text, *CASES) for folder, text in folders(tmp_path, routes))
    plain_scores, taught_scores = (
        [best_scores(report_of(run, file, *options)) for options in ([], ["--no-examples"])]
        for file in (plain, taught)
    )
    assert plain_scores[0] == plain_scores[1] == taught_scores[1]
    assert taught_scores[0] != taught_scores[1]


def folders(directory: Path, routes: Any) -> list[tuple[Path, str]]:
    """Two folders and a first line for each: without examples, and with them."""
    found = []
    for name, text in (("plain", HEAD), ("taught", json.dumps({"routes": routes}))):
        (directory / name).mkdir()
        found.append((directory / name, text))
    return found


def test_examples_are_drawn(run: Run, cases: Path) -> None:
    """The report has a line for each number of examples."""
    report = report_of(run, cases, "--draw", 1, 3, "--draws", 2)
    assert [(draws["examples"], len(draws["accuracies"])) for draws in report["examples"]] == [
        (1, 2),
        (3, 2),
    ]
    status, out, _ = run("eval", cases, "--draw", 0)
    assert (status, out.count("examples  0 per route: 1.000 (1.000 to 1.000 in 5 draws)")) == (0, 1)


@pytest.mark.parametrize(("limit", "status"), [("1.0", 0), ("0.99", 0), ("1.01", 1)])
def test_low_accuracy_fails(limit: str, status: int, run: Run, cases: Path) -> None:
    """The report is printed all the same."""
    found, out, err = run("eval", cases, "--fail-under", limit)
    assert found == status
    assert "accuracy  1.000" in out
    assert err == ("accuracy 1.000 is below 1.01\n" if status else "")


def test_confusion_matrix_is_written(run: Run, cases: Path, tmp_path: Path) -> None:
    """The file is written even if the accuracy is too low."""
    plot = tmp_path / "confusion.svg"
    assert run("eval", cases, "--plot", plot, "--fail-under", 2)[0] == 1
    assert "poems" in "".join(ET.fromstring(plot.read_bytes()).itertext())  # noqa: S314 - our own


def test_report_is_compared_with_an_earlier_one(run: Run, cases: Path, tmp_path: Path) -> None:
    """A file that is not a report is an error after the report."""
    before = report_of(run, cases)
    (tmp_path / "before.json").write_text(json.dumps({**before, "accuracy": 0.5}), "utf-8")
    status, out, err = run("eval", cases, "--compare", tmp_path / "before.json")
    assert (status, err) == (0, "")
    _, compared = out.split(f"\n\nCompared with {cases}:\n")
    assert compared.splitlines()[0] == "  accuracy  0.500 -> 1.000  (+0.500)"
    assert compared.splitlines()[-1] == "  the recall of every route is equal"
    (tmp_path / "before.json").write_text('{"confusion": []}', "utf-8")
    status, out, err = run("eval", cases, "--compare", tmp_path / "before.json")
    assert (status, out.startswith(f"{cases}: 2 routes")) == (1, True)
    assert "not a report of `fingerpost eval --json`, nor a labelled set" in err


def test_report_is_compared_with_another_set(run: Run, cases: Path, tmp_path: Path) -> None:
    """The set is measured with the same settings; with --json the comparison goes to standard error."""
    (tmp_path / "other").mkdir()
    other = write_set(tmp_path / "other", HEAD, *CASES, line(SONNET, "code"))
    status, out, err = run("eval", cases, "--json", "--compare", other)
    assert (status, json.loads(out)["accuracy"]) == (0, 1.0)
    assert err.startswith(f"\nCompared with {other}:\n  accuracy  0.875 -> 1.000  (+0.125)\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--max-query-tokens", "3"], "the command line has 1 problem:\n  --max-query-tokens: must be at least 8"),
        (["--threads", "0", "--min-margin", "2"], "the command line has 2 problems:\n  --min-margin: must be at most 1\n  --threads: must be at least 1"),
        (["--min-confidence", "nan"], "--min-confidence: must be at most 1"),
        (["--model", ""], "--model: must not be empty"),
        (["--plot", "x.png"], "x.png has 1 problem:\n  --plot: the file name must end in .svg"),
        (["--config", "/no/gateway.yaml"], "/no/gateway.yaml has 1 problem:\n  cannot read the file: No such file"),
    ],
)  # fmt: skip
def test_bad_option_fails(arguments: list[str], expected: str, run: Run, cases: Path) -> None:
    """The error names the option, and nothing is measured."""
    assert expected in failed(run("eval", cases, *arguments))


@pytest.mark.parametrize("option", ["--plot", "--compare"])
def test_missing_folder_or_report_fails(option: str, run: Run, cases: Path) -> None:
    """The report is printed all the same."""
    status, out, err = run("eval", cases, option, "/no/such.svg")
    assert (status, out.startswith(f"{cases}: 2 routes")) == (1, True)
    assert err.startswith("/no/such.svg has 1 problem:\n")
    assert "No such file or directory" in err


@pytest.mark.parametrize(
    ("option", "value"), [("--draw", "-1"), ("--draw", "x"), ("--draws", "0"), ("--draws", "1.5")]
)
def test_bad_number_of_draws_is_status_2(
    option: str, value: str, cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard error has the allowed range."""
    with pytest.raises(SystemExit) as caught:
        main(["eval", str(cases), option, value])
    assert caught.value.code == 2
    assert f"argument {option}: must be an integer of at least " in capsys.readouterr().err


def test_unencodable_prompt_is_escaped(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a limited terminal nor half a surrogate pair fails a command."""
    for encoding, shown in (("ascii", "\\u5199 \\ud83d"), ("utf-8", "写 \\ud83d")):
        terminal = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding))
        assert main(["route", "写 \ud83d", "--config", str(config)]) == 0
        assert terminal.getvalue().decode(encoding).startswith(f"seen: {shown}\n")


@pytest.mark.parametrize("command", ["route", "eval"])
def test_closed_output_gives_no_traceback(
    command: str, config: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing the output afterwards, as ``| head -1`` does, is not an error either."""
    reader, writer = os.pipe()
    os.close(reader)
    asked = ["route", "x", "--config", str(config)]
    with os.fdopen(writer, "w") as closed, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", closed)
        assert main(asked if command == "route" else ["eval", str(cases)]) == 0


def test_closed_pipe_gives_no_error_at_exit(config: Path) -> None:
    """Python itself would report it at the end."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "serve_app.cli.main", "route", SONNET, "--config", str(config)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
