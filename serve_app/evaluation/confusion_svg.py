"""Draws an evaluation as SVG: the confusion matrix, and the reliability beside it."""

from pathlib import PurePath
from typing import Final
from xml.etree import ElementTree as ET

from serve_app.evaluation.measure import Evaluation
from serve_app.evaluation.reliability import reliability_of
from serve_app.evaluation.reliability_svg import HEIGHT, WIDTH, draw_reliability
from serve_app.evaluation.report import decision_names
from serve_app.evaluation.svg import EMPTY, EMPTY_FILL, canvas, write

_CELL: Final = 22
_MARGIN: Final = 190
_DARK: Final = 0.55
_TITLE_WIDTH: Final = 280
"""Room for the title where the matrix is small."""


def as_svg(evaluation: Evaluation) -> bytes:
    """The confusion matrix as SVG; the cells of a row add up to the cases of that route.

    The reliability diagram is beside it if the engine returns probabilities.
    """
    names, counts = decision_names(evaluation), evaluation.confusion()
    reliability = reliability_of(evaluation.outcomes)
    size = _MARGIN + _CELL * len(names)
    left = max(size, _TITLE_WIDTH) + 20
    if reliability is None:
        svg = canvas(size + 20, size + 40)
    else:
        svg = canvas(left + WIDTH, max(size + 40, HEIGHT))
    name = PurePath(evaluation.labelled.file).name
    write(svg, (8, 16), f"{name}: accuracy {evaluation.accuracy:.3f}")
    write(svg, (8, 32), "rows: expected, columns: decided")
    for row, expected in enumerate(names):
        y = _MARGIN + _CELL * row
        total = sum(counts[expected, decided] for decided in names)
        write(svg, (_MARGIN - 6, y + 15), expected, anchor="end")
        write(svg, (_MARGIN + _CELL * row + 15, _MARGIN - 6), expected, rotation=-60)
        for column, decided in enumerate(names):
            count = counts[expected, decided]
            _cell(svg, _MARGIN + _CELL * column, y, count / total if total else 0.0, count)
    if reliability is not None:
        draw_reliability(svg, reliability, left)
    content: bytes = ET.tostring(svg, encoding="utf-8", xml_declaration=True)
    return content


def _cell(svg: ET.Element, x: int, y: int, share: float, count: int) -> None:
    shade = round(255 * (1 - share))
    cell = ET.SubElement(
        svg, "rect", x=str(x), y=str(y), width=str(_CELL - 1), height=str(_CELL - 1),
    )  # fmt: skip
    if not count:
        cell.set("class", EMPTY)
        cell.set("fill", EMPTY_FILL)
        return
    cell.set("fill", f"rgb({shade},{shade},255)")
    write(
        svg,
        (x + 10, y + 15),
        str(count),
        anchor="middle",
        fill="white" if share > _DARK else "black",
    )
