"""How the launcher waits for the gateway, and the decision that it shows afterwards."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.cli import serve_process
from serve_app.cli.errors import LaunchError
from serve_app.cli.run import _decision
from serve_app.cli.serve_process import ServeProcess, is_settled, read_health
from serve_app.cli.serve_yaml.read import ServeFile
from serve_app.domain import Reason
from tests.unit.config_texts import VERSION
from tests.unit.fakes import snapshot_of

CONFIG: Final = VERSION + "model_providers: [{model: openai/a, default: true}]\n"
HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def answer(content: Any) -> bytes:
    """A whole answer, on a connection that ends with it."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return HEAD + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body


class Site:
    """Answers every request with the same bytes, and records the requests."""

    def __init__(self) -> None:
        self.says = b""
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                site.requests.append((self.path, headers, self.rfile.read(size)))
                self.wfile.write(site.says)
                self.close_connection = True

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


REFUSED: Final = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
MUTE: Final = {
    "nothing": b"",
    "no HTTP": b"hello\r\n\r\n",
    "half an answer": HEAD + b"content-length: 99\r\n\r\n{",
    "no JSON": answer(b"hello"),
    "no UTF-8": answer(b"\xff"),
    "an error": b"HTTP/1.1 503 Unavailable\r\ncontent-length: 2\r\n\r\n{}",
}


def test_health_is_read_from_the_gateway(site: Site) -> None:
    """It is requested at ``/healthz``."""
    site.says = answer({"status": "ok"})
    assert read_health(site.url) == {"status": "ok"}
    assert [path for path, _, _ in site.requests] == ["/healthz"]


@pytest.mark.parametrize("says", MUTE.values(), ids=MUTE)
def test_health_of_a_silent_gateway_is_none(says: bytes, site: Site) -> None:
    """No answer is not an error while the gateway starts."""
    site.says = says
    assert read_health(site.url) is None
    assert read_health("http://127.0.0.1:1") is None


def test_health_is_read_without_a_proxy(site: Site) -> None:
    """The environment may name a proxy for other hosts."""
    site.says = answer({"status": "ok"})
    code = f"from serve_app.cli.serve_process import read_health; print(read_health({site.url!r}))"
    environ = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    environ["http_proxy"] = "http://127.0.0.1:1"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("{'status': 'ok'}\n", "")


@pytest.mark.parametrize(
    ("health", "settled"),
    [
        ({"orchestrator": {"state": "ok"}}, True),
        ({"orchestrator": {"state": Reason.ORCHESTRATOR_ERROR.value}}, True),
        ({"orchestrator": {"state": Reason.ORCHESTRATOR_BUSY.value}}, True),
        ({"orchestrator": {"state": Reason.ORCHESTRATOR_TIMEOUT.value}}, False),
        ({"orchestrator": {}}, True),
        ({"status": "ok"}, True),
        ({}, True),
        ([], True),
    ],
)
def test_only_a_starting_orchestrator_is_unsettled(health: Any, settled: bool) -> None:
    """One that reports a fault, or is not used, is settled."""
    assert is_settled(health) is settled


SERVE: Final = """\
    #!{python}
    import http.server, json, sys, time
    states = {states!r}
    print("starting", flush=True)
    time.sleep({sleeps_s})
    if not states:
        sys.exit({says!r})
    print({says!r}, flush=True)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state = states.pop(0) if len(states) > 1 else states[0]
            body = json.dumps({{"orchestrator": {{"state": state}}}}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""
"""Stands in for Ray's ``serve``, which the launcher starts from beside its Python."""


