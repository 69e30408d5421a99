"""Folders of the checkout that the benchmarks read and write."""

from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
BENCHMARKS: Final = PROJECT / "benchmarks"
RESULTS: Final = BENCHMARKS / "results"
ROUTING_SETS: Final = BENCHMARKS / "routing"
"""Labelled conversations for ``fingerpost eval``."""
