"""Logs of a real gateway while it serves: one line a request, whatever becomes of the request."""

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.cli.main import main
from serve_app.telemetry.metrics import Metric
from tests.scripted_provider import ScriptedProvider
from tests.site import PROMPTS, SECRET, Answered, Site, eventually, write_config
from tests.wire.conftest import FakeMeter, serve_api

KEY: Final = "fp-client-key-of-the-log-tests"
ENVIRON: Final = {"FINGERPOST_TEST_KEY": SECRET, "CLIENT_KEY": KEY}


@dataclass
class Logged:
    """A gateway with both logs."""

    site: Site
    access: Path
    decisions: Path

    def lines(self) -> list[dict[str, Any]]:
        """All lines of the access log so far."""
        if not self.access.exists():
            return []
        return [json.loads(line) for line in self.access.read_text("utf-8").splitlines()]

    def line_of(self, send: Callable[[], object]) -> dict[str, Any]:
        """The one line of what is sent."""
        before = len(self.lines())
        send()
        eventually(lambda: len(self.lines()) > before, 5)
        (line,) = self.lines()[before:]
        return line


@pytest.fixture(scope="module")
def logged(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Logged]:
    """A gateway with client keys, routes and both logs; texts are switched on."""
    folder = tmp_path_factory.mktemp("logs")
    file = write_config(folder, providers)
    config = json.loads(file.read_text())
    config["routing_preferences"].append(
        {
            "name": "falls over",
            "description": "whether it rains tomorrow, snow, storms and the weather",
            "models": ["dead/gone", "inline/parrot"],
        }
    )
    config["client_keys"] = ["$CLIENT_KEY"]
    config["logs"] = {
        "access": {"to": "logs/access.jsonl"},
        "decisions": {"to": "logs/decisions.jsonl", "texts": True},
    }
    file.write_text(json.dumps(config))
    with serve_api(file, providers, ENVIRON) as running:
        running.key = KEY
        yield Logged(running, folder / "logs/access.jsonl", folder / "logs/decisions.jsonl")


def test_complete_answer_is_one_line(logged: Logged) -> None:
    """It says what was asked, decided, tried and took."""
    line = logged.line_of(lambda: logged.site.ask("fast"))
    assert (line["status"], line["error"], line["asked"]) == (200, None, "fast")
    assert (line["reason"], line["model"], line["provider"]) == ("alias", "dedicated/parrot", "dedicated")  # fmt: skip
    assert (line["surface"], line["stream"], line["replica"]) == ("chat", False, "wire")
    (tried,) = line["tried"]
    assert tried["outcome"] == "ok"
    assert 0 < tried["ms"] <= line["ms"]["total"]
    assert line["ms"]["first_token"] is None
    assert line["client"]


def test_streamed_request_that_fell_over_is_one_line(logged: Logged) -> None:
    """Both attempts are in it, and the time of the first token."""
    messages = [{"role": "user", "content": "Will it rain tomorrow, or is there a storm?"}]
    line = logged.line_of(lambda: logged.site.ask("auto", stream=True, messages=messages))
    assert (line["reason"], line["route"], line["status"]) == ("failover", "falls over", 200)
    assert [tried["outcome"] for tried in line["tried"]] == ["connect", "ok"]
    assert line["candidates"][:2] == ["dead/gone", "inline/parrot"]
    assert line["ms"]["decide"] < line["ms"]["first_token"] <= line["ms"]["total"]
    assert line["confidence"] > 0.2
    assert line["tier"] == "embedding"


def test_refused_request_is_one_line_without_its_key(logged: Logged) -> None:
    """A path that is not served, too; neither has a client."""
    site = logged.site
    wrong = {"x-fingerpost-key": "fp-wrong-key"}
    for send, status, error in (
        (lambda: site.send(b"{}", headers=wrong), 401, "invalid_api_key"),
        (lambda: site.send(b"{}", path="/v1/nothing"), 404, "unknown_path"),
        (lambda: site.send(b"[]"), 400, "invalid_json"),
        (lambda: site.ask("no-such-model"), 404, "model_not_found"),
    ):
        line = logged.line_of(send)
        assert (line["status"], line["error"], line["tried"]) == (status, error, [])
        assert (line["client"] is None) == (status == 401)
        assert "fp-wrong-key" not in json.dumps(line)
        assert len(line["id"]) == 32


def test_error_of_a_provider_is_one_line(logged: Logged) -> None:
    """Its status is the request's; the attempt has it, too."""
    line = logged.line_of(lambda: logged.site.ask("shared/status-429"))
    assert (line["status"], line["error"]) == (429, "429")
    assert {tried["outcome"] for tried in line["tried"]} == {"429"}


