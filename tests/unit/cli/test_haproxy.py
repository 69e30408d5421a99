"""HAProxy without splicing, by the program that Serve starts in its place."""

import os
import socket
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from deployments.environment import HAPROXY_BINARY
from serve_app.cli import haproxy
from tests.site import closed_port, eventually

_CONFIG = """
global
    tune.bufsize 262144
defaults
    mode http
    option abortonclose
    option splice-request
    option splice-response
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server one 127.0.0.1:{server}
"""


def test_command_becomes_haproxy(tmp_path: Path) -> None:
    """It passes its arguments on, keeps its process id, and does not start itself again."""
    program = tmp_path / "program"
    program.write_text(
        f"#!{sys.executable}\nfrom serve_app.cli.haproxy import main\n\nmain()\n", "utf-8"
    )
    program.chmod(0o755)
    environ = {**os.environ, haproxy.VARIABLE: str(program)}
    done = subprocess.run(
        [program, "-v"], env=environ, capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout.startswith("HAProxy version")
    assert haproxy.VARIABLE == HAPROXY_BINARY


def test_wrapper_needs_haproxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without HAProxy nothing is written."""

    def missing() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(haproxy, "get_haproxy_binary", missing)
    assert haproxy.write_wrapper(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_named_program_is_not_the_one_that_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable names the wrapper itself, so it does not count, and stays as it is."""
    monkeypatch.setenv(haproxy.VARIABLE, "/does/not/exist")
    wrapper = haproxy.write_wrapper(tmp_path)
    assert wrapper is not None
    assert "/does/not/exist" not in wrapper.read_text()
    assert os.environ[haproxy.VARIABLE] == "/does/not/exist"


def test_client_that_leaves_is_reported(tmp_path: Path) -> None:
    """Also if its body came in another packet than the head, which Serve's HAProxy splices."""
    wrapper = haproxy.write_wrapper(tmp_path / "a folder")
    assert wrapper is not None
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(5)
        port = closed_port()
        file = tmp_path / "haproxy.cfg"
        file.write_text(_CONFIG.format(port=port, server=server.getsockname()[1]))
        process = subprocess.Popen([wrapper, "-db", "-f", file], stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: _accepts(port), 5)
            client = socket.create_connection(("127.0.0.1", port), timeout=5)
            with closing(client):
                client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2000\r\n\r\n")
                upstream, _ = server.accept()
                upstream.settimeout(2)
                received = upstream.recv(65536)
                client.sendall(b"x" * 2000)
                while not received.endswith(b"x" * 2000):
                    received += upstream.recv(65536)
            with closing(upstream), suppress(ConnectionResetError):
                assert upstream.recv(1) == b""
        finally:
            process.kill()
            process.wait(5)


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
