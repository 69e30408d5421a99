"""A report on traffic as one page without scripts and without anything from elsewhere."""

from typing import Final
from xml.etree import ElementTree as ET

from serve_app.evaluation.traffic.charts import charts
from serve_app.evaluation.traffic.tables import ReportTable, overview, report_tables
from serve_app.evaluation.traffic.totals import Traffic

_TITLE: Final = "Fingerpost: report"
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; font-family: sans-serif; }
body { margin: 1rem auto; max-width: 75rem; padding: 0 1rem; }
pre { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.6rem; text-align: right; }
th:first-child, td:first-child, .text { text-align: left; }
tr + tr { border-top: 1px solid #8c959f66; }
.charts { align-items: start; display: flex; flex-wrap: wrap; gap: 1rem; }
.charts svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
"""


def as_html(traffic: Traffic, notes: list[str]) -> bytes:
    """The page; ``notes`` are lines at its end, such as damaged files."""
    page = ET.Element("html", lang="en")
    head = ET.SubElement(page, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
    ET.SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    ET.SubElement(head, "title").text = _TITLE
    ET.SubElement(head, "style").text = _STYLE
    body = ET.SubElement(page, "body")
    ET.SubElement(body, "h1").text = _TITLE
    ET.SubElement(body, "pre").text = printable("\n".join(overview(traffic)))
    pictures = ET.SubElement(body, "div", {"class": "charts"})
    pictures.extend(charts(traffic).values())
    for table in report_tables(traffic):
        _add_table(body, table)
    for note in notes:
        ET.SubElement(body, "p").text = printable(note)
    text = ET.tostring(page, encoding="unicode", method="html")
    return f"<!doctype html>\n{text}\n".encode()


def printable(text: str) -> str:
    """A text without control characters, which HTML does not allow, and without half surrogates."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def _add_table(body: ET.Element, table: ReportTable) -> None:
    ET.SubElement(body, "h2").text = table.title
    wide = ET.SubElement(body, "div", {"class": "wide"})
    element = ET.SubElement(wide, "table")
    row = ET.SubElement(element, "tr")
    for head in table.heads:
        ET.SubElement(row, "th", scope="col").text = head
    for cells in table.rows:
        row = ET.SubElement(element, "tr")
        for column, cell in enumerate(cells):
            kind = {"class": "text"} if column < table.text_columns else {}
            ET.SubElement(row, "td", kind).text = printable(cell)
    if table.note:
        ET.SubElement(body, "p").text = table.note
