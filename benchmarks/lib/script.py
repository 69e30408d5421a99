"""What every benchmark script does at its start and at its end."""

import argparse
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.lib.paths import BENCHMARKS, RESULTS


def script_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the option ``--results``; the description is the first line.

    Ends the script if Python imports this library from another checkout than the script's.
    """
    script = Path(sys.argv[0]).resolve()
    if script.suffix == ".py" and script.parent != BENCHMARKS:
        sys.exit(f"{script.name}: the library is imported from another checkout; set PYTHONPATH=.")
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    return parser


def write_results(
    folder: Path, name: str, result: Mapping[str, Any], text: str, indent: int | None = 1
) -> None:
    """Writes ``name``.json with all figures and ``name``.md with the report."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=indent) + "\n")
    (folder / f"{name}.md").write_text(text.rstrip("\n") + "\n")


def publish(folder: Path, name: str, result: Mapping[str, Any], text: str) -> None:
    """Prints the report, and writes it beside all figures."""
    print(f"\n{text}")
    write_results(folder, name, result, text)


def verdict(*, holds: bool | None) -> str:
    """Returns the cell of a table: yes, NO, or empty where nothing is demanded."""
    return {True: "yes", False: "NO", None: ""}[holds]


def end_on_terminate() -> None:
    """Makes SIGTERM end the script like Ctrl-C, so that it stops everything that it started."""

    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        sys.exit(130)

    signal.signal(signal.SIGTERM, leave)
