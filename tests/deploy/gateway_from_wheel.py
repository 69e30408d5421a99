"""Runs the gateway from the wheel in an empty folder: ``python -m tests.deploy.gateway_from_wheel``.

A script, not a test: it starts its own cluster, and the packaged example listens on port 8000. It
builds the wheel, installs it without network, runs ``fingerpost run`` without a file, lists the
models, stops the gateway as Ctrl-C does, and exits with 0 if all steps succeed.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from serve_app.cli.serve_process import START_S, open_directly
from tests.deploy.wheel import Installed, build, install

_URL: Final = "http://127.0.0.1:8000"


def main() -> int:
    """Returns 0 if the gateway starts, answers and stops."""
    with tempfile.TemporaryDirectory(prefix="fpw-") as folder:
        home = Path(folder)
        installed = install(build(home / "dist"), home / "venv")
        empty = home / "empty"
        empty.mkdir()
        output = home / "output"
        try:
            names = _served(installed, empty, output)
        except (OSError, TimeoutError) as error:
            print(f"{error}; the output was:\n{output.read_text()}")
            return 1
    print(f"served from the wheel: {names}")
    return 0


def _served(installed: Installed, empty: Path, output: Path) -> str:
    """Starts the gateway and returns the names of the models that it serves."""
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [installed.folder / "bin/fingerpost", "run"],
            cwd=empty,
            env=installed.environment(),
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_S
        while "Ctrl-C stops it" not in output.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError("the gateway did not come up")
            time.sleep(0.5)
        with open_directly(f"{_URL}/v1/models", timeout=10) as answer:
            models = json.loads(answer.read())["data"]
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    if code != 0:
        raise TimeoutError(f"the gateway ended with {code}")
    return ", ".join(model["id"] for model in models)


if __name__ == "__main__":
    sys.exit(main())
