"""What goes back to the client."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from serve_app.domain import Headers, ModelRef, Reason, RouteDecision
from serve_app.exchange import Chunks
from serve_app.requests.progress import RequestProgress

_MAX_RETURNED_BYTES: Final = 16 << 10
_RETURNED = frozenset(
    {
        "content-type",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "openai-processing-ms",
        "openai-version",
        "openai-model",
    }
)
_RETURNED_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
_RENAMED = {"x-request-id": "x-fingerpost-upstream-request-id"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client. A streamed body must be closed by whoever sends it."""

    status: int
    headers: Headers
    body: bytes | Chunks


_JSON = ("content-type", "application/json")


def _as_json(headers: Headers) -> Headers:
    """SDKs read an answer as JSON only where its type says so, which some servers forget."""
    if any(name == "content-type" and "json" in value.lower() for name, value in headers):
        return headers
    return (_JSON, *(pair for pair in headers if pair[0] != "content-type"))


def _returned(headers: Headers) -> Headers:
    """What of a provider's headers goes back: an allow-list, within 16 KiB."""
    kept: list[tuple[str, str]] = []
    left = _MAX_RETURNED_BYTES
    for name, value in headers:
        if name in _RETURNED or name.startswith(_RETURNED_PREFIXES) or name in _RENAMED:
            size = len(name) + len(value)
            if size <= left:
                left -= size
                kept.append((_RENAMED.get(name, name), value))
    return tuple(kept)


@lru_cache(maxsize=4096)
def _encoded(value: str) -> str:
    return quote(value, safe="/:@+*,;=!$()[] ")


def decision_headers(
    decision: RouteDecision, model: ModelRef, reason: Reason, version: str
) -> Headers:
    """What was decided, in headers; names are percent-encoded."""
    headers = [
        ("x-fingerpost-model", _encoded(str(model))),
        ("x-fingerpost-reason", reason.value),
        ("x-fingerpost-policy", version),
    ]
    if decision.route is not None:
        headers.append(("x-fingerpost-route", _encoded(decision.route)))
    if decision.confidence is not None:
        headers.append(("x-fingerpost-confidence", f"{decision.confidence:.3f}"))
    return tuple(headers)


def _run_headers(run: RequestProgress, spent_s: float) -> Headers:
    """The decision and what became of it. Durations of Server-Timing are milliseconds."""
    timing = (
        f"decide;dur={run.decided_s * 1e3:.2f}, upstream;dur={run.upstream_s * 1e3:.2f}, "
        f"gateway;dur={(spent_s - run.upstream_s) * 1e3:.2f}"
    )
    version = run.call.snapshot.policy.version
    place = run.place
    found = () if place is None else (("x-fingerpost-affinity", place.state),)
    return (
        *decision_headers(run.decision, run.candidate, run.reason, version),
        *found,
        ("x-fingerpost-attempts", str(run.attempts)),
        ("server-timing", timing),
    )
