"""What goes back to the client: status, headers, body."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from serve_app.domain import Headers, ModelRef, Reason, RouteDecision
from serve_app.exchange import Chunks
from serve_app.requests.progress import RequestProgress

JSON_TYPE: Final = ("content-type", "application/json")
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
    """What goes back to the client. The sender closes a streamed body."""

    status: int
    headers: Headers
    body: bytes | Chunks


def returned_headers(headers: Headers) -> Headers:
    """A provider's headers that go back to the client: an allow-list, within 16 KiB."""
    kept: list[tuple[str, str]] = []
    left = _MAX_RETURNED_BYTES
    for name, value in headers:
        if name in _RETURNED or name.startswith(_RETURNED_PREFIXES) or name in _RENAMED:
            size = len(name) + len(value)
            if size <= left:
                left -= size
                kept.append((_RENAMED.get(name, name), value))
    return tuple(kept)


def as_json(headers: Headers) -> Headers:
    """The headers with a JSON content type: SDKs parse no other, and some servers omit it."""
    if any(name == "content-type" and "json" in value.lower() for name, value in headers):
        return headers
    return (JSON_TYPE, *without_type(headers))


def without_type(headers: Headers) -> Headers:
    """The headers without the content type."""
    return tuple(pair for pair in headers if pair[0] != "content-type")


@lru_cache(maxsize=4096)
def _encoded(value: str) -> str:
    return quote(value, safe="/:@+*,;=!$()[] ")


def decision_headers(
    decision: RouteDecision, model: ModelRef, reason: Reason, version: str
) -> Headers:
    """The headers that say what was decided; names are percent-encoded."""
    headers = [
        ("x-fingerpost-model", _encoded(str(model))),
        ("x-fingerpost-reason", reason.value),
        ("x-fingerpost-policy", version),
    ]
    if decision.route is not None:
        headers.append(("x-fingerpost-route", _encoded(decision.route)))
    if decision.confidence is not None:
        headers.append(("x-fingerpost-confidence", f"{decision.confidence:.3f}"))
    if decision.tier:
        headers.append(("x-fingerpost-tier", decision.tier))
    return tuple(headers)


def progress_headers(progress: RequestProgress, spent_s: float) -> Headers:
    """The decision and what came of it. Durations in Server-Timing are milliseconds."""
    upstream_s = progress.upstream_s
    timing = (
        f"decide;dur={progress.decided_s * 1e3:.2f}, upstream;dur={upstream_s * 1e3:.2f}, "
        f"gateway;dur={(spent_s - upstream_s) * 1e3:.2f}"
    )
    version = progress.request.snapshot.policy.version
    session = progress.session
    affinity = () if session is None else (("x-fingerpost-affinity", session.state),)
    return (
        *decision_headers(progress.decision, progress.candidate, progress.reason, version),
        *affinity,
        ("x-fingerpost-attempts", str(progress.attempts)),
        ("server-timing", timing),
    )
