"""The figures of benchmarks/autoscaling.py: verdicts, tables, and the picture."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest

from benchmarks.lib import scaling
from benchmarks.lib import scaling_picture as pictures
from benchmarks.lib.paths import RESULTS
from benchmarks.lib.whole_stream import StreamCheck
from tests.scripts import events

SVG: Final = "{http://www.w3.org/2000/svg}"
ONE, UP, TWO, DOWN = (
    scaling.Replicas(0, 1, 0),
    scaling.Replicas(1, 1, 0),
    scaling.Replicas(0, 2, 0),
    scaling.Replicas(0, 1, 1),
)
PATH: Final = (ONE, ONE, ONE, UP, TWO, TWO, TWO, TWO, DOWN, DOWN, DOWN, ONE, ONE)


def run_of(path: tuple[Any, ...] = PATH, other: tuple[Any, ...] = (ONE,)) -> scaling.ScalingRun:
    """Returns a run with a sample each second and a load from 2 to 7."""
    samples = [
        scaling.Sample(float(at), {"A": one, "B": other[at % len(other)]}, at and 2, 1)
        for at, one in enumerate(path)
    ]
    load = scaling.LoadPhase("A", "3 clients, answers", 2.0, 7.0, 11.5, 30, {"route": 30}, 0, "")
    long = scaling.StreamRecord(0.5, 12.0, 9, 9, "", "")
    return scaling.ScalingRun(
        samples, [load], [long, replace(long, began=5.0, ended=8.0, phase="A")]
    )


def broken(run: scaling.ScalingRun) -> list[str]:
    return [one.name for one in scaling.judge(run) if not one.holds]


def test_judge_accepts_a_correct_run() -> None:
    """Times are measured from the ends of the load to the samples."""
    assert broken(run_of()) == []
    assert scaling.scaling(run_of().samples, run_of().phases[0]) == scaling.Scaling(
        (1, 2, 1), starts_s=1.0, up_s=2.0, down_s=1.0, drained_s=3.0
    )


@pytest.mark.parametrize(
    ("run", "verdict"),
    [
        (run_of((ONE,) * 13), "A goes 1 -> 2 -> 1"),
        (run_of((*PATH[:8], *(TWO,) * 4, ONE)), "A goes 1 -> 2 -> 1"),
        (run_of((*PATH[:9], TWO, DOWN, ONE, ONE)), "A goes 1 -> 2 -> 1"),
        (run_of(other=PATH), "all others stay at 1, all the time"),
        (run_of((*PATH[:12], UP)), "all others stay at 1, all the time"),
    ],
)
def test_judge_rejects_other_paths(run: scaling.ScalingRun, verdict: str) -> None:
    """A deployment must scale up once and down once, and alone."""
    assert broken(run) == [verdict]


def test_table_shows_never_without_a_sample() -> None:
    """A run that does not scale has no times."""
    stuck = run_of((ONE,) * 13)
    assert scaling.scaling(stuck.samples, stuck.phases[0]).up_s is None
    assert "| never | never | never | never |" in scaling.table(stuck)


def test_judge_rejects_bad_streams_and_loads() -> None:
    """A cut stream, one that ended too early, and a bad answer each break their own verdict."""
    good = run_of()
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
    undecided = replace(good.phases[0], outcomes={"route": 3, "orchestrator_timeout": 1})
    (bad,) = broken(replace(good, phases=[undecided]))
    assert bad == "the Orchestrator makes every decision that it is asked for"
    assert "1 of 4 left to the default" in scaling.table(replace(good, phases=[undecided]))


def test_run_survives_json() -> None:
    """Verdicts from the results are those from the run."""
    facts = json.loads(json.dumps(run_of().facts()))
    assert scaling.judge(scaling.ScalingRun.of(facts)) == scaling.judge(run_of())


def _box(rect: ET.Element) -> tuple[str, float, float, float, float]:
    x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
    return rect.attrib["class"], x, y, width, height


def test_picture_shows_each_deployment_within_its_strip() -> None:
    """Running, draining and starting replicas are stacked, and no strip overlaps another."""
    root = ET.fromstring(pictures.picture(run_of()))  # noqa: S314 - made by this test
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


async def _fault_of(lines: list[bytes], expected: int) -> str:
    check = StreamCheck(expected)
    check.status = 200
    for line in lines:
        check.add(line)
    return check.fault()


async def test_stream_check_finds_each_fault() -> None:
    """Missing and misplaced events, a missing end, and an error event are faults."""
    lines = [part async for part in events(7)]
    assert await _fault_of(lines, 7) == ""
    assert await _fault_of(lines, 8) == "7 of 8 events"
    assert "event 3 is out of place" in await _fault_of([*lines[:4], *lines[5:]], 7)
    assert await _fault_of(lines[:-1], 7) == "no end"
    assert await _fault_of([*lines[:-2], lines[-1]], 7) == "no end"
    error = b'data: {"error": {"message": "broken"}}\n'
    assert "broken" in await _fault_of([*lines, error], 7)


RECORDED: Final = sorted(RESULTS.glob("autoscaling*.json"))


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_recorded_picture_and_report_match_the_recorded_figures(file: Path) -> None:
    """The code generates both, without later changes by hand."""
    result = json.loads(file.read_text())
    run = scaling.ScalingRun.of(result)
    assert pictures.picture(run) == file.with_suffix(".svg").read_bytes()
    text = scaling.markdown(result, run, file.with_suffix(".svg").name)
    assert text == file.with_suffix(".md").read_text()


def test_recorded_runs_have_the_expected_verdicts() -> None:
    """All verdicts hold; with a short hard stop of HAProxy, only those about streams fail."""
    whole_run, cut = (json.loads(file.read_text())["verdicts"] for file in RECORDED)
    assert [one["name"] for one in whole_run if not one["holds"]] == []
    assert any("streams arrives" in one["name"] and not one["holds"] for one in cut)
    assert all(one["holds"] for one in cut if "goes 1 -> 2 -> 1" in one["name"])
