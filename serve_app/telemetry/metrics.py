"""Every metric that the gateway records."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal, Protocol

from serve_app.dialects.ir import Usage
from serve_app.telemetry.record import (
    BROKEN,
    CLIENT_GONE,
    AttemptRecord,
    DecisionRecord,
    RequestRecord,
)


class Metric(StrEnum):
    """Every metric that we record; names of OpenTelemetry's GenAI conventions where they exist.

    Source: OpenTelemetry semantic conventions for generative AI, metrics; dots are written as
    underscores, as the Prometheus text format asks.
    """

    REQUEST_SECONDS = "gen_ai_server_request_duration"
    FIRST_TOKEN_SECONDS = "gen_ai_server_time_to_first_token"  # noqa: S105 - a metric's name
    TOKEN_SECONDS = "gen_ai_server_time_per_output_token"  # noqa: S105 - as above
    BUDGET = "fingerpost_budget_spent_ratio"
    TOKENS = "gen_ai_client_token_usage"
    REQUESTS = "fingerpost_requests_total"
    ROUTED = "fingerpost_routed_requests_total"
    COST = "fingerpost_cost_usd_total"
    UNPRICED = "fingerpost_unpriced_total"
    ATTEMPTS = "fingerpost_upstream_attempts_total"
    OVERHEAD_SECONDS = "fingerpost_overhead_seconds"
    QUEUE_SECONDS = "fingerpost_queue_seconds"
    DECISIONS = "fingerpost_decisions_total"
    DECISION_SECONDS = "fingerpost_decision_seconds"
    TIER_QUESTIONS = "fingerpost_tier_questions_total"
    TIER_SECONDS = "fingerpost_tier_seconds"
    TIER_TOKENS = "fingerpost_tier_tokens_total"
    TIER_COST = "fingerpost_tier_cost_usd_total"
    TIER_UNPRICED = "fingerpost_tier_unpriced_total"
    COMPARED_COST = "fingerpost_compared_cost_usd_total"
    BASELINE_COST = "fingerpost_baseline_cost_usd_total"
    SESSIONS = "fingerpost_session_events_total"
    CLIENT_GONE = "fingerpost_client_gone_total"
    BROKEN_STREAMS = "fingerpost_broken_streams_total"
    LOST_LINES = "fingerpost_log_lines_lost_total"
    RELOADS = "fingerpost_reloads_total"
    POLICY = "fingerpost_policy_in_force"
    RELOAD_GOOD = "fingerpost_last_reload_good"


SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
)  # fmt: skip
"""The bounds of histograms of durations."""
_TOKENS: Final = tuple(float(4**power) for power in range(14))
"""Those that the conventions ask for."""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """How a metric is kept: its kind, its labels in order, and what it says."""

    kind: Literal["counter", "histogram", "gauge"]
    labels: tuple[str, ...]
    description: str
    buckets: tuple[float, ...] = SECONDS
    """The upper bounds of a histogram."""
    unit: Literal["", "s", "{token}"] = ""
    """That of a histogram, as OpenTelemetry writes it."""


_SECONDS_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_TIER_LABELS = ("tier", "model")

METRICS: Mapping[Metric, MetricSpec] = MappingProxyType(
    {
        Metric.REQUEST_SECONDS: MetricSpec(
            "histogram",
            (*_SECONDS_LABELS, "error_type"),
            "Seconds from a request's arrival to the last byte of its answer.",
            unit="s",
        ),
        Metric.FIRST_TOKEN_SECONDS: MetricSpec(
            "histogram",
            _SECONDS_LABELS,
            "Seconds from a streamed request's arrival to its commit.",
            unit="s",
        ),
        Metric.TOKEN_SECONDS: MetricSpec(
            "histogram",
            _SECONDS_LABELS,
            "Seconds per token after the first one, of complete streams whose provider counts them.",
            unit="s",
        ),
        Metric.TOKENS: MetricSpec(
            "histogram",
            (*_SECONDS_LABELS, "gen_ai_token_type"),
            "Tokens of an answer by type; the types do not overlap, and their sum is all tokens.",
            buckets=_TOKENS,
            unit="{token}",
        ),
        Metric.REQUESTS: MetricSpec(
            "counter",
            ("surface", "status", "reason"),
            "Requests answered, by surface, status and why the model was chosen.",
        ),
        Metric.ROUTED: MetricSpec(
            "counter",
            ("route", "model"),
            "Requests that a route has answered, by the model that did.",
        ),
        Metric.COST: MetricSpec(
            "counter",
            ("provider", "model", "team"),
            "Cost of answers in US dollars, where the price and the tokens are known.",
        ),
        Metric.BUDGET: MetricSpec(
            "gauge",
            ("budget", "window"),
            "Share of a budget that is spent in its window, as its last request saw it.",
        ),
        Metric.UNPRICED: MetricSpec(
            "counter",
            ("provider", "model"),
            "Answers with tokens whose price is unknown; their cost is not 0.",
        ),
        Metric.ATTEMPTS: MetricSpec(
            "counter",
            ("provider", "model", "outcome"),
            "Upstream exchanges, by what came of them.",
        ),
        Metric.OVERHEAD_SECONDS: MetricSpec(
            "histogram",
            ("surface",),
            "Seconds that a request spent in the gateway itself before its answer began.",
            unit="s",
        ),
        Metric.QUEUE_SECONDS: MetricSpec(
            "histogram",
            ("surface",),
            "Seconds that a request waited for an endpoint with limits; only of requests that did.",
            unit="s",
        ),
        Metric.DECISIONS: MetricSpec(
            "counter",
            ("outcome",),
            "Decisions by content, by how they came: scored, cached, joined, or why not at all.",
        ),
        Metric.DECISION_SECONDS: MetricSpec(
            "histogram",
            ("outcome",),
            "Seconds that the orchestrator took, by what came of it.",
            unit="s",
        ),
        Metric.TIER_QUESTIONS: MetricSpec(
            "counter",
            (*_TIER_LABELS, "outcome"),
            "Questions for an engine of the Orchestrator that asks a model, by what came of them.",
        ),
        Metric.TIER_SECONDS: MetricSpec(
            "histogram",
            (*_TIER_LABELS, "outcome"),
            "Seconds that such an engine took, by what came of it.",
            unit="s",
        ),
        Metric.TIER_TOKENS: MetricSpec(
            "counter",
            (*_TIER_LABELS, "kind"),
            "Tokens of such questions and of their answers, as the server counts them.",
        ),
        Metric.TIER_COST: MetricSpec(
            "counter", _TIER_LABELS, "Cost of such questions in US dollars, where it is known."
        ),
        Metric.TIER_UNPRICED: MetricSpec(
            "counter",
            _TIER_LABELS,
            "Such questions whose cost is unknown: no price, or no count of tokens.",
        ),
        Metric.COMPARED_COST: MetricSpec(
            "counter",
            ("route",),
            "Cost in US dollars of the answers that are compared with the baseline of `savings`.",
        ),
        Metric.BASELINE_COST: MetricSpec(
            "counter",
            ("route",),
            "What the tokens of these answers cost at the price of the baseline, US dollars.",
        ),
        Metric.SESSIONS: MetricSpec(
            "counter",
            ("event",),
            "What happened to sessions: hit, miss, void, store, rebind, lost, error.",
        ),
        Metric.CLIENT_GONE: MetricSpec(
            "counter", ("surface",), "Requests whose client left before the end."
        ),
        Metric.BROKEN_STREAMS: MetricSpec(
            "counter", ("provider",), "Streams that the provider broke off after the commit."
        ),
        Metric.LOST_LINES: MetricSpec(
            "counter", ("log",), "Lines of a log that could not be written."
        ),
        Metric.RELOADS: MetricSpec(
            "counter", ("outcome",), "Changes of the configuration file: good or refused."
        ),
        Metric.POLICY: MetricSpec(
            "gauge", ("version",), "1 for the version of the configuration that is in use."
        ),
        Metric.RELOAD_GOOD: MetricSpec(
            "gauge", (), "0 while the current configuration file is refused, else 1."
        ),
    }
)


class Meter(Protocol):
    """Records metrics. Label values come in the order that METRICS gives."""

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float = 1) -> None:
        """Adds to a counter."""
        ...

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """One more value of a histogram, in the unit of its name."""
        ...

    def set(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Sets a gauge. Any thread may call this."""
        ...


