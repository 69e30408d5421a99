"""``fingerpost run`` for a user: its output, and that Ctrl-C leaves no process behind."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from tests.site import closed_port, eventually

ROOT = Path(__file__).parents[2]
COMMAND = [str(Path(sys.executable).with_name("fingerpost")), "run"]


def _serve_file(folder: Path, port: int, config: Path, host: str = "127.0.0.1") -> Path:
    content = yaml.safe_load((ROOT / "configs/demo.serve.yaml").read_text())
    content["http_options"] = {"host": host, "port": port}
    content["applications"][0]["args"]["config"] = str(config)
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@contextmanager
def _running(command: list[str], output: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, **environ}
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=sink, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def test_run_prints_working_curl_line_and_stops_cleanly(tmp_path: Path) -> None:
    """The demo starts with its scripted provider, prints a curl line that works, and stops without
    leftovers.
    """
    port, provider = closed_port(), closed_port()
    config = tmp_path / "gateway.yaml"
    demo = (ROOT / "configs/demo.gateway.yaml").read_text()
    config.write_text(demo.replace(":9009/", f":{provider}/"))
    file = _serve_file(tmp_path, port, config)
    beside = shlex.join([sys.executable, "-m", "tests.scripted_provider", "--port", str(provider)])
    output = tmp_path / "output"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [*COMMAND, str(file), "--beside", beside]
    with _running(command, output, TMPDIR=str(temporary)) as process:
        eventually(lambda: "Ctrl-C stops it" in output.read_text(), 120)
        assert "alias fast -> vllm/parrot" in output.read_text()
        line = next(line for line in output.read_text().splitlines() if line.startswith("  curl"))
        curl = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True)
        assert "You said: Hello" in curl.stdout
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) > 8
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    eventually(lambda: not [child for child in started if child.is_running()], 2)
    assert list(temporary.iterdir()) == []
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("config", "host", "message"),
    [
        ("version: v0.4.0\nmodel_providers:\n  - model: gpt-4o\n", "127.0.0.1", "line 3"),
        ("version: v0.4.0\n", "0.0.0.0", "allow_anonymous"),
        (None, "127.0.0.1", "cannot read"),
    ],
)
def test_run_rejects_invalid_configuration_at_start(
    tmp_path: Path, config: str | None, host: str, message: str
) -> None:
    """An invalid file, an unprotected address or a missing file is reported before anything is
    started.
    """
    file = tmp_path / "gateway.yaml"
    if config is not None:
        file.write_text(config)
    serve = _serve_file(tmp_path, closed_port(), file, host)
    done = subprocess.run(
        [*COMMAND, str(serve)], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_run_reports_port_in_use(tmp_path: Path) -> None:
    """A port that is in use is reported with the key to change."""
    config = tmp_path / "gateway.yaml"
    config.write_text("version: v0.4.0\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serve = _serve_file(tmp_path, port, config)
        done = subprocess.run(
            [*COMMAND, str(serve)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "http_options.port" in done.stderr
