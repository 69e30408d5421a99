"""README's figures are those that were measured."""

import json
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text("utf-8")
OVERHEAD: Final = (ROOT / "benchmarks/results/overhead.md").read_text("utf-8")
VARIANTS: Final = ("fingerpost-inline", "fingerpost-dedicated", "litellm")
ROWS: Final = {
    "CPU, complete answer": ("unary", 4),
    "CPU, stream of 52 events": ("stream", 4),
    "median time, complete answer": ("unary", 1),
    "median time, stream of 52 events": ("stream", 1),
}
"""Of README's table: the load, and the column of the table of results."""


def _measured(load: str, variant: str, column: int) -> float:
    """A figure of one request at a time."""
    (row,) = re.findall(rf"^\| {load} c=1 \| {variant} \|(.*)\|$", OVERHEAD, re.MULTILINE)
    return float(row.split("|")[column])


@pytest.mark.parametrize("row", ROWS)
def test_figures_beside_litellm_are_those_that_were_measured(row: str) -> None:
    """Within a tenth; else README is older than the results."""
    (cells,) = re.findall(rf"^\| {row} \|(.*)\|$", README, re.MULTILINE)
    load, column = ROWS[row]
    for cell, variant in zip(cells.split("|"), VARIANTS, strict=True):
        figure = float(cell.strip().removesuffix(" ms"))
        assert figure == pytest.approx(_measured(load, variant, column), rel=0.1), variant


def test_range_of_accuracy_is_that_of_the_results() -> None:
    """The least and the most of the five sets, routes' texts alone."""
    text = (ROOT / "benchmarks/results/routing_accuracy.md").read_text("utf-8")
    (row,) = re.findall(r"^\| bundled \|(.*)\|$", text, re.MULTILINE)
    figures = [float(cell) for cell in row.split("|")]
    assert f"{min(figures):.2f} to {max(figures):.2f} on five sets" in README


def test_share_of_right_decisions_is_that_of_the_read_out() -> None:
    """Those that `python -m training.readout` measured, in README and in the card."""
    figures = json.loads((ROOT / "training/readout.json").read_text("utf-8"))["cross_validated"]
    card = (ROOT / "training/README.md").read_text("utf-8")
    for name in ("none", "20 suggested"):
        assert f"{figures[name]['decided']:.0%}".replace("%", " %") in README
        assert f"{figures[name]['decided']:.3f}" in card
