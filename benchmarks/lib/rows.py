"""A row of the overhead benchmark, and what routing adds to one."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of the rounds for one load and variant."""

    load: str
    variant: str
    rps: float
    p50: float
    p99: float
    first_byte_p50: float
    cpu_ms: float
    cpu_raw_ms: float
    errors: int
    cpu_by_role_ms: dict[str, float]
    rounds_cpu_ms: list[float]
    rounds_cpu_raw_ms: list[float]


def routing_lines(rows: Sequence[Row]) -> list[str]:
    """Returns what a decision adds to a request that names its model."""
    named = {row.load: row for row in rows if row.variant == "fingerpost-inline"}
    routed = [row for row in rows if row.variant.startswith("routed-") and row.load in named]
    if not routed:
        return []
    lines = ["", "What routing adds to a request that names its model:", ""]
    lines += ["| load | the model is | p50 ms | CPU ms/req |", "|---|---|--:|--:|"]
    for row in routed:
        base, how = named[row.load], row.variant.removeprefix("routed-")
        added = f"{row.p50 - base.p50:+.2f} | {row.cpu_ms - base.cpu_ms:+.3f}"
        lines.append(f"| {row.load} | {how} | {added} |")
    return lines
