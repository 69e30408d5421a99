"""The run of benchmarks/autoscaling.py: verdicts, figures, and the picture."""

import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest

from tests.scripts import events

BENCHMARKS: Final = Path(__file__).parents[3] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
try:
    scaling, pictures, whole = map(import_module, ("scaling", "scaling_picture", "whole_stream"))
finally:
    sys.path.remove(str(BENCHMARKS))

SVG: Final = "{http://www.w3.org/2000/svg}"
ONE, UP, TWO, DOWN = (
    scaling.Replicas(0, 1, 0),
    scaling.Replicas(1, 1, 0),
    scaling.Replicas(0, 2, 0),
    scaling.Replicas(0, 1, 1),
)
PATH: Final = (ONE, ONE, ONE, UP, TWO, TWO, TWO, TWO, DOWN, DOWN, DOWN, ONE, ONE)


def found(path: tuple[Any, ...] = PATH, other: tuple[Any, ...] = (ONE,)) -> Any:
    """A second between samples; the load is from 2 to 7."""
    samples = [
        scaling.Sample(float(at), {"A": one, "B": other[at % len(other)]}, at and 2, 1)
        for at, one in enumerate(path)
    ]
    load = scaling.Phase("A", "3 clients, answers", 2.0, 7.0, 11.5, 30, {"route": 30}, 0, "")
    long = scaling.Stream(0.5, 12.0, 9, 9, "", "")
    return scaling.Found(samples, [load], [long, replace(long, began=5.0, ended=8.0, phase="A")])


def broken(seen: Any) -> list[str]:
    return [one.name for one in scaling.judge(seen) if not one.holds]


def test_a_good_run_holds() -> None:
    """And its times are those between the load's ends and the samples."""
    assert broken(found()) == []
    assert scaling.scaling(found().samples, found().phases[0]) == scaling.Scaling(
        (1, 2, 1), starts_s=1.0, up_s=2.0, down_s=1.0, drained_s=3.0
    )


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (found((ONE,) * 13), "A goes 1 -> 2 -> 1"),
        (found((*PATH[:8], *(TWO,) * 4, ONE)), "A goes 1 -> 2 -> 1"),
        (found((*PATH[:9], TWO, DOWN, ONE, ONE)), "A goes 1 -> 2 -> 1"),
        (found(other=PATH), "all others stay at 1, all the time"),
        (found((*PATH[:12], UP)), "all others stay at 1, all the time"),
    ],
)
def test_what_scaled_otherwise_is_told(seen: Any, verdict: str) -> None:
    """Not at all, only up, to and fro, or together with another."""
    assert broken(seen) == [verdict]


def test_what_was_never_seen_has_no_time() -> None:
    """The table says so."""
    stuck = found((ONE,) * 13)
    assert scaling.scaling(stuck.samples, stuck.phases[0]).up_s is None
    assert "| never | never | never | never |" in scaling.table(stuck)


def test_streams_and_loads_are_judged() -> None:
    """A cut stream, one that ended too early, and a bad answer each break their own verdict."""
    good = found()
    long, late = good.streams
    cut = replace(good, streams=[replace(long, fault="no end"), late])
    assert broken(cut) == ["every event of the long streams arrives, in order"]
    cut = replace(good, streams=[long, replace(late, fault="no end")])
    assert broken(cut) == ["every event of the late streams arrives, in order"]
    (early,) = broken(replace(good, streams=[replace(long, ended=11.0), late]))
    assert early.startswith("long streams run from before")
    for phase in (
        replace(good.phases[0], faults=1, first_fault="503"),
        replace(good.phases[0], requests=0),
    ):
        (bad,) = broken(replace(good, phases=[phase]))
        assert bad == "every request of the loads has a good answer"
    late = replace(good.phases[0], outcomes={"route": 3, "orchestrator_timeout": 1})
    (bad,) = broken(replace(good, phases=[late]))
    assert bad == "the Orchestrator makes every decision that it is asked for"
    assert "1 of 4 left to the default" in scaling.table(replace(good, phases=[late]))


def test_results_are_read_back() -> None:
    """As they are written."""
    told = json.loads(json.dumps(found().facts()))
    assert scaling.judge(scaling.Found.of(told)) == scaling.judge(found())


def _box(rect: ET.Element) -> tuple[str, float, float, float, float]:
    x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
    return rect.attrib["class"], x, y, width, height


def test_the_picture_shows_each_deployment_within_its_frame() -> None:
    """Running, starting and draining replicas stand on one another, and nothing overlaps a strip."""
    root = ET.fromstring(pictures.picture(found()))  # noqa: S314 - our own
    width, height = (float(one) for one in root.attrib["viewBox"].split()[2:])
    boxes = [_box(rect) for rect in root.iter(f"{SVG}rect")]
    for _, x, y, wide, high in boxes:
        assert 0 <= x <= x + wide <= width
        assert 0 <= y <= y + high <= height
    legend = [kind for kind, x, *_ in boxes if x < pictures.LEFT]
    assert legend == ["page", "running", "starting", "stopping"]
    drawn = [(kind, y + high) for kind, x, y, _, high in boxes if x >= pictures.LEFT]
    running = {bottom for kind, bottom in drawn if kind == "running"}
    assert len(running) == 2  # a ground for each deployment
    assert all(bottom < max(running) for kind, bottom in drawn if kind == "stopping")
    assert len(root.findall(f"{SVG}path")) == 2
    texts = {one.text for one in root.iter(f"{SVG}text")}
    assert {"A", "B", "open streams", "0 s", "Replicas and streams: 0 of 2 streams cut"} <= texts


async def _heard(lines: list[bytes], wanted: int) -> str:
    said = whole.Said(wanted)
    said.status = 200
    for line in lines:
        said.hear(line)
    return str(said.fault())


async def test_a_stream_is_whole_or_not() -> None:
    """Each event counts, in its place, and so do the end and what is no event."""
    lines = [part async for part in events(7)]
    assert await _heard(lines, 7) == ""
    assert await _heard(lines, 8) == "7 of 8 events"
    assert "event 3 is out of place" in await _heard([*lines[:4], *lines[5:]], 7)
    assert await _heard(lines[:-1], 7) == "no end"
    assert await _heard([*lines[:-2], lines[-1]], 7) == "no end"
    error = b'data: {"error": {"message": "broken"}}\n'
    assert "broken" in await _heard([*lines, error], 7)


RESULTS: Final = sorted((BENCHMARKS / "results").glob("autoscaling*.json"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_recorded_pictures_and_reports_are_those_of_the_recorded_figures(file: Path) -> None:
    """Nothing in them was written by hand."""
    told = json.loads(file.read_text())
    seen = scaling.Found.of(told)
    assert pictures.picture(seen) == file.with_suffix(".svg").read_bytes()
    text = scaling.markdown(told, seen, file.with_suffix(".svg").name)
    assert text == file.with_suffix(".md").read_text()


def test_the_recorded_run_holds() -> None:
    """All of it; and with HAProxy's short stop, streams were cut and nothing else was wrong."""
    whole_run, cut = (json.loads(file.read_text())["verdicts"] for file in RESULTS)
    assert [one["name"] for one in whole_run if not one["holds"]] == []
    assert any("streams arrives" in one["name"] and not one["holds"] for one in cut)
    assert all(one["holds"] for one in cut if "goes 1 -> 2 -> 1" in one["name"])
