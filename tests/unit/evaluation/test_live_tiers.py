"""``fingerpost route`` and ``fingerpost eval`` with embeddings of a server and with two engines."""

import asyncio
import json
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from serve_app.cli.main import main
from serve_app.engines.vllm import engine
from serve_app.snapshot import compile_snapshot
from tests.unit.config_texts import VERSION
from tests.unit.engines.chat_server import SECRET, Server, completion, embeddings, raw, says
from tests.unit.engines.decision_server import likens
from tests.unit.evaluation.labelled_sets import HEAD, PROMPTS, line, write_set
from tests.unit.evaluation.test_live_engine import FakeVllm

CASES: Final = [line(*prompt) for prompt in PROMPTS]
ROUTES: Final = """
routing_preferences:
  - {name: code, description: writing programs, models: [vllm/m]}
  - {name: poems, description: poems and songs, models: [vllm/m]}
"""


def configured(folder: Path, server: Server, section: str, routes: str = ROUTES) -> Path:
    """A configuration with one provider, which is the server."""
    file = folder / "gateway.yaml"
    entry = f"{{model: vllm/m, base_url: '{server.url}', access_key: {SECRET}, default: true}}"
    text = f"{VERSION}model_providers: [{entry}]\n{routes}orchestrator: {{{section}}}\n"
    file.write_text(text, "utf-8")
    return file


def unsure(below: float = 1, engine: str = "engine: http, model: vllm/m") -> str:
    return f"when_unsure: {{{engine}, below: {below}}}"


async def run(*arguments: object) -> int:
    """The command on a thread of its own, as the server needs this one."""
    return await asyncio.to_thread(main, [*map(str, arguments)])


