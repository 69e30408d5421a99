"""``fingerpost eval`` with engines that have a language model."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from serve_app.cli.main import main
from serve_app.domain import Json, Question, Reason, Scores, Unavailable
from serve_app.engines.vllm import engine
from serve_app.engines.vllm.settings import VllmSettings
from tests.unit.config_texts import VERSION
from tests.unit.engines.chat_server import SECRET, Server, completion, says
from tests.unit.evaluation.labelled_sets import HEAD, PROMPTS, line, write_set

CASES: Final = [line(*prompt) for prompt in PROMPTS]
WORDLESS: Final = line("", None, messages=[])
CODE: Final = ("function", "loop", "SQL", "expression")


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    return write_set(tmp_path, HEAD, *CASES, WORDLESS)


def configured(directory: Path, section: str) -> Path:
    file = directory / "gateway.yaml"
    file.write_text(f"{VERSION}orchestrator: {{{section}}}\n", "utf-8")
    return file


async def decides(request: web.Request) -> web.StreamResponse:
    """Knows code when it sees some, fails once, and takes all else for poems."""
    text = (await request.json())["messages"][0]["content"]
    if "Oslo" in text:
        return web.Response(status=500)
    return completion(
        '{"route": "%s"}' % ("code" if any(word in text for word in CODE) else "poems")
    )


async def run(*arguments: object) -> int:
    """The command on a thread of its own, as the server needs this one."""
    return await asyncio.to_thread(main, ["eval", *map(str, arguments)])


async def test_server_is_measured(
    server: Server, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It returns no scores, so the report has no thresholds; an error is no answer."""
    server.answer = decides
    file = configured(
        tmp_path,
        f"engine: http, model: m, base_url: '{server.url}', access_key: {SECRET}, deadline_ms: 9000",
    )
    assert await run(cases, "--config", file) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[2] == "accuracy  1.000  best route is right, of the cases with a route"
    assert lines[3] == "decided   0.800  of all cases"
    assert lines[4].endswith(" ms per decision, engine http, model m")
    assert lines[5] == (
        "no answer 1 of 10 cases, which count as wrong: "
        f"{server.place} returned an error (status 500)"
    )
    assert lines[-2:] == [
        "No match, by threshold",
        "  this engine returns no scores, so no threshold can be measured",
    ]
    assert len(server.bodies) == len(PROMPTS)
    assert len(server.peers) == 1


async def test_report_of_a_server_is_json(
    server: Server, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has the settings without the address and the key; another set is measured, too."""
    server.answer = decides
    section = f"engine: http, base_url: '{server.url}', access_key: {SECRET}, model: m"
    (tmp_path / "other").mkdir()
    other = write_set(tmp_path / "other", HEAD, CASES[0])
    options = ("--model", "Arch-Router", "--family", "generic", "--json", "--compare", other)
    plot = tmp_path / "x.svg"
    file = configured(tmp_path, section)
    assert await run(cases, "--config", file, *options, "--plot", plot) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["engine"], report["accuracy"], report["decided"]) == ("http", 1.0, 0.8)
    assert (report["settings"]["model"], report["settings"]["family"]) == ("Arch-Router", "generic")
    assert (report["thresholds"], report["auroc"], report["collisions"]) == ([], None, [])
    assert [fault["times"] for fault in report["no_answer"]] == [1]
    assert {"expected": "(no route)", "decided": "(no answer)", "times": 1} in report["confusion"]
    assert err.startswith(f"\nCompared with {other}:\n  accuracy  1.000 -> 1.000  (+0.000)\n")
    assert {body["model"] for body in server.bodies} == {"Arch-Router"}
    assert SECRET not in out
    assert server.place not in json.dumps(report["settings"])
    assert b"(no answer)" in plot.read_bytes()


async def test_model_of_plano_s_override_is_measured(
    server: Server, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded engine can be chosen instead, with its own thresholds."""
    server.answer = says("other")
    file = tmp_path / "gateway.yaml"
    entry = f"{{model: plano/Plano-Orchestrator, base_url: '{server.url}'}}"
    file.write_text(
        f"{VERSION}overrides: {{llm_routing_model: plano/Plano-Orchestrator}}\n"
        f"orchestrator: {{min_confidence: 0.9}}\nmodel_providers: [{entry}]\n"
    )
    assert await run(cases, "--config", file, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["accuracy"], report["decided"]) == (0.0, 0.3)
    assert await run(cases, "--config", file, "--json", "--engine", "embedding") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["engine"], report["accuracy"]) == ("embedding", 1.0)
    assert report["settings"]["min_confidence"] == 0.2


