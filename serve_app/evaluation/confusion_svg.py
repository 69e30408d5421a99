"""Draws the confusion matrix as SVG."""

from typing import Final
from xml.etree import ElementTree as ET

from serve_app.evaluation.measure import Evaluation
from serve_app.evaluation.report import (
    _names,
)

_CELL: Final = 22
_MARGIN: Final = 190
_DARK: Final = 0.55


def as_svg(evaluation: Evaluation) -> bytes:
    """The confusion matrix as a picture; a row adds up to the cases that were expected there."""
    names, counts = _names(evaluation), evaluation.confusion()
    size = _MARGIN + _CELL * len(names)
    style = "font-family: sans-serif; font-size: 11px"
    svg = ET.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", width=str(size + 20), height=str(size + 40)
    )
    svg.set("style", style)
    ET.SubElement(svg, "rect", width="100%", height="100%", fill="white")
    _say(svg, (8, 16), f"{evaluation.labelled.file}: accuracy {evaluation.accuracy:.3f}")
    _say(svg, (8, 32), "rows: expected, columns: decided")
    for row, wish in enumerate(names):
        y = _MARGIN + _CELL * row
        total = sum(counts[wish, said] for said in names)
        _say(svg, (_MARGIN - 6, y + 15), wish, anchor="end")
        _say(svg, (_MARGIN + _CELL * row + 15, _MARGIN - 6), wish, turned=True)
        for column, said in enumerate(names):
            share = counts[wish, said] / total if total else 0.0
            _cell(svg, _MARGIN + _CELL * column, y, share, counts[wish, said])
    content: bytes = ET.tostring(svg, encoding="utf-8", xml_declaration=True)
    return content


def _cell(svg: ET.Element, x: int, y: int, share: float, count: int) -> None:
    shade = round(255 * (1 - share))
    ET.SubElement(
        svg, "rect", x=str(x), y=str(y), width=str(_CELL - 1), height=str(_CELL - 1),
        fill=f"rgb({shade},{shade},255)" if count else "#f4f4f4",
    )  # fmt: skip
    if count:
        _say(svg, (x + 10, y + 15), str(count), anchor="middle", light=share > _DARK)


def _say(
    svg: ET.Element,
    at: tuple[int, int],
    text: str,
    *,
    anchor: str = "start",
    turned: bool = False,
    light: bool = False,
) -> None:
    x, y = at
    said = ET.SubElement(svg, "text", x=str(x), y=str(y))
    said.set("text-anchor", anchor)
    said.set("fill", "white" if light else "black")
    if turned:
        said.set("transform", f"rotate(-60 {x} {y})")
    said.text = "".join(sign if sign.isprintable() else "?" for sign in text)  # or no XML
