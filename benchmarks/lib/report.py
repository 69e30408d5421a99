"""Figures of the overhead benchmark: from cells to medians, bars and tables. Pure functions."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean, median
from typing import Any, Final

from benchmarks.lib.loadgen import Figures, quantile
from benchmarks.lib.machine import headline
from benchmarks.lib.rows import Row, routing_lines
from benchmarks.lib.script import verdict

Usage = dict[str, dict[str, float]]
"""CPU seconds by server and role."""


@dataclass(frozen=True, slots=True)
class Window:
    """CPU time between two moments."""

    seconds: float
    used: Usage
    elsewhere_s: float
    """CPU seconds of processes outside the benchmark."""

    def cpu_s(self, server: str, idle: float = 0.0) -> float:
        """Returns the CPU seconds of a server; ``idle`` a second are its idle work."""
        return sum(self.used[server].values()) - idle * self.seconds

    def __add__(self, other: "Window") -> "Window":
        """Returns both windows together."""
        used = {
            server: {
                role: round(roles.get(role, 0.0) + other.used[server].get(role, 0.0), 3)
                for role in roles.keys() | other.used[server].keys()
            }
            for server, roles in self.used.items()
        }
        return Window(
            round(self.seconds + other.seconds, 3),
            used,
            round(self.elsewhere_s + other.elsewhere_s, 3),
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """One load on one variant in one round, or one turn of it."""

    round: int
    variant: str
    server: str
    load: str
    """The label of its workload."""
    window: Window
    figures: Figures

    @property
    def cpu_ms(self) -> float:
        """CPU per request, idle work included."""
        return self._per_request_ms(sum(self.window.used[self.server].values()))

    def corrected_ms(self, idle: "Idle") -> float:
        """Returns CPU per request without the idle work of the server."""
        return self.cpu_ms - self._per_request_ms(idle.rate(self.server) * self.window.seconds)

    def _per_request_ms(self, seconds: float) -> float:
        return seconds * 1e3 / max(1, self.figures.requests)

    def __add__(self, other: "Cell") -> "Cell":
        """Returns two turns together."""
        return replace(
            self, window=self.window + other.window, figures=self.figures + other.figures
        )

    def facts(self) -> dict[str, Any]:
        """Returns the cell for the raw results."""
        return {
            "round": self.round,
            "variant": self.variant,
            "load": self.load,
            "requests": self.figures.requests,
            "errors": self.figures.errors,
            "rps": round(self.figures.rps, 2),
            "p50_ms": round(self.figures.quantile(0.5), 4),
            "p99_ms": round(self.figures.quantile(0.99), 4),
            "first_byte_p50_ms": round(quantile(self.figures.first_bytes_ms, 0.5, math.nan), 4),
            "window": asdict(self.window),
        }

    def line(self) -> str:
        """Returns the cell as a line of the progress output."""
        figures = self.figures
        text = (
            f"round {self.round}  {self.load:<15} {self.variant:<21} "
            f"{figures.rps:8.0f}/s  p50 {figures.quantile(0.5):8.2f}  p99 {figures.quantile(0.99):8.2f} ms  "
            f"CPU {self.cpu_ms:7.3f} ms"
        )
        return text + (
            f"  {figures.errors} ERRORS: {figures.first_error}" if figures.errors else ""
        )


@dataclass(frozen=True, slots=True)
class Idle:
    """CPU time of servers while they had no requests."""

    seconds: dict[str, float]
    used: Usage

    @classmethod
    def of(cls, cells: Iterable[Cell], pause: Window) -> "Idle":
        """Returns idle work from the pause and from the cells of other servers."""
        used = {server: dict(roles) for server, roles in pause.used.items()}
        seconds = dict.fromkeys(used, pause.seconds)
        for cell in cells:
            for server, roles in cell.window.used.items():
                if server in (cell.server, "mock"):  # every cell sends requests to the mock
                    continue
                seconds[server] += cell.window.seconds
                for role, spent in roles.items():
                    used[server][role] = used[server].get(role, 0.0) + spent
        return cls(seconds, used)

    def rate(self, server: str) -> float:
        """Returns CPU seconds per second."""
        return sum(self.used[server].values()) / self.seconds[server]

    def by_role(self) -> Usage:
        """Returns the rates by role, largest first."""
        rates = {}
        for server, roles in self.used.items():
            ordered = sorted(roles.items(), key=lambda pair: -pair[1])
            rates[server] = {
                role: round(spent / self.seconds[server], 4) for role, spent in ordered
            }
        return rates


@dataclass(frozen=True, slots=True)
class Bar:
    """A ratio of CPU per request and its limit."""

    load: str
    """Unary or stream and the number of clients; ``together`` for the mean over all loads."""
    name: str
    ratio: float
    """The median of the rounds' ratios."""
    lowest: float
    highest: float
    raw_ratio: float
    """The ratio with idle work included."""
    wanted: str
    holds: bool | None
    """None without a limit."""


