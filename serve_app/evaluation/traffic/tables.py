"""A report on traffic as tables of text, which the command prints and the page shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serve_app.evaluation.report import table
from serve_app.evaluation.traffic.sketches import Quantiles
from serve_app.evaluation.traffic.totals import (
    CLOSE_LEAD,
    CONFIDENCE_BINS,
    ConfidenceBins,
    DecisionTotals,
    RequestTotals,
    Sum,
    Traffic,
    largest,
)

ROWS = 20
"""Rows of a table; the JSON has all."""


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table with its title; the first columns are text, the others numbers."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    note: str = ""

    def as_text(self) -> list[str]:
        """Its lines, indented below the title."""
        numbers = range(self.text_columns, len(self.heads))
        lines = table([self.heads, *self.rows], right=numbers)
        lines += [self.note] if self.note else []
        return ["", self.title, *(f"  {line}" for line in lines)]


def overview(traffic: Traffic) -> list[str]:
    """The most important figures, one line each."""
    lines = [*_requests_overview(traffic.requests), *_decisions_overview(traffic.decisions)]
    if traffic.explained:
        lines.append(f"explained  {traffic.explained:,} requests to /v1/route, not counted above")
    return lines


def report_tables(traffic: Traffic) -> list[ReportTable]:
    """All tables that have a row."""
    requests = traffic.requests
    tables = [_by(requests, name) for name in ("day", "model", "route", "client", "team")]
    tables += [
        _reasons(requests),
        _latencies(requests),
        _failures(requests),
        _refusals(requests),
        _decisions(traffic.decisions),
        _confidence(traffic.confidence),
    ]
    return [one for one in tables if one.rows]


def usd_text(usd: float | None) -> str:
    """A cost in US dollars; a hyphen if it is unknown."""
    if usd is None:
        return "-"
    return f"{usd:,.2f}" if abs(usd) >= 1 else f"{usd:.4f}"


def share_text(part: float, whole: float) -> str:
    """A share in percent; a hyphen of nothing."""
    return f"{part / whole:.1%}" if whole else "-"


def ms_text(value: float | None) -> str:
    """Milliseconds to three digits; a hyphen if unknown."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def _requests_overview(requests: RequestTotals) -> Iterator[str]:
    every = requests.all
    if not every.requests:
        return
    yield f"requests   {every.requests:,} from {requests.first[:19]} to {requests.last[:19]} UTC"
    yield (
        f"failed     {every.failed:,} ({share_text(every.failed, every.requests)}); "
        f"{every.left:,} left by their clients"
    )
    yield (
        f"fallbacks  {requests.retried:,} with several attempts: {requests.fallen_over:,} answered "
        f"by another model, {requests.exhausted:,} failed all the same"
    )
    yield (
        f"cost       {usd_text(every.usd if every.priced else None)} USD; answers with a price {every.priced:,}, with tokens "
        f"and without a price {every.unpriced:,}"
    )
    if every.saved_usd is not None:
        share = share_text(every.saved_usd, every.baseline_usd)
        yield (
            f"saved      {usd_text(every.saved_usd)} USD ({share}) against the baseline model; "
            f"answers with both prices {every.compared:,}"
        )
    prompt = every.input + every.cache_read + every.cache_write
    if prompt or every.output:
        yield (
            f"tokens     {prompt:,} in, {share_text(every.cache_read, prompt)} of them read from "
            f"a cache; {every.output:,} out"
        )
    in_sessions = sum(requests.sessions.values())
    if in_sessions:
        yield (
            f"sessions   {requests.distinct_sessions.count:,}; requests in sessions {in_sessions:,}, "
            f"{share_text(requests.sessions['hit'], in_sessions)} of them bound to a model"
        )


def _decisions_overview(decisions: DecisionTotals) -> Iterator[str]:
    count = decisions.decisions
    if not count:
        return
    yield (
        f"decisions  {count:,}, {share_text(decisions.matched, count)} match a route, "
        f"{share_text(decisions.cached, count)} from the cache, "
        f"{decisions.close:,} close calls (lead below {CLOSE_LEAD:g})"
    )
    for title, counts in (
        ("unavailable", decisions.unavailable),
        ("stand-ins", decisions.stand_ins),
    ):
        if counts:
            listed = ", ".join(f"{name} {times:,}" for name, times in counts.most_common(ROWS))
            yield f"{title:11}{listed}"


