"""LiteLLM's proxy as a variant of the overhead benchmark, in its own virtual environment."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml

from benchmarks.lib.paths import BENCHMARKS
from benchmarks.lib.processes import (
    Server,
    clean_environment,
    output_of,
    running,
    temporary_folder,
)

VERSION: Final = "1.106.2"
_WORK: Final = BENCHMARKS / ".work"
_VENV: Final = _WORK / "litellm"
_SETTINGS: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download at the start
    "LITELLM_LOG": "ERROR",
    # it refuses to start without a key unless this is set; it listens on loopback only
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}


def install() -> None:
    """Creates the environment unless it exists."""
    _WORK.mkdir(exist_ok=True)
    (_WORK / ".gitignore").write_text("*\n")
    if _installed() == VERSION:
        return
    print(f"installing LiteLLM {VERSION} …", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(_VENV)], check=True)
    pip = [str(_VENV / "bin/python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, f"litellm[proxy]=={VERSION}"], check=True)


def _installed() -> str:
    python = _VENV / "bin/python"
    if not python.exists():
        return ""
    ask = "import importlib.metadata as m; print(m.version('litellm'))"
    _, printed = output_of([str(python), "-c", ask])
    return printed.strip()


@contextmanager
def proxying(base_url: str, port: int) -> Iterator[Server]:
    """Runs one worker on ``port`` whose model ``bench`` is the provider at ``base_url``."""
    config = {
        "model_list": [
            {
                "model_name": "bench",
                "litellm_params": {
                    "model": "openai/bench",
                    "api_base": base_url,
                    "api_key": "none",
                },
            }
        ],
        "litellm_settings": {"telemetry": False},
    }
    with temporary_folder() as folder:
        file = folder / "litellm.yaml"
        file.write_text(yaml.safe_dump(config))
        command = [str(_VENV / "bin/litellm"), "--config", str(file), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
        environ = {**clean_environment(), **_SETTINGS}
        with running(command, environ, Path(folder / "log"), cwd=folder) as server:
            server.wait_for(f"http://127.0.0.1:{port}/health/liveliness", 120)
            yield server