class Meters:
    """Records into several meters, and knows the gauges of the configuration."""

    def __init__(self, *meters: Meter) -> None:
        self._meters = meters
        self._version: str | None = None

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float = 1) -> None:
        """Adds to a counter."""
        for meter in self._meters:
            meter.count(metric, labels, amount)

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """One more value of a histogram."""
        for meter in self._meters:
            meter.observe(metric, value, labels)

    def set(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Sets a gauge. Any thread may call this."""
        for meter in self._meters:
            meter.set(metric, value, labels)

    def reloaded(self, version: str, *, good: bool) -> None:
        """A changed configuration, and the version in use after it. Any thread may call this."""
        self.count(Metric.RELOADS, ("good" if good else "refused",))
        self.in_force(version, good=good)

    def in_force(self, version: str, *, good: bool = True) -> None:
        """The version in use, and whether the file now holds it. Any thread may call this."""
        if self._version not in {None, version}:
            self.set(Metric.POLICY, 0, (self._version or "",))
        self._version = version
        self.set(Metric.POLICY, 1, (version,))
        self.set(Metric.RELOAD_GOOD, int(good), ())


_TOKEN_TYPES: Final = (
    ("input", "uncached_input"),
    ("output", "output"),
    ("cache_read", "cache_read"),
    ("cache_write", "cache_write"),
)
"""The values of ``gen_ai_token_type``, and the fields of a usage that they count."""


class MetricsObserver:
    """Turns records into metrics."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def decided(self, decision: DecisionRecord) -> None:
        """Counts decisions, and times those that the orchestrator was asked for.

        Questions for a tier have metrics of their own, with their tokens and their cost.
        """
        if decision.tier:
            self._tier_asked(decision)
            return
        labels = (decision.outcome,)
        self._meter.count(Metric.DECISIONS, labels)
        if decision.seconds is not None:
            self._meter.observe(Metric.DECISION_SECONDS, decision.seconds, labels)

    def _tier_asked(self, decision: DecisionRecord) -> None:
        meter, tier = self._meter, (decision.tier, decision.model)
        meter.count(Metric.TIER_QUESTIONS, (*tier, decision.outcome))
        if decision.seconds is None:  # no model was asked
            return
        meter.observe(Metric.TIER_SECONDS, decision.seconds, (*tier, decision.outcome))
        usage = decision.usage
        if usage is not None:
            meter.count(Metric.TIER_TOKENS, (*tier, "input"), usage.input_tokens)
            meter.count(Metric.TIER_TOKENS, (*tier, "output"), usage.output_tokens)
        if decision.usd is None:
            meter.count(Metric.TIER_UNPRICED, tier)
        else:
            meter.count(Metric.TIER_COST, tier, decision.usd)

    def attempted(self, attempt: AttemptRecord) -> None:
        """Counts exchanges with providers, and times the first token of streams."""
        labels = (attempt.provider, attempt.model, attempt.outcome)
        self._meter.count(Metric.ATTEMPTS, labels)
        if attempt.first_token_s is not None:
            began = (attempt.surface, attempt.provider, attempt.model)
            self._meter.observe(Metric.FIRST_TOKEN_SECONDS, attempt.first_token_s, began)

    def session_changed(self, event: str) -> None:
        """Counts what happens to sessions."""
        self._meter.count(Metric.SESSIONS, (event,))

    def ended(self, request: RequestRecord) -> None:
        """Counts requests and times their answers."""
        meter, surface = self._meter, request.surface
        if request.status is not None:
            labels = (surface, str(request.status), request.reason)
            meter.count(Metric.REQUESTS, labels)
        for budget in request.budgets:
            meter.set(Metric.BUDGET, budget.spent, (budget.whose, budget.window))
        if request.queued_s is not None:
            meter.observe(Metric.QUEUE_SECONDS, request.queued_s, (surface,))
        if request.error_type == CLIENT_GONE:
            meter.count(Metric.CLIENT_GONE, (surface,))
        if request.provider is not None:
            self._asked(request, request.provider)

    def _asked(self, request: RequestRecord, provider: str) -> None:
        """Records a request for which a provider was asked."""
        meter, surface = self._meter, request.surface
        if request.overhead_s is not None:
            meter.observe(Metric.OVERHEAD_SECONDS, request.overhead_s, (surface,))
        asked = (surface, provider, request.model)
        if request.error_type == BROKEN:
            meter.count(Metric.BROKEN_STREAMS, (provider,))
        if request.seconds is not None:
            meter.observe(Metric.REQUEST_SECONDS, request.seconds, (*asked, request.error_type))
        if request.route_label:
            meter.count(Metric.ROUTED, (request.route_label, request.model))
        if request.usage is not None:
            self._used(request, provider, request.usage)

    def _used(self, request: RequestRecord, provider: str, usage: Usage) -> None:
        """Counts the tokens of an answer, and what they cost."""
        meter, asked = self._meter, (request.surface, provider, request.model)
        for kind, field in _TOKEN_TYPES:
            tokens = getattr(usage, field)
            if tokens:
                meter.observe(Metric.TOKENS, tokens, (*asked, kind))
        if request.usd is None:
            meter.count(Metric.UNPRICED, asked[1:])
        else:
            self._spent(request, provider, request.usd)
        first_s, all_s, is_counted = request.first_token_s, request.seconds, usage.output > 1
        if first_s is None or all_s is None or request.error_type or request.is_estimated:
            return
        if is_counted and all_s > first_s:
            per_token_s = (all_s - first_s) / (usage.output - 1)
            meter.observe(Metric.TOKEN_SECONDS, per_token_s, asked)

    def _spent(self, request: RequestRecord, provider: str, usd: float) -> None:
        """Counts the cost of an answer, and what the baseline of savings would have cost."""
        meter = self._meter
        meter.count(Metric.COST, (provider, request.model, request.team), usd)
        if request.baseline_usd is not None:
            route = (request.route_label,)
            meter.count(Metric.COMPARED_COST, route, usd)
            meter.count(Metric.BASELINE_COST, route, request.baseline_usd)
