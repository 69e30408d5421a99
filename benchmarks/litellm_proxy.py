"""LiteLLM's proxy as one of the things measured: in a virtual environment of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml
from cluster import HERE, Server, environment, folder, running

VERSION: Final = "1.106.2"
_WORK: Final = HERE / ".work"
_VENV: Final = _WORK / "litellm"
_SETTINGS: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing is fetched
    "LITELLM_LOG": "ERROR",
    # no key, as for the other variants; without this it doesn't start; it listens on loopback only
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}


def install() -> None:
    """Makes the environment, unless it is there."""
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
    said = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=False)
    return said.stdout.strip()


@contextmanager
def proxying(base_url: str, port: int) -> Iterator[Server]:
    """One worker on ``port`` whose model ``bench`` is the provider at ``base_url``."""
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
    with folder() as place:
        file = place / "litellm.yaml"
        file.write_text(yaml.safe_dump(config))
        command = [str(_VENV / "bin/litellm"), "--config", str(file), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
        environ = {**environment(), **_SETTINGS}
        with running(command, environ, Path(place / "log"), cwd=place) as server:
            server.wait_for(f"http://127.0.0.1:{port}/health/liveliness", 120)
            yield server
