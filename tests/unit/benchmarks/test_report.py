"""The report of benchmarks/overhead.py, and the choice of another checkout for it."""

from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.lib.cluster import HERE, Checkout
from benchmarks.lib.loadgen import Figures
from benchmarks.lib.paths import PROJECT
from benchmarks.lib.report import Cell, Idle, Window, bars, markdown, medians, table

ROUNDS: Final = ((0.9, 1.0), (1.1, 1.0), (1.0, 1.0))
"""CPU seconds of this checkout and of the other, by round."""


def cells(load: str) -> list[Cell]:
    """Returns a cell of ten answers for each round and checkout."""
    figures = Figures([1.0] * 10, 0, 1.0, "")
    return [
        Cell(
            number,
            variant,
            server,
            load,
            Window(1.0, {"serve": {"haproxy": here}, "other": {"haproxy": other}}, 0.0),
            figures,
        )
        for number, (here, other) in enumerate(ROUNDS, 1)
        for variant, server in (("fingerpost-inline", "serve"), ("other-inline", "other"))
    ]


def idle() -> Idle:
    """Returns idle work of zero."""
    pause = Window(1.0, {"serve": {}, "other": {}}, 0.0)
    return Idle.of([], pause)


def test_bars_compare_two_checkouts_by_load_and_together() -> None:
    """A ratio is the median of the rounds' ratios, and 1.03 is its limit."""
    judged = bars(medians([*cells("unary c=1"), *cells("stream c=1")], idle()))
    assert [bar.load for bar in judged] == ["unary c=1", "stream c=1", "together"]
    for bar in judged:
        assert bar.name == "fingerpost-inline / other-inline"
        assert (bar.ratio, bar.lowest, bar.highest) == pytest.approx((1.0, 0.9, 1.1))
        assert (bar.wanted, bar.holds) == ("<= 1.03", True)


def _result(**more: Any) -> dict[str, Any]:
    machine = {
        "date": "today", "cpus": 2, "cpu": "any", "memory_gb": 1, "load_average": (0, 0, 0),
        "python": "3", "versions": {},
    }  # fmt: skip
    settings = {"rounds": 3, "seconds": 1.0, "turns": 5}
    zero = {"elsewhere_cpu_s_per_s": 0.0, "stolen_cpu_s_per_s": 0.0}
    return {"machine": machine, "settings": settings, "bars": [], **zero, **more}


def test_report_names_what_it_compares() -> None:
    """The head names both checkouts, and the table has the ratios."""
    rows = medians(cells("unary c=1"), idle())
    text = table(rows, bars(rows), idle(), {"serve": {}, "other": {}})
    report = markdown(_result(compared={"fingerpost": "new (1)", "other": "old (2)"}), text)
    head = report.splitlines()[2]
    assert "`fingerpost-*` is new (1), `other-*` is old (2)" in head
    assert "| fingerpost-inline / other-inline | unary c=1 | 1.00 |" in report
    assert markdown(_result(), text).startswith("# Overhead\n")


def test_checkout_must_hold_the_project(tmp_path: Path) -> None:
    """Any other folder is an error."""
    with pytest.raises(ValueError, match="is not a checkout"):
        Checkout(tmp_path)
    assert HERE.describe().startswith(PROJECT.name)


def test_checkout_serves_its_own_modules_and_settings(tmp_path: Path) -> None:
    """Its folder is first on the path, and its configuration files are read."""
    for file in ("serve_app/__init__.py", "serve_app/app.py", "configs/serve.env"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    (tmp_path / "configs/serve.env").write_text("# a comment\nRAY_A=1\n\nRAY_B=x=y\n")
    other = Checkout(tmp_path)
    assert other.serve_env() == {"RAY_A": "1", "RAY_B": "x=y"}
    assert other.python_path == f"{tmp_path}:{PROJECT}"
    other.check_imports()
