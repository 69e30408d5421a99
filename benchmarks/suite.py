"""Runs the benchmarks that docs/performance.md shows, and writes that page.

    .venv/bin/python benchmarks/suite.py
    .venv/bin/python benchmarks/suite.py --only overhead startup
    .venv/bin/python benchmarks/suite.py --page-only

``make bench`` is the first of these.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.lib.paths import BENCHMARKS, PROJECT
from benchmarks.lib.performance_page import cpu_picture, performance_page
from benchmarks.lib.script import script_parser

STEPS: Final = (
    "decision_cost",
    "second_look",
    "translation_cost",
    "affinity_cost",
    "startup",
    "idle",
    "overhead",
    "surfaces",
    "profile_owners",
    "chunk_cost",
    "replicas",
    "serve_settings",
    "growth",
    "soak",
)
"""Scripts, in the order in which they run."""


def _run(step: str, results: Path) -> bool:
    """Runs a script. Returns False if it ends with an error, so that the others still run."""
    print(f"== {step}", flush=True)
    command = [sys.executable, str(BENCHMARKS / f"{step}.py"), "--results", str(results)]
    return subprocess.run(command, cwd=PROJECT, check=False).returncode == 0


def _recorded(results: Path) -> dict[str, dict[str, Any]]:
    files = [results / f"{step}.json" for step in STEPS]
    return {file.stem: json.loads(file.read_text("utf-8")) for file in files if file.exists()}


def write_page(results: Path, docs: Path) -> None:
    """Writes performance.md and its picture from the recorded results."""
    recorded = _recorded(results)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "performance.md").write_text(performance_page(recorded), "utf-8")
    if "overhead" in recorded:
        picture = cpu_picture(recorded["overhead"]["medians"])
        (docs / "performance.svg").write_text(picture, "utf-8")


def main() -> int:
    """Runs the scripts; returns 0 if all of them succeeded."""
    parser = script_parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS, help="scripts to run")
    parser.add_argument("--page-only", action="store_true", help="run nothing, write the page")
    parser.add_argument("--docs", type=Path, default=PROJECT / "docs", help="folder of the page")
    options = parser.parse_args()
    failed = []
    if not options.page_only:
        failed = [
            step for step in STEPS if step in options.only and not _run(step, options.results)
        ]
    write_page(options.results, options.docs)
    if failed:
        print(f"failed: {', '.join(failed)}; the page has their last figures", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
