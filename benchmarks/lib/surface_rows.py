"""The rows of surfaces.py as text, for its report and for the page."""

from collections.abc import Mapping
from typing import Any, Final

from benchmarks.lib.script import verdict

BAR: Final = 1.5
BAR_TEXT: Final = (
    f"A translated stream is to cost at most {BAR:g} times what one of the same provider costs that "
    "is passed through. A client of responses can refer to an answer later, so the gateway keeps "
    "it: that is part of these figures."
)
HEAD: Final = (
    "answer",
    "client",
    "provider",
    "CPU ms/req",
    "p50 ms",
    "/ relay",
    "/ passed through",
    "holds",
)


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns a row as text; relays have no ratios."""
    figures = (f"{row['cpu_ms']:.3f}", f"{row['p50_ms']:.2f}")
    client = row["client"]
    if client is None:
        return (row["kind"], "(relay)", row["provider"], *figures, "", "", "")
    ratios = (f"{row['to_relay']:.2f}", f"{row['to_passed']:.2f}")
    holds = verdict(holds=row["holds"])
    return (row["kind"], client, row["provider"], *figures, *ratios, holds)