def _by(requests: RequestTotals, name: str) -> ReportTable:
    group = requests.by[name]
    rows = sorted(group.items()) if name == "day" else list(largest(group))
    shown = rows[-ROWS:] if name == "day" else rows[:ROWS]
    heads = (
        name, "requests", "failed", "tokens in", "cached", "out", "USD", "unpriced", "saved USD",
        "p50 ms", "p99 ms",
    )  # fmt: skip
    return ReportTable(
        f"By {name}", heads, [_sum_row(key, one) for key, one in shown], note=_more(rows, shown)
    )


def _sum_row(key: str, one: Sum) -> list[str]:
    prompt = one.input + one.cache_read + one.cache_write
    return [
        key,
        f"{one.requests:,}",
        f"{one.failed:,}",
        f"{prompt:,}",
        share_text(one.cache_read, prompt),
        f"{one.output:,}",
        usd_text(one.usd if one.priced else None),
        f"{one.unpriced:,}",
        usd_text(one.saved_usd),
        ms_text(one.ms.at(0.5)),
        ms_text(one.ms.at(0.99)),
    ]


def _more(rows: Sequence[object], shown: Sequence[object]) -> str:
    left = len(rows) - len(shown)
    return f"{left:,} more; --json lists all of them" if left else ""


def _reasons(requests: RequestTotals) -> ReportTable:
    every = requests.all.requests
    rows = [
        [name, f"{one.requests:,}", share_text(one.requests, every), f"{one.failed:,}"]
        for name, one in largest(requests.by["reason"])
    ]
    return ReportTable("Why the model", ("reason", "requests", "share", "failed"), rows)


def _latencies(requests: RequestTotals) -> ReportTable:
    rows = [
        [name.replace("_", " "), f"{one.count:,}", *_quantiles(one)]
        for name, one in requests.latencies.items()
        if one.count
    ]
    heads = ("milliseconds", "requests", "p50", "p90", "p99")
    return ReportTable("Latency, within 1 %", heads, rows)


def _quantiles(one: Quantiles) -> list[str]:
    return [ms_text(one.at(share)) for share in (0.5, 0.9, 0.99)]


def _failures(requests: RequestTotals) -> ReportTable:
    rows = [
        [provider, kind, f"{times:,}", share_text(times, requests.attempts[provider])]
        for (provider, kind), times in requests.failures.most_common()
    ]
    heads = ("provider", "failure", "times", "of its attempts")
    shown = rows[:ROWS]
    return ReportTable("Failures of providers", heads, shown, 2, _more(rows, shown))


def _refusals(requests: RequestTotals) -> ReportTable:
    rows = [[code, f"{times:,}"] for code, times in requests.own_errors.most_common()]
    shown = rows[:ROWS]
    return ReportTable(
        "Refused by the gateway", ("error", "requests"), shown, note=_more(rows, shown)
    )


def _decisions(decisions: DecisionTotals) -> ReportTable:
    rows = [
        [name, f"{one['decisions']:,}", share_text(one["decisions"], decisions.decisions),
         f"{one['close']:,}"]
        for name, one in sorted(
            decisions.routes.items(), key=lambda item: (-item[1]["decisions"], item[0])
        )
    ]  # fmt: skip
    heads = ("route", "decisions", "share", "close calls")
    shown = rows[:ROWS]
    return ReportTable("Decisions by content", heads, shown, note=_more(rows, shown))


def _confidence(bins: ConfidenceBins) -> ReportTable:
    if not bins.total:
        return ReportTable("", (), ())
    rows = [
        [
            f"{place / CONFIDENCE_BINS:.1f} to {(place + 1) / CONFIDENCE_BINS:.1f}",
            f"{times:,}",
            share_text(times, bins.total),
        ]
        for place, times in enumerate(bins.counts)
    ]
    return ReportTable("Probability of the best route", ("probability", "decisions", "share"), rows)