@pytest.mark.parametrize(
    ("model", "stream", "status"),
    [("inline/endless", True, 200), ("inline/hang", False, None)],
    ids=["in the stream", "before the answer"],
)
def test_client_that_left_is_one_line(
    logged: Logged, model: str, stream: bool, status: int | None
) -> None:
    """Tokens of a stream are estimated."""

    def leave() -> None:
        body = json.dumps({"model": model, "stream": stream, "messages": []}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-fingerpost-key: {KEY}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        ledger = logged.site.providers["inline"].ledger
        before = len(ledger.exchanges)
        address = (logged.site.host, logged.site.port)
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(head.encode() + body)
            eventually(lambda: len(ledger.exchanges) > before, 5)
            if stream:
                assert connection.recv(65536)

    line = logged.line_of(leave)
    assert (line["status"], line["error"]) == (status, "client_gone")
    assert line["tokens_estimated"] is stream
    assert line["client"]


def test_broken_stream_is_one_line(logged: Logged) -> None:
    """The status had gone out by then."""
    line = logged.line_of(lambda: logged.site.ask("inline/die-midstream", stream=True))
    assert (line["status"], line["error"]) == (200, "broken")


def test_concurrent_requests_are_a_line_each(logged: Logged) -> None:
    """No two share one, and each has its own id."""
    before = len(logged.lines())

    def send(number: int) -> Answered:
        return logged.site.ask("inline/parrot", stream=number % 2 == 0)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(100)))
    assert {answer.status for answer in answers} == {200}
    eventually(lambda: len(logged.lines()) >= before + 100, 5)
    lines = logged.lines()[before:]
    assert len({line["id"] for line in lines}) == len(lines) == 100


def test_access_log_has_neither_keys_nor_texts(logged: Logged) -> None:
    """Of the client or of a provider; and other users cannot read the decision log."""
    logged.line_of(lambda: logged.site.ask("auto", messages=[{"role": "user", "content": "zebra"}]))
    text = logged.access.read_text()
    assert not [secret for secret in (KEY, SECRET, "zebra") if secret in text]
    assert KEY not in logged.decisions.read_text()
    assert logged.decisions.stat().st_mode & 0o077 == 0


def test_decision_log_becomes_a_labelled_set(
    logged: Logged, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``eval`` reads the log and agrees with it; ``tune`` takes the set that ``report`` made."""
    texts = [*PROMPTS.values(), *(f"{text}, number {n}" for n in range(3) for text in PROMPTS.values())]  # fmt: skip
    for text in texts:
        messages = [{"role": "user", "content": text}]
        logged.line_of(partial(logged.site.ask, "auto", messages=messages))
    eventually(lambda: logged.decisions.read_text().count('"messages"') >= len(texts), 5)
    config = logged.access.parents[1] / "gateway.yaml"
    capsys.readouterr()
    assert main(["eval", str(logged.decisions), "--config", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unlabelled"] == found["cases"] >= len(texts)
    assert found["accuracy"] == found["decided"] == 1.0

    assert main(["tune", str(logged.decisions), "--config", str(config)]) == 1
    assert "are decisions of the gateway, not labels" in capsys.readouterr().err

    mine = tmp_path / "mine.jsonl"
    assert main(["report", "--config", str(config), "--labels", str(mine), "--json"]) == 0
    output = capsys.readouterr()
    cases = len(mine.read_text("utf-8").splitlines()) - 1
    assert f"{mine}: {cases} cases, expect is what was decided" in output.err
    assert json.loads(output.out)["requests"]["requests"] == len(logged.lines())
    learned = tmp_path / "tuned.json"
    assert main(["tune", str(mine), "--config", str(config), "-o", str(learned)]) == 0
    assert capsys.readouterr().out.startswith(f"{mine}: 4 routes, ")
    assert learned.exists()


def test_full_disk_loses_lines_and_no_request(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> None:
    """They are counted in a metric."""
    file = write_config(tmp_path, providers)
    config = {**json.loads(file.read_text()), "logs": {"access": {"to": "/dev/full"}}}
    file.write_text(json.dumps(config))
    meter, lost = FakeMeter(), (Metric.LOST_LINES, ("access",))
    with serve_api(file, providers, ENVIRON, meter) as site:

        def send_and_look() -> bool:
            assert site.ask("inline/parrot").status == 200
            return meter.counts.get(lost, 0) > 3

        eventually(send_and_look, 10)


def test_two_gateways_write_one_file(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> None:
    """As two replicas on one node do; every line is whole."""
    file = write_config(tmp_path, providers)
    config = {**json.loads(file.read_text()), "logs": {"access": {"to": "access.jsonl"}}}
    file.write_text(json.dumps(config))
    with (
        serve_api(file, providers, ENVIRON) as one,
        serve_api(file, providers, ENVIRON) as other,
        ThreadPoolExecutor(8) as pool,
    ):
        sites = [one, other] * 30
        answers = list(pool.map(lambda site: site.ask("inline/parrot"), sites))
    assert {answer.status for answer in answers} == {200}
    lines = [json.loads(line) for line in (tmp_path / "access.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in lines}) == len(lines) == 60
