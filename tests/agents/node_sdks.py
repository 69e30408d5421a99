"""The SDKs for Node read streams whose silent gaps the gateway fills.

    .venv/bin/python -m tests.agents.node_sdks

Needs Node and npm. Installs pinned versions into a temporary folder, serves the gateway without Ray
with a provider that pauses 50 ms between two chunks, and lets the gateway fill gaps of 15 ms. Each
SDK has to read the whole text and a proper end.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from serve_app.api import send
from tests.scripted_provider import ScriptedProvider
from tests.site import DATA_PATHS, SECRET, write_config
from tests.wire.conftest import serve_api

_PACKAGES: Final = (
    "openai@6.49.0",
    "@anthropic-ai/sdk@1.14.0",
    "ai@6.0.326",
    "@ai-sdk/openai@3.0.141",
    "@ai-sdk/anthropic@3.0.140",
    "@ai-sdk/openai-compatible@2.0.92",
)
_SCRIPT: Final = Path(__file__).with_suffix(".mjs")
_ENDS: Final = frozenset({"stop", "end_turn", "response.completed"})
_READERS: Final = 7


def main() -> int:
    """Prints what each SDK read; 1 if one of them did not read it all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install = [
            "npm",
            "install",
            "--prefix",
            name,
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]
        subprocess.run([*install, "--ignore-scripts", *_PACKAGES], check=True)
        shutil.copy(_SCRIPT, folder)
        output = _run(folder)
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    good = [row for row in rows if row["text"].startswith("Fingerpost") and row["end"] in _ENDS]
    for row in rows:
        print("ok " if row in good else "BAD", row["name"], repr(row["text"]), row["end"])
    return 0 if len(good) == _READERS else 1


def _run(folder: Path) -> str:
    """What the script writes, run against a gateway on loopback."""
    send.KEEP_ALIVE_S = 0.015  # type: ignore[misc]  # shorter than the provider's pauses
    with (
        ScriptedProvider() as dedicated,
        ScriptedProvider() as shared,
        ScriptedProvider() as inline,
    ):
        providers = dict(zip(DATA_PATHS, (dedicated, shared, inline), strict=True))
        config = write_config(folder, providers)
        with serve_api(config, providers, {"FINGERPOST_TEST_KEY": SECRET}) as site:
            command = ["node", _SCRIPT.name, site.url, "shared/slow"]
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
            )
    print(done.stderr, file=sys.stderr, end="")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
