"""A report on traffic as pictures, SVG."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from xml.etree import ElementTree as ET

from serve_app.evaluation.svg import canvas, write
from serve_app.evaluation.traffic.tables import ms_text, usd_text
from serve_app.evaluation.traffic.totals import CONFIDENCE_BINS, RequestTotals, Traffic, largest

_MAX_BARS: Final = 15
_MAX_COLUMNS: Final = 400
_MAX_HOURS: Final = 72
_NAME_WIDTH: Final = 190
_BAR_WIDTH: Final = 300
_ROW: Final = 20
_TOP: Final = 30
_HEIGHT: Final = 160
_LEFT: Final = 60
_LABELS: Final = 12
_MAX_NAME: Final = 30


class Bar(NamedTuple):
    """A value with its name; ``wrong`` is the part of it that failed."""

    name: str
    value: float
    shown: str
    wrong: float = 0.0


def charts(traffic: Traffic) -> dict[str, ET.Element]:
    """Every picture that has something to show, by a name for its file."""
    requests, decisions = traffic.requests, traffic.decisions
    found: dict[str, ET.Element | None] = {
        "requests": _columns("Requests, and failed ones", _over_time(requests)),
        "cost": _columns(
            "Cost by day, USD",
            [
                Bar(day, one.usd, usd_text(one.usd))
                for day, one in sorted(requests.by["day"].items())
            ],
        ),
        "latency": _bars("Latency in ms: p50, p90, p99", _latencies(requests)),
        "failures": _bars(
            "Failures of providers",
            [
                Bar(f"{provider}: {kind}", times, f"{times:,}", times)
                for (provider, kind), times in requests.failures.most_common(_MAX_BARS)
            ],
        ),
    }
    for name in ("route", "model", "client", "team"):
        group = requests.by[name]
        found[f"requests_by_{name}"] = _bars(
            f"Requests by {name}, and failed ones",
            [
                Bar(key, one.requests, f"{one.requests:,}", one.failed)
                for key, one in largest(group)
            ],
        )
        costly = sorted(group.items(), key=lambda item: (-item[1].usd, item[0]))
        found[f"cost_by_{name}"] = _bars(
            f"Cost by {name}, USD", [Bar(key, one.usd, usd_text(one.usd)) for key, one in costly]
        )
    found["probability"] = _columns("Probability of the best route", _probability(traffic))
    found["decisions_by_route"] = _bars(
        "Decisions by content",
        [
            Bar(name, one["decisions"], f"{one['decisions']:,}")
            for name, one in sorted(
                decisions.routes.items(), key=lambda item: (-item[1]["decisions"], item[0])
            )
        ],
    )
    return {name: chart for name, chart in found.items() if chart is not None}


def as_svg_file(chart: ET.Element) -> bytes:
    """A picture as the content of a file."""
    content: bytes = ET.tostring(chart, encoding="utf-8", xml_declaration=True)
    return content


def _over_time(requests: RequestTotals) -> list[Bar]:
    """Requests by hour, or by day where these are many."""
    if len(requests.hours) > _MAX_HOURS:
        days: Mapping[str, tuple[int, int]] = {
            day: (one.requests, one.failed) for day, one in requests.by["day"].items()
        }
    else:
        days = {f"{hour}h": (count, wrong) for hour, (count, wrong) in requests.hours.items()}
    return [Bar(name, count, f"{count:,}", wrong) for name, (count, wrong) in sorted(days.items())]


def _latencies(requests: RequestTotals) -> list[Bar]:
    bars = []
    for name, one in requests.latencies.items():
        for share in (0.5, 0.9, 0.99):
            value = one.at(share)
            if value is not None:
                bars.append(
                    Bar(f"{name.replace('_', ' ')} p{share * 100:g}", value, ms_text(value))
                )
    return bars


def _probability(traffic: Traffic) -> list[Bar]:
    return [
        Bar(f"{place / CONFIDENCE_BINS:.1f}", times, f"{times:,}")
        for place, times in enumerate(traffic.confidence.counts)
    ]


def _bars(title: str, bars: Sequence[Bar]) -> ET.Element | None:
    """Horizontal bars. Returns None if all are empty."""
    shown = [bar for bar in bars if bar.value > 0][:_MAX_BARS]
    if not shown:
        return None
    most = max(bar.value for bar in shown)
    svg = _titled(title, _NAME_WIDTH + _BAR_WIDTH + 90, _TOP + _ROW * len(shown) + 10)
    for place, bar in enumerate(shown):
        y, width = _TOP + _ROW * place, _BAR_WIDTH * bar.value / most
        write(svg, (_NAME_WIDTH - 6, y + 13), _cut(bar.name), anchor="end")
        _rectangle(svg, (_NAME_WIDTH, y), (width, _ROW - 4), "right")
        _rectangle(svg, (_NAME_WIDTH, y), (width * bar.wrong / bar.value, _ROW - 4), "wrong")
        write(svg, (_NAME_WIDTH + width + 6, y + 13), bar.shown)
    return svg


def _columns(title: str, bars: Sequence[Bar]) -> ET.Element | None:
    """Columns, such as values over time; the newest ones. Returns None if all are empty."""
    shown = bars[-_MAX_COLUMNS:]
    most = max((bar.value for bar in shown), default=0)
    if most <= 0:
        return None
    step = max(6.0, min(40.0, 600 / len(shown)))
    bottom = _TOP + _HEIGHT
    svg = _titled(title, round(_LEFT + max(step * len(shown), 300) + 60), bottom + 90)
    write(svg, (_LEFT - 6, _TOP + 10), max(shown, key=lambda bar: bar.value).shown, anchor="end")
    write(svg, (_LEFT - 6, bottom), "0", anchor="end")
    every = -(-len(shown) // _LABELS)
    for place, bar in enumerate(shown):
        x, height = _LEFT + step * place, _HEIGHT * bar.value / most
        _rectangle(svg, (x, bottom - height), (step - 1, height), "right")
        if bar.wrong:
            wrong = height * bar.wrong / bar.value
            _rectangle(svg, (x, bottom - wrong), (step - 1, wrong), "wrong")
        if place % every == 0:
            write(svg, (x + step / 2, bottom + 14), _cut(bar.name), rotation=45)
    return svg


def _titled(title: str, width: int, height: int) -> ET.Element:
    svg = canvas(width, height)
    svg.set("role", "img")
    svg.set("viewBox", f"0 0 {width} {height}")
    ET.SubElement(svg, "title").text = title
    write(svg, (8, 16), title)
    return svg


def _rectangle(
    svg: ET.Element, at: tuple[float, float], size: tuple[float, float], kind: str
) -> None:
    values = zip(("x", "y", "width", "height"), (*at, *size), strict=True)
    ET.SubElement(svg, "rect", {"class": kind, **{name: f"{value:.1f}" for name, value in values}})


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