_BARS: Final = (
    ("fingerpost-inline", "raw-inline", "<=", 1.25),
    ("fingerpost-dedicated", "raw-hop", "<=", 1.15),
    ("litellm", "fingerpost-inline", ">=", 30.0),
    ("litellm", "fingerpost-dedicated", ">=", 10.0),
    ("fingerpost-inline", "ferrogw", "", 0.0),
    ("fingerpost-inline", "envoy", "", 0.0),
    ("fingerpost-inline", "other-inline", "<=", 1.03),
    ("fingerpost-dedicated", "other-dedicated", "<=", 1.03),
)
_CROWDS: Final = (("fingerpost-inline", "raw-inline"), ("fingerpost-dedicated", "raw-hop"))
_TRANSLATED: Final = ("stream", "translated")
_ONE_PROCESS: Final = ("mock", "litellm", "ferrogw", "envoy")


def elsewhere(cells: Sequence[Cell]) -> float:
    """Returns CPU seconds per second of processes outside the benchmark."""
    seconds = sum(cell.window.seconds for cell in cells)
    return round(sum(cell.window.elsewhere_s for cell in cells) / seconds, 3)


def medians(cells: Sequence[Cell], idle: Idle) -> list[Row]:
    """Returns a row for each load and variant, in the order of their first cells."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.load, cell.variant), []).append(cell)
    return [
        Row(
            load=load,
            variant=variant,
            rps=median(cell.figures.rps for cell in group),
            p50=median(cell.figures.quantile(0.5) for cell in group),
            p99=median(cell.figures.quantile(0.99) for cell in group),
            first_byte_p50=median(
                quantile(cell.figures.first_bytes_ms, 0.5, math.nan) for cell in group
            ),
            cpu_ms=median(cell.corrected_ms(idle) for cell in group),
            cpu_raw_ms=median(cell.cpu_ms for cell in group),
            errors=sum(cell.figures.errors for cell in group),
            cpu_by_role_ms=_by_role(group, idle),
            rounds_cpu_ms=[cell.corrected_ms(idle) for cell in group],
            rounds_cpu_raw_ms=[cell.cpu_ms for cell in group],
        )
        for (load, variant), group in groups.items()
    ]


def _by_role(group: Sequence[Cell], idle: Idle) -> dict[str, float]:
    """Returns mean CPU per request by role, without idle work and roles under 3 %."""
    server = group[0].server
    requests = max(1, sum(cell.figures.requests for cell in group))
    window_s = sum(cell.window.seconds for cell in group)
    rates = idle.by_role()[server]
    roles = {role for cell in group for role in cell.window.used[server]}
    spent = {
        role: (
            sum(c.window.used[server].get(role, 0.0) for c in group)
            - rates.get(role, 0.0) * window_s
        )
        * 1e3
        / requests
        for role in roles
    }
    ordered = sorted(spent.items(), key=lambda pair: -pair[1])
    least = 0.03 * sum(spent.values())
    return {role: round(each, 4) for role, each in ordered if each > least}


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Returns the ratios whose two variants were measured, by load and for all loads together."""
    rows_by_load = {(row.load, row.variant): row for row in rows}
    loads = list(dict.fromkeys(load for load, _ in rows_by_load))
    judged = []
    for above, below, sign, bound in _BARS:
        pairs = {
            load: (rows_by_load[load, above], rows_by_load[load, below])
            for load in loads
            if (load, above) in rows_by_load and (load, below) in rows_by_load
        }
        alone = "" if above == "litellm" else sign  # its bar is one for all loads together
        judged += [_bar(load, [pair], alone, bound) for load, pair in pairs.items()]
        if len(pairs) > 1:
            judged.append(_bar("together", list(pairs.values()), sign, bound))
    return [*judged, *_crowd_bars(rows_by_load), *_translation_bars(rows_by_load)]


def _crowd_bars(rows: Mapping[tuple[str, str], Row]) -> Iterator[Bar]:
    """Yields throughput and slowest answers of many clients beside those of the raw relay."""
    for load in ("unary c=64", "stream c=64"):
        for ours, raw in _CROWDS:
            if (load, ours) in rows and (load, raw) in rows:
                one, other = rows[load, ours], rows[load, raw]
                name = f"{ours} / {raw}"
                yield _plain_bar(f"req/s, {load}", name, one.rps / other.rps, ">=", 0.8)
                yield _plain_bar(f"p99, {load}", name, one.p99 / other.p99, "<=", 1.5)


def _translation_bars(rows: Mapping[tuple[str, str], Row]) -> Iterator[Bar]:
    """Yields the CPU of a translated stream beside that of one that is passed through."""
    for variant in ("fingerpost-inline", "fingerpost-dedicated"):
        passed, translated = (rows.get((f"{kind} c=8", variant)) for kind in _TRANSLATED)
        if passed is not None and translated is not None:
            ratio = translated.cpu_ms / passed.cpu_ms
            yield _plain_bar("CPU, translated / stream c=8", variant, ratio, "<=", 1.5)


