"""Adds up the entries of both logs, in memory that does not grow with them."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from serve_app.evaluation.traffic.entries import AccessEntry, DecisionEntry
from serve_app.evaluation.traffic.sketches import DistinctTexts, Quantiles, bucket_of
from serve_app.telemetry.decision_log import EXPLAINED
from serve_app.telemetry.record import BROKEN, CLIENT_GONE

MORE: Final = "(more)"
"""Stands for all names beyond MAX_NAMES."""

MAX_NAMES: Final = 2000
NO_ROUTE_NAME: Final = "(no route)"
_ERRORS_FROM: Final = 400
_DAY: Final = 10
_HOUR: Final = 13
CONFIDENCE_BINS: Final = 10

DIMENSIONS: Final[dict[str, str]] = {
    "model": "(none)",
    "route": NO_ROUTE_NAME,
    "client": "(no key)",
    "team": "(no team)",
    "reason": "(refused)",
    "surface": "(none)",
}
"""By what requests are added up, and the name of those without."""

LATENCIES: Final = ("decide", "first_token", "total", "overhead", "queued")


class Sum:
    """What some of the requests have in common with all: how many, what they cost, how long."""

    __slots__ = (
        "baseline_usd",
        "cache_read",
        "cache_write",
        "compared",
        "compared_usd",
        "failed",
        "input",
        "left",
        "ms",
        "output",
        "priced",
        "requests",
        "unpriced",
        "usd",
    )

    def __init__(self) -> None:
        self.requests = self.failed = self.left = 0
        self.priced = self.unpriced = self.compared = 0
        self.usd = self.baseline_usd = self.compared_usd = 0.0
        self.input = self.cache_read = self.cache_write = self.output = 0
        self.ms = Quantiles()

    def add(self, entry: AccessEntry, bucket: int | None, *, failed: bool) -> None:
        """One more request; ``bucket`` is that of its time."""
        self.requests += 1
        if failed:
            self.failed += 1
        elif entry.error == CLIENT_GONE:
            self.left += 1
        if bucket is not None:
            self.ms.buckets[bucket] += 1
        tokens = entry.tokens
        if tokens is not None:
            self.input += tokens.input
            self.cache_read += tokens.cache_read
            self.cache_write += tokens.cache_write
            self.output += tokens.output
        if entry.usd is not None:
            self.priced += 1
            self.usd += entry.usd
            if entry.baseline_usd is not None:
                self.compared += 1
                self.compared_usd += entry.usd
                self.baseline_usd += entry.baseline_usd
        elif tokens is not None:
            self.unpriced += 1

    @property
    def saved_usd(self) -> float | None:
        """What the baseline would have cost more; None if no request has a cost of both."""
        return self.baseline_usd - self.compared_usd if self.compared else None

    @property
    def cache_read_share(self) -> float | None:
        """The share of the prompts' tokens that providers had cached; None without tokens."""
        whole = self.input + self.cache_read + self.cache_write
        return self.cache_read / whole if whole else None