async def test_route_asks_embeddings_of_a_server(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The texts of the routes are sent before the prompt; the output has all scores."""
    server.answer = embeddings
    file = configured(tmp_path, server, "engine: embeddings, model: vllm/m")
    assert await run("route", "poems and songs", "--config", file, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["route"], shown["orchestrator"]["tier"]) == ("poems", "embeddings")
    assert list(shown["orchestrator"]["scores"]) == ["code", "poems"]
    assert server.bodies[-1]["input"] == ["poems and songs"]
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"


async def test_route_reports_a_server_that_fails(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the engine and the server, and not the key."""
    server.answer = raw(b"", 503)
    file = configured(tmp_path, server, "engine: embeddings, model: vllm/m")
    assert await run("route", "a poem", "--config", file) == 1
    err = capsys.readouterr().err
    assert err.startswith("engine embeddings is unavailable: ")
    assert SECRET not in err


DECISION: Final = "engine: decision, model: m, base_url: '%s'"


async def test_route_asks_a_server_of_decisions(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output has the probability of every route; `when_unsure` may be such a server, too."""
    server.answer = likens
    file = configured(tmp_path, server, DECISION % server.url)
    assert await run("route", "poems and songs", "--config", file, "--json") == 0
    shown = json.loads(capsys.readouterr().out)["orchestrator"]
    assert (shown["tier"], list(shown["scores"])) == ("decision", ["code", "poems"])
    assert shown["scores"]["poems"] > shown["scores"]["code"]
    file = configured(tmp_path, server, unsure(engine=DECISION % server.url))
    assert await run("route", "poems and songs", "--config", file) == 0
    out = capsys.readouterr().out
    assert "decided: poems (reason route, " in out
    assert " ahead of the next, by when_unsure; " in out


async def test_eval_measures_and_calibrates_decisions(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its probabilities have thresholds, and `max_error` uses the file of its calibration."""
    server.answer = likens
    cases = write_set(tmp_path, HEAD, *CASES * 6)
    file = configured(tmp_path, server, DECISION % server.url, "")
    assert await run("eval", cases, "--config", file, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["engine"], report["thresholds"] != []) == ("decision", True)
    output = tmp_path / "calibration.json"
    assert await run("eval", cases, "--config", file, "--calibrate", "-o", output) == 0
    written = json.loads(output.read_text("utf-8"))
    assert (written["engine"], written["model"], written["cases"]) == ("decision", "m", 54)
    more = f"{DECISION % server.url}, calibration: calibration.json, max_error: 0.5"
    snapshot = compile_snapshot(configured(tmp_path, server, more))
    assert snapshot.threshold.rule is not None


async def test_route_sends_a_close_call_to_the_better_engine(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output says which engine decided, and why the better one did not."""
    server.answer = says('{"route": "poems"}')
    file = configured(tmp_path, server, unsure())
    assert await run("route", "write a function", "--config", file) == 0
    out = capsys.readouterr().out
    assert "decided: poems (reason route, by when_unsure; " in out
    server.answer = raw(b"", 503)
    assert await run("route", "write a function", "--config", file) == 0
    out = capsys.readouterr().out
    assert ", by embedding, as when_unsure did not answer: vllm-127-0-0-1-" in out
    assert "returned an error (status 503); " in out


async def test_route_keeps_a_clear_call(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The better engine is not asked."""
    file = configured(tmp_path, server, unsure(below=0.0001))
    assert await run("route", "write a function", "--config", file, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["orchestrator"]["tier"], shown["orchestrator"]["fell_back"]) == (
        "embedding",
        None,
    )
    assert server.bodies == []


async def test_route_names_its_only_engine_in_json(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text has nothing of tiers if there is one."""
    file = configured(tmp_path, server, "threads: 1")
    assert await run("route", "write a function", "--config", file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["orchestrator"]["tier"] == "embedding"
    assert await run("route", "write a function", "--config", file) == 0
    assert ", by " not in capsys.readouterr().out


async def test_eval_measures_embeddings_of_a_server(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report has thresholds, and the provider's name of the model."""
    server.answer = embeddings
    cases = write_set(tmp_path, HEAD, *CASES)
    file = configured(tmp_path, server, "engine: embeddings, model: vllm/m", "")
    assert await run("eval", cases, "--config", file, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["engine"], report["settings"]["model"]) == ("embeddings", "vllm/m")
    assert report["thresholds"] != []
    assert report["settings"]["when_unsure"] is None
    assert SECRET not in json.dumps(report)


async def test_eval_measures_both_engines(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Close calls count as the better engine decides them; the report names both."""

    async def decides(request: web.Request) -> web.StreamResponse:
        text = (await request.json())["messages"][0]["content"]
        known = ("function", "loop", "SQL", "expression")
        name = "code" if any(word in text for word in known) else "poems"
        return completion(f'{{"route": "{name}"}}')

    server.answer = decides
    cases = write_set(tmp_path, HEAD, *CASES)
    file = configured(tmp_path, server, unsure(), "")
    assert await run("eval", cases, "--config", file, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["engine"], report["accuracy"]) == ("embedding", 1.0)
    better = report["settings"]["when_unsure"]
    assert (better["engine"], better["model"], better["below"]) == ("http", "vllm/m", 1.0)
    assert len(server.bodies) == len(PROMPTS)
    assert await run("eval", cases, "--config", file) == 0
    out = capsys.readouterr().out
    assert "engine embedding, model bundled, and below 1 engine http, model vllm/m" in out


async def test_eval_of_another_engine_leaves_out_the_better_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option names the engine to measure."""
    monkeypatch.setattr(FakeVllm, "made", [])
    monkeypatch.setattr(engine, "VllmEngine", FakeVllm)
    cases = write_set(tmp_path, HEAD, *CASES)
    file = configured(tmp_path, server, unsure(), "")
    assert await run("eval", cases, "--config", file, "--engine", "vllm", "--model", "/w/m") == 0
    assert len(FakeVllm.made) == 1
    assert server.bodies == []


async def test_eval_draws_examples_with_one_engine_only(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The draws compare scores of the embedded engine."""
    cases = write_set(tmp_path, HEAD, *CASES)
    file = configured(tmp_path, server, unsure(), "")
    assert await run("eval", cases, "--config", file, "--draw", "1") == 1
    expected = "--draw: only works with engine embedding without when_unsure; remove it"
    assert expected in capsys.readouterr().err


async def test_eval_needs_a_configuration_for_a_provider(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line alone knows no providers."""
    cases = write_set(tmp_path, HEAD, *CASES)
    options = ("--engine", "embeddings", "--model", "openai/text-embedding-3-small")
    assert await run("eval", cases, *options) == 1
    assert capsys.readouterr().err == (
        "orchestrator.model: no entry of model_providers is named 'openai/text-embedding-3-small'; "
        "name a gateway.yaml that has it, or set base_url\n"
    )
