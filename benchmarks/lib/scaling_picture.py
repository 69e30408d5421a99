"""Draws a run of autoscaling.py: replicas by deployment and open streams over time, as SVG."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree as ET

from benchmarks.lib.scaling import Replicas, Sample, ScalingRun

WIDTH: Final = 960
LEFT: Final = 236
RIGHT: Final = 24
TOP: Final = 80
_STRIP: Final = 46
_GAP: Final = 16
_MOST: Final = 2.0
"""Number of replicas, draining ones included, above which a strip changes its scale."""
_TICK_S: Final = 30
_LEGEND: Final = (("running", "running"), ("starting", "starting"), ("stopping", "draining"))
_STYLE: Final = """
.page { fill: #ffffff; }
.phase { fill: #f0f3f6; }
.axis { stroke: #8c959f; stroke-width: 1; fill: none; }
.grid { stroke: #d0d7de; stroke-width: 0.5; }
.running { fill: #0969da; }
.stopping { fill: #9ccbff; }
.starting { fill: #d4a72c; }
.streams { fill: none; stroke: #1a7f37; stroke-width: 2; }
.haproxies { fill: none; stroke: #8250df; stroke-width: 2; }
rect { shape-rendering: crispEdges; }
text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 12px;
  fill: #24292f; }
.note { fill: #57606a; }
.title { font-size: 14px; font-weight: 600; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; }
  .phase { fill: #1b222c; }
  .axis { stroke: #6e7681; }
  .grid { stroke: #30363d; }
  .running { fill: #58a6ff; }
  .stopping { fill: #1f4b80; }
  .starting { fill: #bb8009; }
  .streams { stroke: #3fb950; }
  .haproxies { stroke: #a371f7; }
  text { fill: #e6edf3; }
  .note { fill: #9da7b3; }
}
"""


class _Chart:
    """The drawing and its time axis."""

    def __init__(self, run: ScalingRun, strips: int) -> None:
        self.height = TOP + strips * (_STRIP + _GAP) + 30
        self.ends_at = max(sample.at for sample in run.samples)
        self.svg = ET.Element(
            "svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {self.height}",
            role="img",
        )  # fmt: skip
        ET.SubElement(self.svg, "style").text = _STYLE
        self.rect("page", (0, 0), (WIDTH, self.height))

    def x(self, at: float) -> float:
        """Returns the position of a moment."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * at / self.ends_at, 1)

    def rect(self, kind: str, at: tuple[float, float], size: tuple[float, float]) -> ET.Element:
        """Draws a filled rectangle."""
        (x, y), (width, height) = at, size
        numbers = {"x": x, "y": y, "width": width, "height": height}
        attributes = {name: f"{round(number, 1):g}" for name, number in numbers.items()}
        return ET.SubElement(self.svg, "rect", {"class": kind, **attributes})

    def line(self, kind: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draws a straight line."""
        attributes = dict(
            zip(("x1", "y1", "x2", "y2"), (f"{one:g}" for one in (*start, *end)), strict=True)
        )
        ET.SubElement(self.svg, "line", {"class": kind, **attributes})

    def text(
        self, at: tuple[float, float], content: str, kind: str = "", anchor: str = "start"
    ) -> None:
        """Draws a text; ``anchor`` names the end of it that is at ``at``."""
        attributes = {"class": kind} if kind else {}
        element = ET.SubElement(
            self.svg,
            "text",
            {"x": f"{at[0]:g}", "y": f"{at[1]:g}", "text-anchor": anchor, **attributes},
        )
        element.text = content


def picture(run: ScalingRun) -> bytes:
    """Returns the picture as SVG with styles for light and dark pages."""
    names = _names(run)
    chart = _Chart(run, len(names) + 2)
    _head(chart, run)
    for index, name in enumerate(names):
        _replicas(chart, run, name, _base(index))
    _steps(chart, run, _base(len(names)), "streams", "open streams", lambda one: one.streams)
    text = "HAProxy processes"
    _steps(chart, run, _base(len(names) + 1), "haproxies", text, lambda one: one.haproxies)
    _axis(chart)
    content: bytes = ET.tostring(chart.svg, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _names(run: ScalingRun) -> list[str]:
    """Returns the deployments of the phases in turn, then the rest."""
    scaled = [phase.deployment for phase in run.phases]
    rest = {name for sample in run.samples for name in sample.replicas} - set(scaled)
    return [*dict.fromkeys(scaled), *sorted(rest)]


def _base(index: int) -> float:
    """Returns the position of the base line of a strip."""
    return TOP + index * (_STRIP + _GAP) + _STRIP


def _head(chart: _Chart, run: ScalingRun) -> None:
    cut = sum(bool(stream.fault) for stream in run.streams)
    title = f"Replicas and streams: {cut} of {len(run.streams)} streams cut"
    ET.SubElement(chart.svg, "title").text = title
    chart.text((16, 24), title, "title")
    x = 16.0
    for kind, name in _LEGEND:
        chart.rect(kind, (x, 36), (12, 12))
        chart.text((x + 18, 46), name)
        x += 84
    bottom = chart.height - 30
    for number, phase in enumerate(run.phases, 1):
        start, eased = chart.x(phase.began), chart.x(phase.eased)
        chart.rect("phase", (start, TOP - 14), (eased - start, bottom - TOP + 14))
        chart.text(((start + eased) / 2, TOP - 2), str(number), "note", "middle")
    loads = [f"{number}: {phase.what}" for number, phase in enumerate(run.phases, 1)]
    chart.text((WIDTH - RIGHT, 46), " \N{MIDDLE DOT} ".join(loads), "note", "end")


def _axis(chart: _Chart) -> None:
    bottom = chart.height - 30
    chart.line("axis", (LEFT, bottom), (WIDTH - RIGHT, bottom))
    for second in range(0, int(chart.ends_at) + 1, _TICK_S):
        x = chart.x(second)
        chart.line("axis", (x, bottom), (x, bottom + 4))
        chart.text((x, bottom + 18), f"{second} s", "note", "middle")


def _replicas(chart: _Chart, run: ScalingRun, name: str, base: float) -> None:
    """Draws running replicas from the base line up, draining ones on them, starting ones on top."""
    counts = [(sample.at, sample.replicas.get(name, Replicas())) for sample in run.samples]
    most = max(_MOST, *(one.starting + one.running + one.stopping for _, one in counts))
    unit = _STRIP / most
    _label(chart, base, name, round(most), unit)
    for start, end, one in _spans(counts, chart.ends_at):
        y = base
        for kind in ("running", "stopping", "starting"):
            height = getattr(one, kind) * unit
            if height:
                y -= height
                x = chart.x(start)
                chart.rect(kind, (x, y), (max(1.0, chart.x(end) - x), height))


def _spans(
    counts: Sequence[tuple[float, Replicas]], ends_at: float
) -> Iterator[tuple[float, float, Replicas]]:
    """Yields the spans of time without a change."""
    changes = [counts[0], *(two for one, two in pairwise(counts) if one[1] != two[1])]
    for (start, one), (end, _) in pairwise([*changes, (ends_at, Replicas())]):
        yield start, end, one


def _steps(
    chart: _Chart, run: ScalingRun, base: float, kind: str, name: str, of: Callable[[Sample], int]
) -> None:
    """Draws a number over time as steps."""
    most = max(_MOST, *(of(sample) for sample in run.samples))
    unit = _STRIP / most
    _label(chart, base, name, round(most), unit)
    path, before = "", None
    for sample in run.samples:
        now = of(sample)
        if now != before:
            y = round(base - now * unit, 1)
            path += f" H{chart.x(sample.at):g} V{y:g}" if path else f"M{chart.x(sample.at):g} {y:g}"
            before = now
    ET.SubElement(chart.svg, "path", {"class": kind, "d": f"{path} H{chart.x(chart.ends_at):g}"})


def _label(chart: _Chart, base: float, name: str, most: int, unit: float) -> None:
    chart.text((LEFT - 26, base - _STRIP / 2 + 4), name, anchor="end")
    for number in (0, most):
        y = round(base - number * unit, 1)
        chart.line("grid", (LEFT, y), (WIDTH - RIGHT, y))
        chart.text((LEFT - 6, y + 4), str(number), "note", "end")
