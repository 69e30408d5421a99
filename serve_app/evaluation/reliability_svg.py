"""Draws the reliability of decisions: the share of right ones over their probability."""

from typing import Final
from xml.etree import ElementTree as ET

from serve_app.evaluation.reliability import BINS, Reliability
from serve_app.evaluation.svg import write

WIDTH: Final = 330
HEIGHT: Final = 416

_SIDE: Final = 250
_LEFT: Final = 50
_TOP: Final = 66
_STRIP: Final = 40
"""Height of the strip with the number of cases."""

_BAR: Final = _SIDE / BINS
_INSET: Final = 1.5


def draw_reliability(svg: ET.Element, reliability: Reliability, left: int) -> None:
    """Adds the diagram, ``WIDTH`` by ``HEIGHT``, with its left edge at ``left``.

    Each bar is the share of right decisions, the red line across it their mean probability; where
    both meet, the probability means what it says. Below are the numbers of cases.
    """
    group = ET.SubElement(svg, "g", transform=f"translate({left} 0)")
    error = reliability.calibration_error
    write(group, (8, 16), f"reliability: expected calibration error {error:.3f}")
    write(group, (8, 32), "bar: share of right decisions")
    write(group, (8, 48), "red line: their mean probability")
    most = max(one.cases for one in reliability.bins)
    strip_top = _TOP + _SIDE + 24
    for index, one in enumerate(reliability.bins):
        x, width = _LEFT + index * _BAR + _INSET, _BAR - 2 * _INSET
        if one.right is not None and one.probability is not None:
            _box(group, "right", (x, _y(one.right)), (width, _SIDE * one.right))
            y = _y(one.probability)
            _line(group, "gap", (x, y), (x + width, y))
            height = _STRIP * one.cases / most
            _box(group, "share", (x, strip_top + _STRIP - height), (width, height))
            middle = (x + width / 2, strip_top + _STRIP + 13)
            write(group, middle, str(one.cases), anchor="middle")
    _box(group, "frame", (_LEFT, _TOP), (_SIDE, _SIDE))
    _line(group, "ideal", (_LEFT, _TOP + _SIDE), (_LEFT + _SIDE, _TOP))
    for tick in range(0, BINS + 1, 2):
        share = tick / BINS
        write(group, (_LEFT + _SIDE * share, _TOP + _SIDE + 14), f"{share:.1f}", anchor="middle")
        write(group, (_LEFT - 6, _y(share) + 4), f"{share:.1f}", anchor="end")
    write(group, (14, _TOP + _SIDE / 2), "right", anchor="middle", rotation=-90)
    write(group, (14, strip_top + _STRIP / 2), "cases", anchor="middle", rotation=-90)
    below = (_LEFT + _SIDE / 2, strip_top + _STRIP + 29)
    write(group, below, "probability of the decision, “no route” included", anchor="middle")


def _y(share: float) -> float:
    return _TOP + _SIDE * (1 - share)


def _box(
    parent: ET.Element, kind: str, corner: tuple[float, float], size: tuple[float, float]
) -> None:
    places = zip(("x", "y", "width", "height"), (*corner, *size), strict=True)
    ET.SubElement(parent, "rect", {"class": kind, **{name: f"{at:.1f}" for name, at in places}})


def _line(
    parent: ET.Element, kind: str, begin: tuple[float, float], end: tuple[float, float]
) -> None:
    places = zip(("x1", "y1", "x2", "y2"), (*begin, *end), strict=True)
    ET.SubElement(parent, "line", {"class": kind, **{name: f"{at:.1f}" for name, at in places}})