def _plain_bar(load: str, name: str, ratio: float, sign: str, bound: float) -> Bar:
    """Returns a bar for the ratio of two medians."""
    holds = {"<=": ratio <= bound, ">=": ratio >= bound}[sign]
    return Bar(load, name, ratio, ratio, ratio, ratio, f"{sign} {bound:g}", holds)


def _bar(load: str, pairs: Sequence[tuple[Row, Row]], sign: str, bound: float) -> Bar:
    """Compares pairs of rows, each of the same load; several loads count by their mean."""
    ones, others = [one for one, _ in pairs], [other for _, other in pairs]
    each = _ratios(_means(r.rounds_cpu_ms for r in ones), _means(r.rounds_cpu_ms for r in others))
    raw = _ratios(
        _means(row.rounds_cpu_raw_ms for row in ones),
        _means(row.rounds_cpu_raw_ms for row in others),
    )
    ratio = median(each)
    return Bar(
        load=load,
        name=f"{ones[0].variant} / {others[0].variant}",
        ratio=ratio,
        lowest=min(each),
        highest=max(each),
        raw_ratio=median(raw),
        wanted=f"{sign} {bound:g}" if sign else "",
        holds={"<=": ratio <= bound, ">=": ratio >= bound}.get(sign),
    )


def _means(rounds: Iterable[Sequence[float]]) -> list[float]:
    """Returns the mean over the loads for each round."""
    return [mean(values) for values in zip(*rounds, strict=True)]


def _ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(above, below, strict=True)]


def table(
    rows: Sequence[Row], judged: Sequence[Bar], idle: Idle, memory: dict[str, dict[str, float]]
) -> str:
    """Returns all figures as Markdown."""
    lines = [
        "| load | variant | req/s | p50 ms | p99 ms | first byte ms | CPU ms/req | raw CPU | errors |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.load} | {row.variant} | {row.rps:.0f} | {row.p50:.2f} "
        f"| {row.p99:.2f} | {row.first_byte_p50:.2f} | {row.cpu_ms:.3f} | {row.cpu_raw_ms:.3f} | {row.errors} |"
        for row in rows
    ]
    lines += ["", "Ratios, of CPU per request where nothing else is said:", ""]
    lines += [
        "| ratio | load | measured | rounds | with idle work | bar | holds |",
        "|---|---|--:|---|--:|---|---|",
    ]
    lines += [
        f"| {bar.name} | {bar.load} | {bar.ratio:.2f} "
        f"| {bar.lowest:.2f} to {bar.highest:.2f} | {bar.raw_ratio:.2f} | {bar.wanted} "
        f"| {verdict(holds=bar.holds)} |"
        for bar in judged
    ]
    lines += routing_lines(rows)
    if "serve" in memory:
        lines += ["", *_cpu_by_process(rows)]
    return "\n".join([*lines, "", *_background(idle, memory)])


def _cpu_by_process(rows: Iterable[Row]) -> list[str]:
    lines = ["CPU ms/req by process (means, idle work taken off):", ""]
    for row in rows:
        if row.variant in _ONE_PROCESS:
            continue
        parts = ", ".join(f"{role} {each:.3f}" for role, each in row.cpu_by_role_ms.items())
        lines.append(f"- {row.load} {row.variant}: {parts}")
    return lines


def _background(idle: Idle, memory: dict[str, dict[str, float]]) -> list[str]:
    lines = ["| server | idle, % of a core | memory (PSS), MB |", "|---|--:|--:|"]
    lines += [
        f"| {server} | {idle.rate(server) * 100:.1f} | {sum(roles.values()):.0f} |"
        for server, roles in memory.items()
    ]
    if "serve" in memory:
        lines += ["", "Memory of the Serve cluster, all applications (MB):", ""]
        ordered = sorted(memory["serve"].items(), key=lambda pair: -pair[1])
        lines += [f"- {role}: {held:.0f}" for role, held in ordered]
    return lines


def markdown(result: dict[str, Any], text: str) -> str:
    """Returns the whole report."""
    settings = result["settings"]
    failures = [bar for bar in result["bars"] if bar["holds"] is False]
    limits = [bar for bar in result["bars"] if bar["holds"] is not None]
    verdict = "Every bar holds."
    if failures:
        verdict = f"{len(failures)} of {len(limits)} bars do NOT hold."
    compared = result.get("compared")
    title = "# Overhead\n\n"
    if compared:
        title = (
            f"# Overhead of two checkouts\n\nCompared in one run: `fingerpost-*` is "
            f"{compared['fingerpost']}, `other-*` is {compared['other']}.\n\n"
        )
    return (
        f"{title}{headline(result['machine'])} Medians of {settings['rounds']} rounds of "
        f"{settings['seconds']:g} s a cell, in {settings['turns']} turns. How CPU is counted: "
        f"benchmarks/overhead.py. Other processes of the machine used "
        f"{result['elsewhere_cpu_s_per_s']:.2f} cores meanwhile, its host took "
        f"{result['stolen_cpu_s_per_s']:.2f}. Raw figures: the file of the same name that ends with .json."
        f"\n\n{verdict}\n\n{text}\n"
    )