class Serve:
    """Makes gateways of scripts."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.python = sys.executable
        self.made: list[ServeProcess] = []
        monkeypatch.setattr(sys, "executable", str(directory / "python"))

    def start(self, *states: str, says: str = "", sleeps_s: float = 0.0) -> ServeProcess:
        """One whose orchestrator is in these states, one after the other; without any it ends."""
        port = serve_process._free_port(0)
        script = self.directory / "serve"
        script.write_text(
            textwrap.dedent(SERVE).format(
                python=self.python, states=list(states), says=says, sleeps_s=sleeps_s, port=port
            )
        )
        script.chmod(0o755)
        file = ServeFile(self.directory / "serve.yaml", "127.0.0.1", port, Path("gateway.yaml"))
        self.made.append(ServeProcess(file, os.environ, self.directory / "serve.log"))
        return self.made[-1]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    made = Serve(tmp_path, monkeypatch)
    yield made
    for gateway in made.made:
        assert gateway.stop() == []


def test_launcher_can_do_without_the_dashboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python then runs a module of ours in place of Ray's `serve`."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    file = ServeFile(tmp_path / "serve.yaml", "127.0.0.1", 1, Path("gateway.yaml"))
    gateway = ServeProcess(file, os.environ, tmp_path / "serve.log", dashboard=False)
    gateway._process.wait(10)
    assert gateway.log_end() == f"-m deployments.serve_run {file.path}"
    assert gateway.stop() == []


TIMEOUT: Final = Reason.ORCHESTRATOR_TIMEOUT.value


@pytest.mark.parametrize(
    "states", [["ok"], [TIMEOUT, TIMEOUT, "ok"], [TIMEOUT, "orchestrator_error"]]
)
def test_launcher_waits_for_the_orchestrator(states: list[str], serve: Serve) -> None:
    """It waits until the orchestrator answers or reports a fault."""
    took_s = serve.start(*states).wait_until_healthy()
    assert 0.2 * (len(states) - 1) <= took_s < 30


def test_launcher_goes_on_without_an_orchestrator(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits a limited time from the first answer of the gateway."""
    monkeypatch.setattr(serve_process, "ORCHESTRATOR_S", 0.5)
    started = time.monotonic()
    took_s = serve.start(TIMEOUT, sleeps_s=0.5).wait_until_healthy()
    assert 1.0 <= took_s <= time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("states", "says", "message"),
    [
        ([], "port taken", "serve run ended; end of its log:\nstarting\nport taken"),
        (
            ["ok"],
            "app DEPLOY_FAILED: x",
            "Ray Serve cannot deploy the application; end of its log:\nstarting\napp",
        ),
    ],
)
def test_failed_start_is_reported(
    states: list[str], says: str, message: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the end of the log."""
    monkeypatch.setattr(serve_process, "read_health", lambda _url: None)
    with pytest.raises(LaunchError) as caught:
        serve.start(*states, says=says).wait_until_healthy()
    assert str(caught.value).startswith(message)


def test_gateway_that_never_answers_is_reported(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error follows after the longest start."""
    monkeypatch.setattr(serve_process, "START_S", 0.5)
    with pytest.raises(
        LaunchError, match=r"the gateway is not healthy after 0.5 s; end of its log:\n"
    ):
        serve.start("ok", sleeps_s=60).wait_until_healthy()


EXPLAINED: Final = {
    "model": "openai/b",
    "route": "code",
    "reason": "route",
    "orchestrator": {"scores": {"code": 0.7512, "talk": 0.25}},
    "took_ms": 4.4,
}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "-> code, openai/b (route; code 0.75, talk 0.25; 4 ms)"),
        (
            {"route": None, "reason": "orchestrator_error", "orchestrator": {"scores": None}},
            "-> no route, openai/b (orchestrator_error; 4 ms)",
        ),
    ],
)
def test_decision_of_the_gateway_is_shown(
    changes: dict[str, Any], shown: str, site: Site, tmp_path: Path
) -> None:
    """The output has the prompt and all scores."""
    site.says = answer({**EXPLAINED, **changes})
    prompt, decision = _decision(snapshot_of(tmp_path, CONFIG), site.url).splitlines()
    assert decision == f"  {shown}"
    ((path, headers, body),) = site.requests
    assert (path, headers["content-type"]) == ("/v1/route", "application/json")
    assert prompt == f'  "{json.loads(body)["messages"][0]["content"]}"'
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ("[$UNIT_KEY, sk-2]", "Bearer sk-1"),
        ("[sk-3]", "Bearer sk-3"),
        ("[$UNIT_NONE]", None),
    ],
)
def test_decision_is_requested_with_the_client_key(
    keys: str, sent: str | None, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its variable the gateway refuses, and that is shown."""
    monkeypatch.setenv("UNIT_KEY", "sk-1")
    monkeypatch.delenv("UNIT_NONE", raising=False)
    site.says = answer(EXPLAINED) if sent else REFUSED
    shown = _decision(snapshot_of(tmp_path, f"{CONFIG}client_keys: {keys}\n"), site.url)
    assert site.requests[0][1].get("authorization") == sent
    assert ("sk-" in shown, "not available: HTTP Error 401" in shown) == (False, sent is None)


@pytest.mark.parametrize("says", MUTE.values(), ids=MUTE)
def test_missing_decision_is_not_an_error(says: bytes, site: Site, tmp_path: Path) -> None:
    """The gateway is up all the same."""
    site.says = says
    snapshot = snapshot_of(tmp_path, VERSION)
    assert _decision(snapshot, site.url).startswith("  not available: ")
    assert _decision(snapshot, "http://127.0.0.1:1").endswith("Connection refused>")
