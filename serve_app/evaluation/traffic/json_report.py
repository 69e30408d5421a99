"""A report on traffic as JSON; times in milliseconds, costs in US dollars."""

from collections import Counter
from collections.abc import Sequence

from serve_app.domain import Json
from serve_app.evaluation.traffic.log_files import Damage
from serve_app.evaluation.traffic.totals import (
    CONFIDENCE_BINS,
    DecisionTotals,
    RequestTotals,
    Sum,
    Traffic,
    largest,
)


def traffic_json(traffic: Traffic, damage: Sequence[Damage]) -> dict[str, Json]:
    """All figures; null is what is unknown."""
    return {
        "requests": _requests(traffic.requests),
        "decisions": _decisions(traffic.decisions),
        "probability": [
            {"from": place / CONFIDENCE_BINS, "decisions": times}
            for place, times in enumerate(traffic.confidence.counts)
        ],
        "explained": traffic.explained,
        "damaged": [
            {"file": one.file, "lines": one.lines, "first": one.first, "end": one.end or None}
            for one in damage
        ],
    }


def _requests(requests: RequestTotals) -> Json:
    if not requests.all.requests:
        return None
    return {
        "first": requests.first,
        "last": requests.last,
        **_sum(requests.all),
        "several_attempts": requests.retried,
        "answered_by_fallback": requests.fallen_over,
        "failed_after_fallback": requests.exhausted,
        **{
            f"by_{name}": [{name: key, **_sum(one)} for key, one in largest(group)]
            for name, group in requests.by.items()
        },
        "by_hour": [
            {"hour": hour, "requests": count, "failed": failed}
            for hour, (count, failed) in sorted(requests.hours.items())
        ],
        "latency_ms": {name: one.as_json() for name, one in requests.latencies.items()},
        "attempts": _counts(requests.attempts, "provider"),
        "failures": [
            {"provider": provider, "failure": kind, "times": times}
            for (provider, kind), times in requests.failures.most_common()
        ],
        "refused": _counts(requests.own_errors, "error"),
        "sessions": {
            "count": requests.distinct_sessions.count,
            **{state: requests.sessions[state] for state in ("hit", "miss", "void")},
        },
    }


def _sum(one: Sum) -> dict[str, Json]:
    return {
        "requests": one.requests,
        "failed": one.failed,
        "left": one.left,
        "tokens": {
            "input": one.input,
            "cache_read": one.cache_read,
            "cache_write": one.cache_write,
            "output": one.output,
        },
        "cache_read_share": one.cache_read_share,
        "usd": one.usd if one.priced else None,
        "priced": one.priced,
        "unpriced": one.unpriced,
        "baseline_usd": one.baseline_usd if one.compared else None,
        "saved_usd": one.saved_usd,
        "compared": one.compared,
        "total_ms": one.ms.as_json(),
    }


def _decisions(decisions: DecisionTotals) -> Json:
    if not decisions.decisions:
        return None
    return {
        "decisions": decisions.decisions,
        "matched": decisions.matched,
        "cached": decisions.cached,
        "close": decisions.close,
        "by_route": [
            {"route": name, "decisions": one["decisions"], "close": one["close"]}
            for name, one in sorted(decisions.routes.items())
        ],
        "tiers": _counts(decisions.tiers, "tier"),
        "unavailable": _counts(decisions.unavailable, "reason"),
        "stand_ins": _counts(decisions.stand_ins, "reason"),
    }


def _counts(counts: Counter[str], name: str) -> Json:
    return [{name: key, "times": times} for key, times in counts.most_common()]
