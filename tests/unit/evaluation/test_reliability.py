"""Reliability of decisions, what the report says of it, and its picture."""

import json
from dataclasses import replace
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from serve_app.domain import Scores
from serve_app.evaluation.confusion_svg import as_svg
from serve_app.evaluation.measure import Flips, case_outcome
from serve_app.evaluation.reliability import reliability_of
from serve_app.evaluation.reliability_svg import HEIGHT, WIDTH
from serve_app.evaluation.report import report_json, report_text
from serve_app.scoring.calibration import DecisionRule
from tests.unit.evaluation.labelled_sets import OUTCOMES, evaluation_of
from tests.unit.evaluation.scored import evaluation_with, scored

SVG: Final = "{http://www.w3.org/2000/svg}"

FOUR: Final = (
    scored("a", {"a": 0.9, "b": 0.05, "c": 0.0}, 0.05),
    scored("b", {"a": 0.94, "b": 0.02, "c": 0.0}, 0.04),
    scored(None, {"a": 0.2, "b": 0.1, "c": 0.1}, 0.6),
    scored(None, {"a": 0.55, "b": 0.0, "c": 0.0}, 0.45),
)
"""Two of four decisions are right, by hand."""


def test_decisions_are_in_bins_by_their_probability() -> None:
    """That of a decision for no route is the probability of no route."""
    found = reliability_of(FOUR)
    assert found is not None
    assert [one.cases for one in found.bins] == [0, 0, 0, 0, 0, 1, 1, 0, 0, 2]
    assert [one.low for one in found.bins] == pytest.approx([step / 10 for step in range(10)])
    last = found.bins[-1]
    assert (last.high, last.right) == (1.0, 0.5)
    assert last.probability == pytest.approx(0.92)
    assert (found.bins[0].probability, found.bins[0].right) == (None, None)


def test_calibration_error_is_the_weighted_gap() -> None:
    """It is (2 * |0.92 - 0.5| + |0.6 - 1| + |0.55 - 0|) / 4."""
    found = reliability_of(FOUR)
    assert found is not None
    assert found.calibration_error == pytest.approx((0.84 + 0.4 + 0.55) / 4)


def test_threshold_changes_what_is_decided() -> None:
    """A case that a threshold turns away counts with the probability of no route."""
    found = reliability_of([scored("a", {"a": 0.7}, 0.3, rule=DecisionRule(0.8))])
    assert found is not None
    assert [one.cases for one in found.bins].index(1) == 3
    assert found.bins[3].right == 0.0


def test_certain_decision_is_in_the_last_bin() -> None:
    """A probability of 1 has no bin of its own."""
    found = reliability_of([scored("a", {"a": 1.0}, 0.0)])
    assert found is not None
    assert (found.bins[-1].cases, found.calibration_error) == (1, 0.0)


def test_engine_without_probabilities_has_no_reliability() -> None:
    """Neither has one that answered nothing; cases without a text of the user are left out."""
    without = case_outcome(FOUR[0].case, Scores({"a": 0.4}, 0.12, "a"), 0.0)
    assert reliability_of([*FOUR, without]) is None
    assert reliability_of(OUTCOMES) is None
    assert reliability_of([]) is None
    assert reliability_of([*FOUR, OUTCOMES[0]]) == reliability_of(FOUR)


def test_thresholds_follow_from_probabilities() -> None:
    """Share routed, and error among the routed, are those of a decision at each threshold."""
    rows = {row.min_confidence: row for row in evaluation_with(*FOUR).thresholds()}
    assert [(rows[limit].routed, rows[limit].error) for limit in (0.0, 0.54, 0.56, 0.92, 0.96)] == [
        (3 / 4, pytest.approx(2 / 3)),
        (3 / 4, pytest.approx(2 / 3)),
        (2 / 4, 1 / 2),
        (1 / 4, 1.0),
        (0.0, None),
    ]
    assert (rows[0.0].accuracy, rows[0.0].no_match_found) == (1 / 2, 1 / 2)


def test_margin_applies_at_each_threshold() -> None:
    """A route that leads by too little is never decided for."""
    close = scored("a", {"a": 0.4, "b": 0.35, "c": 0.0}, 0.25, rule=DecisionRule(0.0, 0.1))
    rows = evaluation_with(close, FOUR[2]).thresholds()
    assert {row.routed for row in rows} == {0.0}