async def test_unreachable_server_fails(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no report."""
    file = configured(tmp_path, "engine: http, model: m, base_url: 'http://127.0.0.1:9'")
    assert await run(cases, "--config", file) == 1
    assert capsys.readouterr() == (
        "",
        "cannot measure the engine: cannot connect to 127.0.0.1:9\n",
    )


class FakeVllm:
    """vLLM's engine, as far as a measurement sees it: all is code, with little doubt."""

    made: "list[FakeVllm]" = []  # noqa: RUF012 - of the test
    starts = True
    reply: "Scores | Unavailable" = Scores({"code": 0.9, "poems": 0.1}, 0.12, "code", doubt=0.0)

    def __init__(self, settings: VllmSettings, **others: Any) -> None:
        self.settings, self.others = settings, others
        self.fault = ""
        self.closed = 0
        self.questions: list[Question] = []
        self.made.append(self)

    def wait(self, timeout_s: float) -> bool:
        return self.starts

    async def score(self, question: Question) -> Scores | Unavailable:
        self.questions.append(question)
        return self.reply

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeVllm]:
    monkeypatch.setattr(FakeVllm, "made", [])
    monkeypatch.setattr(engine, "VllmEngine", FakeVllm)
    return FakeVllm


async def test_vllm_is_measured(
    fake: type[FakeVllm], cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The options of the command line override the configuration, and the engine is closed."""
    file = configured(tmp_path, "engine: vllm, model: m, max_num_seqs: 7, min_confidence: 0.3")
    options = ("--model", "/w/Arch-Router", "--mode", "trie", "--device", "cpu")
    assert await run(cases, "--config", file, *options, "--json") == 0
    (engine,) = fake.made
    assert (engine.settings.model, engine.settings.mode) == ("/w/Arch-Router", "trie")
    assert (engine.settings.device, engine.settings.max_num_seqs) == ("cpu", 7)
    assert engine.settings.family.name == "arch-router"
    assert [route.name for route in engine.others["routes"]] == ["code", "poems"]
    assert engine.closed == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["engine"], report["accuracy"]) == ("vllm", pytest.approx(4 / 7))
    assert report["decided"] == pytest.approx(5 / 10)
    assert (report["settings"]["mode"], report["settings"]["min_confidence"]) == ("trie", 0.3)
    assert len(report["thresholds"]) == 51


async def test_engine_reads_what_the_gateway_would_send(
    fake: type[FakeVllm], tmp_path: Path
) -> None:
    """A language model reads the whole conversation, an embedding model the user's last turn, and
    what it follows if that is short.
    """
    last = ("user", "Write a haiku")
    turns = [("user", "Hi"), ("assistant", "Hi"), ("user", "And you?"), ("assistant", "Well"), last]
    messages: list[Json] = [{"role": role, "content": text} for role, text in turns]
    talk = write_set(tmp_path, HEAD, line("", "poems", messages=messages))
    for task in ("generate", "embed"):
        file = configured(tmp_path, f"engine: vllm, model: m, task: {task}")
        assert await run(talk, "--config", file) == 0
    seen = [[(turn.role, turn.text) for turn in engine.questions[0].turns] for engine in fake.made]
    assert seen == [turns, [turns[0], *turns[2:]]]


async def test_report_of_vllm_is_text(
    fake: type[FakeVllm], cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has thresholds, and no cosines."""
    assert await run(cases, "--engine", "vllm", "--model", "/w/m") == 0
    out = capsys.readouterr().out
    assert "with min_confidence 0.2 and min_margin 0, of all cases" in out
    assert " per decision, engine vllm, model /w/m\n" in out
    assert "recommended: " in out
    assert "cosine" not in out


@pytest.mark.parametrize(
    ("fault", "why"),
    [("no GPU", "no GPU"), ("", "it did not start within 1800 s")],
)
async def test_engine_that_does_not_start_is_closed(
    fault: str,
    why: str,
    fake: type[FakeVllm],
    cases: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error has its fault."""

    def wait(self: FakeVllm, timeout_s: float) -> bool:
        self.fault = fault
        return False

    monkeypatch.setattr(fake, "wait", wait)
    assert await run(cases, "--engine", "vllm", "--model", "/w/m") == 1
    assert capsys.readouterr() == ("", f"engine vllm is unavailable: {why}\n")
    assert fake.made[0].closed == 1


async def test_engine_is_closed_after_a_failed_measurement(
    fake: type[FakeVllm],
    cases: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first question is not answered."""
    busy = Unavailable(Reason.ORCHESTRATOR_ERROR, "vLLM failed with ValueError")
    monkeypatch.setattr(fake, "reply", busy)
    assert await run(cases, "--engine", "vllm", "--model", "/w/m") == 1
    assert "cannot measure the engine: vLLM failed with ValueError" in capsys.readouterr().err
    assert fake.made[0].closed == 1


WRONG: Final = {
    "--engine vllm": "--engine: engine vllm needs `model:`; add it, or name a gateway.yaml that has it with --config",
    "--engine http --model m": "--engine: engine http needs `base_url:`, or `model: provider/name` of model_providers; add it, or name a gateway.yaml that",
    "--engine vllm --model m --draw 1": "--draw: only works with engine embedding; remove it",
}


@pytest.mark.parametrize(("arguments", "expected"), WRONG.items())
async def test_options_that_do_not_fit_are_refused(
    arguments: str, expected: str, cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is started."""
    assert await run(cases, *arguments.split()) == 1
    assert expected in capsys.readouterr().err


def test_command_line_imports_no_engine() -> None:
    """Checking a file needs neither Ray nor vLLM."""
    code = (
        "import sys, serve_app.cli.main; print({'deployments', 'vllm', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


ROUTES: Final = """
routing_preferences:
  - {name: code, description: writing programs, models: [openai/a]}
  - {name: poems, description: poems and songs, models: [openai/b]}
model_providers: [{model: openai/a, default: true}, {model: openai/b}]
"""


async def routed(*arguments: object) -> int:
    return await asyncio.to_thread(main, ["route", *map(str, arguments)])


async def test_prompt_is_sent_to_the_configured_engine(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded engine would decide otherwise."""
    server.answer = says('{"route": "poems"}')
    file = configured(tmp_path, f"engine: http, model: m, base_url: '{server.url}'")
    file.write_text(file.read_text("utf-8") + ROUTES, "utf-8")
    assert await routed("write a function", "--config", file) == 0
    assert "decided: poems (reason route; " in capsys.readouterr().out
    server.answer = decides
    assert await routed("Oslo", "--config", file) == 1
    assert capsys.readouterr() == (
        "",
        (f"engine http is unavailable: {server.place} returned an error (status 500)\n"),
    )


async def test_prompt_is_decided_by_vllm(
    fake: type[FakeVllm], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine is started with the routes, reads the conversation, and is closed."""
    file = configured(tmp_path, "engine: vllm, model: /w/m")
    file.write_text(file.read_text("utf-8") + ROUTES, "utf-8")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    messages.append({"role": "user", "content": "a haiku"})
    assert await routed(json.dumps(messages), "--config", file, "--json") == 0
    (engine,) = fake.made
    assert [turn.role for turn in engine.questions[0].turns] == ["user", "assistant", "user"]
    assert [route.name for route in engine.others["routes"]] == ["code", "poems"]
    assert engine.closed == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["route"], shown["orchestrator"]["engine"]) == ("code", "vllm")
