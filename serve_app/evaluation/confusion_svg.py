"""Draws the confusion matrix as SVG."""

from typing import Final
from xml.etree import ElementTree as ET

from serve_app.evaluation.measure import Evaluation
from serve_app.evaluation.report import decision_names

_CELL: Final = 22
_MARGIN: Final = 190
_DARK: Final = 0.55


def as_svg(evaluation: Evaluation) -> bytes:
    """The confusion matrix as SVG; the cells of a row add up to the cases of that route."""
    names, counts = decision_names(evaluation), evaluation.confusion()
    size = _MARGIN + _CELL * len(names)
    style = "font-family: sans-serif; font-size: 11px"
    svg = ET.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", width=str(size + 20), height=str(size + 40)
    )
    svg.set("style", style)
    ET.SubElement(svg, "rect", width="100%", height="100%", fill="white")
    _write(svg, (8, 16), f"{evaluation.labelled.file}: accuracy {evaluation.accuracy:.3f}")
    _write(svg, (8, 32), "rows: expected, columns: decided")
    for row, expected in enumerate(names):
        y = _MARGIN + _CELL * row
        total = sum(counts[expected, decided] for decided in names)
        _write(svg, (_MARGIN - 6, y + 15), expected, anchor="end")
        _write(svg, (_MARGIN + _CELL * row + 15, _MARGIN - 6), expected, rotated=True)
        for column, decided in enumerate(names):
            count = counts[expected, decided]
            _cell(svg, _MARGIN + _CELL * column, y, count / total if total else 0.0, count)
    content: bytes = ET.tostring(svg, encoding="utf-8", xml_declaration=True)
    return content


def _cell(svg: ET.Element, x: int, y: int, share: float, count: int) -> None:
    shade = round(255 * (1 - share))
    ET.SubElement(
        svg, "rect", x=str(x), y=str(y), width=str(_CELL - 1), height=str(_CELL - 1),
        fill=f"rgb({shade},{shade},255)" if count else "#f4f4f4",
    )  # fmt: skip
    if count:
        _write(svg, (x + 10, y + 15), str(count), anchor="middle", light=share > _DARK)


def _write(
    svg: ET.Element,
    at: tuple[int, int],
    text: str,
    *,
    anchor: str = "start",
    rotated: bool = False,
    light: bool = False,
) -> None:
    x, y = at
    element = ET.SubElement(svg, "text", x=str(x), y=str(y))
    element.set("text-anchor", anchor)
    element.set("fill", "white" if light else "black")
    if rotated:
        element.set("transform", f"rotate(-60 {x} {y})")
    # XML does not allow control characters
    element.text = "".join(char if char.isprintable() else "?" for char in text)