class ConfidenceBins:
    """How many decisions have which probability of the best route, in bins of equal width."""

    def __init__(self) -> None:
        self.counts = [0] * CONFIDENCE_BINS

    def add(self, confidence: float | None) -> None:
        """One more decision; None is not counted."""
        if confidence is not None:
            place = min(int(confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)
            self.counts[place] += 1

    @property
    def total(self) -> int:
        """How many decisions were counted."""
        return sum(self.counts)


class RequestTotals:
    """The totals of the access log."""

    def __init__(self) -> None:
        self.all = Sum()
        self.by: dict[str, dict[str, Sum]] = {name: {} for name in (*DIMENSIONS, "day")}
        self.hours: dict[str, list[int]] = {}
        """Requests and failed ones, by hour."""
        self.latencies = {name: Quantiles() for name in LATENCIES}
        self.attempts: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        """Exchanges that failed, by provider and kind."""
        self.own_errors: Counter[str] = Counter()
        """Refusals before a provider was asked, by code."""
        self.retried = self.fallen_over = self.exhausted = 0
        self.sessions: Counter[str] = Counter()
        self.distinct_sessions = DistinctTexts()
        self.confidence = ConfidenceBins()
        self.first, self.last = "~", ""

    def add(self, entry: AccessEntry) -> None:
        """One more request."""
        failed, ms = has_failed(entry), entry.total_ms
        bucket = None if ms is None else bucket_of(ms)
        self.all.add(entry, bucket, failed=failed)
        for name, group in self.by.items():
            key = getattr(entry, name) if name in DIMENSIONS else entry.at[:_DAY]
            _sum_of(group, key or DIMENSIONS[name]).add(entry, bucket, failed=failed)
        hour = self.hours.get(entry.at[:_HOUR]) or self._hour(entry.at[:_HOUR])
        hour[0] += 1
        hour[1] += failed
        self.first, self.last = min(self.first, entry.at), max(self.last, entry.at)
        self._add_times(entry)
        self._add_attempts(entry, failed=failed)
        self.confidence.add(entry.confidence)
        if entry.session:
            self.sessions[entry.session] += 1
        if entry.session_hash:
            self.distinct_sessions.add(entry.session_hash)

    def _add_times(self, entry: AccessEntry) -> None:
        values = (
            entry.decide_ms,
            entry.first_token_ms,
            entry.total_ms,
            entry.overhead_ms,
            entry.queued_ms,
        )
        for latency, value in zip(self.latencies.values(), values, strict=True):
            if value is not None:
                latency.buckets[bucket_of(value)] += 1

    def _add_attempts(self, entry: AccessEntry, *, failed: bool) -> None:
        for provider, outcome in entry.tried:
            _count(self.attempts, provider)
            if outcome != "ok":
                _count(self.failures, (provider, outcome), (provider, MORE))
        if entry.error == BROKEN and entry.provider:
            _count(self.failures, (entry.provider, BROKEN), (entry.provider, MORE))
        if not entry.tried and entry.error and entry.error != CLIENT_GONE:
            _count(self.own_errors, entry.error)
        if len(entry.tried) > 1:
            self.retried += 1
            self.exhausted += failed
            self.fallen_over += entry.reason == "failover" and not failed

    def _hour(self, hour: str) -> list[int]:
        return self.hours.setdefault(hour if len(self.hours) < MAX_NAMES * 5 else MORE, [0, 0])


class DecisionTotals:
    """The totals of the decision log."""

    def __init__(self) -> None:
        self.decisions = self.matched = self.cached = self.close = 0
        self.routes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.confidence = ConfidenceBins()
        self.tiers: Counter[str] = Counter()
        self.unavailable: Counter[str] = Counter()
        self.stand_ins: Counter[str] = Counter()

    def add(self, entry: DecisionEntry) -> None:
        """One more decision."""
        self.decisions += 1
        self.matched += entry.matched
        self.cached += entry.cached
        _count(self.tiers, entry.tier or "(none)")
        if entry.unavailable:
            _count(self.unavailable, entry.unavailable)
        if entry.stand_in:
            _count(self.stand_ins, entry.stand_in)
        self.confidence.add(entry.confidence)
        name = entry.route or NO_ROUTE_NAME
        counts = self.routes[name if name in self.routes or self._has_room else MORE]
        counts["decisions"] += 1
        if entry.lead is not None and entry.lead < CLOSE_LEAD:
            self.close += 1
            counts["close"] += 1

    @property
    def _has_room(self) -> bool:
        return len(self.routes) < MAX_NAMES


CLOSE_LEAD: Final = 0.2
"""A decision whose two most probable answers are nearer than this is a close call."""


class Traffic:
    """The totals of all logs that were read."""

    def __init__(self) -> None:
        self.requests = RequestTotals()
        self.decisions = DecisionTotals()
        self.explained = 0
        """Questions what would be decided; they are not in the totals."""

    def add(self, entry: AccessEntry | DecisionEntry) -> None:
        """One more line."""
        if not isinstance(entry, AccessEntry):
            self.decisions.add(entry)
        elif entry.surface == EXPLAINED:
            self.explained += 1
        else:
            self.requests.add(entry)

    @property
    def confidence(self) -> ConfidenceBins:
        """Those of the decision log; without one those of the requests."""
        own = self.decisions
        return own.confidence if own.decisions else self.requests.confidence

    @property
    def is_empty(self) -> bool:
        """True if nothing was added."""
        counts = (self.requests.all.requests, self.decisions.decisions, self.explained)
        return not any(counts)


def has_failed(entry: AccessEntry) -> bool:
    """True if the client got an error, or a stream that broke; not if it left."""
    if entry.error == CLIENT_GONE:
        return False
    return entry.error == BROKEN or entry.status is None or entry.status >= _ERRORS_FROM


def largest(group: dict[str, Sum]) -> Iterator[tuple[str, Sum]]:
    """The names of a group with their sums, most requests first."""
    yield from sorted(group.items(), key=lambda item: (-item[1].requests, item[0]))


def _sum_of(group: dict[str, Sum], key: str) -> Sum:
    found = group.get(key)
    if found is None:
        key = key if len(group) < MAX_NAMES else MORE
        found = group.get(key) or group.setdefault(key, Sum())
    return found


def _count(
    counts: Counter[str] | Counter[tuple[str, str]], key: object, more: object = MORE
) -> None:
    """Counts a name; those beyond MAX_NAMES as one."""
    counts[key if key in counts or len(counts) < MAX_NAMES else more] += 1  # type: ignore[index]