def test_auroc_compares_the_probability_that_a_route_matches() -> None:
    """It does not matter which route is the likeliest."""
    inside = scored("a", {"a": 0.3, "b": 0.3, "c": 0.3}, 0.1)
    outside = scored(None, {"a": 0.6, "b": 0.0, "c": 0.0}, 0.4)
    assert evaluation_with(inside, outside).auroc() == 1.0


def test_report_has_the_figures() -> None:
    """They are in the text and in the JSON."""
    result = replace(evaluation_with(*FOUR), flips=Flips(3, 0.25))
    lines = report_text(result)
    assert lines[5:8] == [
        "routed    0.750  of all cases get a route, and 0.667 of these a wrong one",
        "ECE       0.448  expected calibration error, the gap between probability and share of right decisions",
        "flips     0.250  of all cases change with the routes in 3 other orders",
    ]
    start = lines.index("Reliability of decisions")
    assert lines[start + 1 : start + 3] == [
        "  probability   mean  right  cases",
        "  0.0 to 0.1       -      -      0",
    ]
    assert lines[start + 11] == "  0.9 to 1.0   0.920  0.500      2"
    report = report_json(result)
    assert report["calibration_error"] == pytest.approx(0.4475)
    assert report["routed_error"] == pytest.approx(2 / 3)
    assert (report["routed"], report["flips"]) == (0.75, {"orders": 3, "share": 0.25})
    assert len(report["reliability"]) == 10
    assert report["reliability"][5] == {
        "low": 0.5, "high": 0.6, "cases": 1, "probability": 0.55, "right": 0.0,
    }  # fmt: skip
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_report_of_one_order_and_of_nothing_routed() -> None:
    """Neither a plural nor an error is made up."""
    result = replace(evaluation_with(FOUR[2]), flips=Flips(1, 0.0))
    lines = report_text(result)
    assert "routed    0.000  of all cases get a route" in lines
    assert "flips     0.000  of all cases change with the routes in 1 other order" in lines
    assert report_json(result)["routed_error"] is None


def parsed(content: bytes) -> ET.Element:
    return ET.fromstring(content)  # noqa: S314 - our own picture


def test_reliability_is_drawn_beside_the_confusion() -> None:
    """Each bin with cases has a bar, a line at its probability, and a bar of its cases."""
    plain = parsed(as_svg(evaluation_of(*OUTCOMES, names=("a", "b", "c"))))
    svg = parsed(as_svg(evaluation_with(*FOUR)))
    assert int(svg.get("width") or 0) >= int(plain.get("width") or 0) + WIDTH
    assert int(svg.get("height") or 0) >= HEIGHT
    (group,) = svg.findall(f"{SVG}g")
    kinds = [element.get("class") for element in group.iter()]
    counts = {kind: kinds.count(kind) for kind in ("right", "gap", "share", "frame", "ideal")}
    assert counts == {"right": 3, "gap": 3, "share": 3, "frame": 1, "ideal": 1}
    texts = [element.text for element in group.iter(f"{SVG}text")]
    assert texts[0] == "reliability: expected calibration error 0.448"
    bars = [bar for bar in group.iter(f"{SVG}rect") if bar.get("class") == "right"]
    assert [float(bar.get("height") or 0) for bar in bars] == [0.0, 250.0, 125.0]
    for box in group.iter(f"{SVG}rect"):
        assert float(box.get("x") or 0) + float(box.get("width") or 0) <= WIDTH
        assert float(box.get("y") or 0) + float(box.get("height") or 0) <= HEIGHT
    assert plain.findall(f"{SVG}g") == []


def test_picture_has_colours_for_dark_pages() -> None:
    """Everything on the page itself changes; a cell keeps the colour that its number is read on."""
    svg = parsed(as_svg(evaluation_with(*FOUR)))
    style = svg.findtext(f"{SVG}style") or ""
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    classes = {element.get("class") for element in svg.iter() if element.get("class")}
    assert all(f".{kind} {{" in light and f".{kind} {{" in dark for kind in classes - {"empty"})
    assert ".empty {" in dark
    bare = [text for text in svg.iter(f"{SVG}text") if text.get("class") is None]
    assert bare
    assert all(text.get("fill") in {"white", "black"} for text in bare)
