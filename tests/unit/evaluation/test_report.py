"""Reports of an evaluation: text, JSON, SVG, and the comparison of two."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from serve_app.config.locations import ConfigError
from serve_app.domain import Json
from serve_app.engines.embedding.engine import EmbeddingSettings
from serve_app.evaluation.confusion_svg import as_svg
from serve_app.evaluation.measure import NO_ROUTE, Collision, Draws, Evaluation
from serve_app.evaluation.report import compare, read_report, report_json, report_text, table
from tests.unit.evaluation.labelled_sets import OUTCOMES, evaluation_of, outcome

SVG: Final = "{http://www.w3.org/2000/svg}"
FOUND: Final = evaluation_of(*OUTCOMES)
ODD_NAMES: Final = ('a<b>&"c"\'', "写代码", "]]>", "<!--", "&amp;", "x" * 300)


def many(count: int, *wrong: tuple[int, int]) -> Evaluation:
    """So many routes with one right case each, and cases decided wrongly besides."""
    names = [f"route {number}" for number in range(count)]
    outcomes = [outcome(name, name, 0.5, name) for name in names]
    outcomes += [outcome(names[a], names[b], 0.5, names[b]) for a, b in wrong]
    return evaluation_of(*outcomes, names=names)


@pytest.mark.parametrize(
    ("rows", "right", "lines"),
    [
        ([["a"]], (), ["a"]),
        ([["a", "bc"], ["def", "g"]], (), ["a    bc", "def  g"]),
        ([["a", "bc"], ["def", "g"]], (0, 1), ["  a  bc", "def   g"]),
        ([["", "x"], ["->", "y"]], (), ["    x", "->  y"]),
        ([["a", ""], ["b", "ccc"]], (), ["a", "b  ccc"]),
    ],
)
def test_table_has_aligned_columns(
    rows: list[list[str]], right: tuple[int, ...], lines: list[str]
) -> None:
    """A column is as wide as its widest cell, and lines have no trailing space."""
    assert table(rows, right) == lines


def test_report_is_text() -> None:
    """The whole text of a small set is compared."""
    result = replace(
        FOUND,
        settings=EmbeddingSettings(min_margin=0.05, threads=2),
        draws=(Draws(1, (0.5, 0.75)),),
        collisions=(Collision(0.914, "b", "a"),),
    )
    lines = report_text(result)
    start = lines.index("No match, by threshold")
    assert lines[:start] == [
        "set.jsonl: 2 routes, 4 cases with a route, 2 without",
        "",
        "accuracy  0.750  best route is right, of the cases with a route",
        "decided   0.500  with min_confidence 0.2 and min_margin 0.05, of all cases",
        "latency   p50 3.5 ms, p99 6.0 ms per decision, 2 thread(s), at most 64 tokens",
        "examples  1 per route: 0.625 (0.500 to 0.750 in 2 draws)",
        "routed    0.667  of all cases get a route, and 0.500 of these a wrong one",
        "",
        "By route, with thresholds",
        "  route       precision  recall  cases",
        "  a                0.50    0.33      3",
        "  b                0.50    1.00      1",
        "  (no route)       0.50    0.50      2",
        "",
        "Confusion",
        "  expected \\ decided  1  2  3",
        "  1 a                 1  1  1",
        "  2 b                 .  1  .",
        "  3 (no route)        1  .  1",
        "",
    ]
    assert lines[start + 1 : start + 4] == [
        "  min_confidence  accuracy  no match found  routed  error among the routed",
        "            0.00     0.750           0.000   1.000                   0.500",
        "            0.10     0.750           0.000   1.000                   0.500",
    ]
    assert lines[start + 11 : start + 13] == [
        "            0.90     0.250           1.000   0.167                   0.000",
        "            1.00     0.000           1.000   0.000                       -",
    ]
    assert lines[start + 13 :] == [
        "  recommended: 0.42 (best mean of both); AUROC 0.875, where 0.5 is chance",
        "",
        "Descriptions that collide (cosine)",
        "  0.91  b / a",
    ]


def test_report_without_no_match_cases_explains_it() -> None:
    """Missing figures are a dash or a sentence."""
    text = "\n".join(report_text(evaluation_of(*OUTCOMES[3:4])))
    assert "  the set has no case without a route, so no threshold can be measured\n" in text
    assert "  a                   -       -      0\n" in text
    assert text.endswith("Descriptions that collide (cosine)\n  none")
    assert "examples " not in text


def test_report_of_many_routes_lists_the_confusion() -> None:
    """It has the most frequent mistakes and their number, instead of a wide matrix."""
    wrong = [(0, 1)] * 3 + [(2, 3)] * 2 + [(0, number) for number in range(4, 20)]
    lines = report_text(many(20, *wrong))
    start = lines.index("Confusion")
    assert lines[start + 1 : start + 5] == [
        "  times  expected  decided",
        "      3  route 0   route 1",
        "      2  route 2   route 3",
        "      1  route 0   route 4",
    ]
    assert lines[start + 17] == "  18 pairs in total; --json lists all of them"
    assert sum(line.startswith("  route ") for line in lines) == 21  # by route, with its head
    assert max(map(len, lines)) < 100
    assert "  0 pairs in total; --json lists all of them" in report_text(many(20))


@pytest.mark.parametrize(("count", "matrix"), [(11, True), (12, False)])
def test_small_confusion_is_a_matrix(count: int, matrix: bool) -> None:
    """It has at most twelve names, with "no route" as one of them."""
    assert any("expected \\ decided" in line for line in report_text(many(count))) is matrix


def test_report_is_json() -> None:
    """It has everything of the text and more, and survives a file."""
    result = replace(
        FOUND,
        settings=EmbeddingSettings(model=Path("/m.onnx")),
        draws=(Draws(1, (0.5, 0.75)),),
        collisions=(Collision(0.9, "b", "a"),),
    )
    report = report_json(result)
    assert json.loads(json.dumps(report)) == report
    confusion = report.pop("confusion")
    assert {(pair["expected"], pair["decided"]): pair["times"] for pair in confusion} == (
        FOUND.confusion()
    )
    thresholds = report.pop("thresholds")
    assert (len(thresholds), thresholds[21]) == (
        51,
        {
            "min_confidence": 0.42,
            "accuracy": 0.5,
            "no_match_found": 1.0,
            "routed": 0.5,
            "error": pytest.approx(1 / 3),
        },
    )
    assert report.pop("latency_ms") == pytest.approx({"p50": 3.5, "p99": 5.95})
    assert report == {
        "file": "set.jsonl",
        "engine": "embedding",
        "settings": {
            "model": "/m.onnx",
            "threads": 1,
            "max_query_tokens": 64,
            "min_confidence": 0.2,
            "min_margin": 0.0,
        },
        "no_answer": [],
        "cases": 6,
        "unlabelled": 0,
        "accuracy": 0.75,
        "decided": 0.5,
        "routed": pytest.approx(2 / 3),
        "routed_error": 0.5,
        "calibration_error": None,
        "reliability": [],
        "flips": None,
        "languages": [],
        "routes": [
            {"name": "a", "precision": 1 / 2, "recall": 1 / 3, "cases": 3},
            {"name": "b", "precision": 1 / 2, "recall": 1.0, "cases": 1},
            {"name": NO_ROUTE, "precision": 1 / 2, "recall": 1 / 2, "cases": 2},
        ],
        "recommended_min_confidence": 0.42,
        "auroc": 0.875,
        "collisions": [{"cosine": 0.9, "routes": ["b", "a"]}],
        "examples": [{"examples": 1, "mean": 0.625, "accuracies": [0.5, 0.75]}],
    }


def test_missing_figures_are_null() -> None:
    """Lists are empty, and there is no NaN."""
    report = report_json(evaluation_of(*OUTCOMES[3:4]))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    keys = ("recommended_min_confidence", "auroc", "thresholds", "collisions", "examples")
    assert [report[key] for key in keys] == [None, None, [], [], []]
    assert report["settings"]["model"] is None
    assert report["routes"][0] == {"name": "a", "precision": None, "recall": None, "cases": 0}


def test_report_equals_itself() -> None:
    """Every difference is zero, also through a file."""
    report = report_json(FOUND)
    assert compare(report, json.loads(json.dumps(report))) == [
        "Compared with set.jsonl:",
        "  accuracy  0.750 -> 0.750  (+0.000)",
        "  decided   0.500 -> 0.500  (+0.000)",
        "  auroc     0.875 -> 0.875  (+0.000)",
        "  p50       3.5 -> 3.5 ms",
        "  the recall of every route is equal",
    ]


def worse(result: Evaluation) -> Evaluation:
    """The first case, which was right, is missed."""
    return replace(result, outcomes=(outcome("a", "b", 0.0, "b", 7), *result.outcomes[1:]))


def test_comparison_shows_the_changes() -> None:
    """It has the recall of the routes that changed."""
    now, before = report_json(worse(FOUND)), report_json(FOUND)
    assert compare(now, before) == [
        "Compared with set.jsonl:",
        "  accuracy  0.750 -> 0.500  (-0.250)",
        "  decided   0.500 -> 0.333  (-0.167)",
        "  auroc     0.875 -> 0.625  (-0.250)",
        "  p50       3.5 -> 4.5 ms",
        "  recall of  before   now",
        "  a            0.33  0.00",
    ]
    assert "  accuracy  0.500 -> 0.750  (+0.250)" in compare(before, now)


def test_comparison_with_another_set_is_partial() -> None:
    """A new route has no recall before, and a set without no match has no AUROC."""
    lines = compare(report_json(FOUND), report_json(many(2)))
    assert not any("auroc" in line for line in lines)
    assert lines[-4:] == [
        "  recall of   before   now",
        "  a                -  0.33",
        "  b                -  1.00",
        "  (no route)       -  0.50",
    ]


def parsed(result: Evaluation) -> ET.Element:
    return ET.fromstring(as_svg(result))  # noqa: S314 - our own picture


def texts(svg: ET.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


def test_confusion_is_drawn_as_svg() -> None:
    """Each pair has a cell, darker with its share, and the count if there is one."""
    svg = parsed(FOUND)
    assert svg.tag == f"{SVG}svg"
    assert texts(svg)[:2] == ["set.jsonl: accuracy 0.750", "rows: expected, columns: decided"]
    assert texts(svg).count("1") == 6
    cells = [cell.get("fill") for cell in svg.findall(f"{SVG}rect")[1:]]
    third, half = "rgb(170,170,255)", "rgb(128,128,255)"
    none = "#f4f4f4"
    assert cells == [third, third, third, none, "rgb(0,0,255)", none, half, none, half]
    light = [text.text for text in svg.iter(f"{SVG}text") if text.get("fill") == "white"]
    assert light == ["1"]


def test_odd_names_are_shown() -> None:
    """They are in the picture and in the text."""
    outcomes = [outcome(name, name, 0.5, name) for name in ODD_NAMES]
    result = evaluation_of(*outcomes, names=ODD_NAMES)
    shown, text = texts(parsed(result)), "\n".join(report_text(result))
    assert all(shown.count(name) == 2 for name in (*ODD_NAMES, NO_ROUTE))
    assert all(text.count(name) >= 2 for name in (*ODD_NAMES, NO_ROUTE))


def test_characters_that_xml_forbids_are_replaced() -> None:
    """Control characters and half surrogate pairs become question marks."""
    result = evaluation_of(*OUTCOMES, names=("\x00\x1b\ud800", "two\nlines"))
    result = replace(result, labelled=replace(result.labelled, file="\udcff.jsonl"))
    shown = texts(parsed(result))
    assert shown[0] == "?.jsonl: accuracy 0.750"
    assert (shown.count("???"), shown.count("two?lines")) == (2, 2)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_picture_has_room_for_all_cells(count: int) -> None:
    """Every row and column is inside, and each name appears twice."""
    svg = parsed(many(count))
    size: Json = {side: int(svg.get(side) or 0) for side in ("width", "height")}
    for cell in svg.findall(f"{SVG}rect")[1:]:
        assert int(cell.get("x") or 0) + 22 <= size["width"]
        assert int(cell.get("y") or 0) + 22 <= size["height"]
    assert len(svg.findall(f"{SVG}rect")) == 1 + (count + 1) ** 2
    assert all(texts(svg).count(f"route {number}") == 2 for number in range(count))


@pytest.mark.parametrize("indent", [None, 2])
def test_report_is_read(indent: int | None, tmp_path: Path) -> None:
    """A file that is missing or not JSON as a whole is not a report, and may be a set."""
    file = tmp_path / "report.json"
    assert read_report(file) is None
    file.write_text(json.dumps(report_json(FOUND), indent=indent), "utf-8")
    assert read_report(file) == report_json(FOUND)
    file.write_text('{"routes": []}\n{"messages": []}\n', "utf-8")
    assert read_report(file) is None
    file.write_bytes(b"\xff")
    assert read_report(file) is None


@pytest.mark.parametrize(
    ("content", "places"),
    [
        ({"confusion": []}, "file, latency_ms, routes"),
        ({"file": "x", "latency_ms": {}, "routes": [{"name": 1, "recall": "a"}], "auroc": "b"}, "latency_ms.p50, routes[0].name, routes[0].recall, auroc"),
        ({"file": 1, "latency_ms": 2, "routes": 3, "accuracy": "4", "decided": "5", "auroc": "6"}, "file, latency_ms, routes, accuracy, decided"),
        ([1, 2], "all"),
        (None, "all"),
        ({"routes": [{"name": "a", "description": "b"}]}, "file, latency_ms, routes[0].recall"),
    ],
)  # fmt: skip
def test_invalid_report_is_refused(content: Json, places: str, tmp_path: Path) -> None:
    """One problem lists at most five missing or invalid parts."""
    file = tmp_path / "other.json"
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ConfigError) as caught:
        read_report(file)
    assert str(caught.value) == (
        f"{file} has 1 problem:\n  not a report of `fingerpost eval --json`, nor a labelled "
        f"set; missing or invalid: {places}"
    )
