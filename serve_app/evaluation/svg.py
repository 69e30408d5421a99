"""Elements of the pictures of evaluations and reports. They are readable on light and on dark pages."""

from typing import Final
from xml.etree import ElementTree as ET

PAGE: Final = "page"
LABEL: Final = "label"
"""Class of a text on the page itself; a text on a coloured cell has none, and keeps its colour."""

EMPTY: Final = "empty"
"""Class of a cell without cases."""

EMPTY_FILL: Final = "#f4f4f4"

_STYLE: Final = """
.page { fill: #ffffff; }
.label { fill: #000000; }
.frame { fill: none; stroke: #8c959f; }
.ideal { stroke: #57606a; stroke-dasharray: 4 3; }
.right { fill: #0969da; }
.wrong { fill: #cf222e; }
.gap { fill: none; stroke: #cf222e; stroke-width: 2; }
.share { fill: #8c959f; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; }
  .label { fill: #e6edf3; }
  .empty { fill: #1b222c; }
  .frame { stroke: #6e7681; }
  .ideal { stroke: #9da7b3; }
  .right { fill: #58a6ff; }
  .wrong { fill: #ff7b72; }
  .gap { stroke: #ff7b72; }
  .share { fill: #6e7681; }
}
"""


def canvas(width: int, height: int) -> ET.Element:
    """An empty picture with a background."""
    svg = ET.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", width=str(width), height=str(height)
    )
    svg.set("style", "font-family: sans-serif; font-size: 11px")
    ET.SubElement(svg, "style").text = _STYLE
    ET.SubElement(svg, "rect", {"class": PAGE, "width": "100%", "height": "100%"})
    return svg


def write(
    parent: ET.Element,
    at: tuple[float, float],
    text: str,
    *,
    anchor: str = "start",
    rotation: int = 0,
    fill: str = "",
) -> None:
    """Adds a text; without ``fill`` it is a label on the page."""
    x, y = at
    element = ET.SubElement(parent, "text", x=f"{x:g}", y=f"{y:g}")
    element.set("text-anchor", anchor)
    if fill:
        element.set("fill", fill)
    else:
        element.set("class", LABEL)
    if rotation:
        element.set("transform", f"rotate({rotation} {x:g} {y:g})")
    # XML does not allow control characters
    element.text = "".join(char if char.isprintable() else "?" for char in text)
