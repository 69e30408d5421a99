"""What goes back to the client: status, headers, body."""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from serve_app.access_errors import LimitReached, SpendingCapReached
from serve_app.domain import Headers, ModelRef, Reason, RouteDecision, SpentCap
from serve_app.errors import (
    GatewayBusy,
    GatewayError,
    MethodNotAllowed,
    UnsupportedEncoding,
    WebSocketUnsupported,
)
from serve_app.exchange import Chunks
from serve_app.requests.progress import RequestProgress

JSON_TYPE: Final = ("content-type", "application/json")
_MAX_DROPPED: Final = 32
"""Paths that one header names."""
EVENT_STREAM: Final = ("content-type", "text/event-stream; charset=utf-8")
_MAX_RETURNED_BYTES: Final = 16 << 10
_UNSENDABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Control characters, which some servers send; they would end the connection to the client."""
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
_ANTHROPIC_ID: Final = "request-id"
_OTHERS_ID: Final = "x-request-id"
_UPSTREAM_ID: Final = "x-fingerpost-upstream-request-id"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client. The sender closes a streamed body."""

    status: int
    headers: Headers
    body: bytes | Chunks
    keep_alive: bytes = b""
    """What a streamed body sends while it is silent; empty for nothing."""


def returned_headers(headers: Headers, *, as_anthropic: bool = False) -> Headers:
    """A provider's headers that go back to the client: an allow-list of text, within 16 KiB.

    The provider's id of the request has a name of ours, because Serve sets ``x-request-id``.
    ``as_anthropic``: clients of Anthropic find it in ``request-id``, for every provider.
    """
    passed = [
        (name, value)
        for name, value in headers
        if name in _RETURNED or name.startswith(_RETURNED_PREFIXES)
    ]
    kept: list[tuple[str, str]] = []
    left = _MAX_RETURNED_BYTES
    for name, value in (*_request_ids(headers, as_anthropic=as_anthropic), *passed):
        size = len(name) + len(value)
        if size <= left and not _UNSENDABLE.search(value):
            left -= size
            kept.append((name, value))
    return tuple(kept)


def _request_ids(headers: Headers, *, as_anthropic: bool) -> Headers:
    """The provider's id of the request, under each name that the client may look for."""
    sent = {name: value for name, value in headers if value}
    anthropics, others = sent.get(_ANTHROPIC_ID), sent.get(_OTHERS_ID)
    known = others or anthropics
    if known is None:
        return ()
    ids = ((_UPSTREAM_ID, known),)
    if anthropics is None and not as_anthropic:
        return ids
    return (*ids, (_ANTHROPIC_ID, anthropics or known))


def error_headers(error: GatewayError) -> Headers:
    """The headers of an error of the gateway's own, apart from its content type."""
    headers: Headers = (("x-should-retry", "false"),) if error.is_final else ()
    if isinstance(error, MethodNotAllowed):
        headers = (*headers, ("allow", error.allowed))
    if isinstance(error, UnsupportedEncoding):  # RFC 9110, section 15.5.16
        headers = (*headers, ("accept-encoding", ", ".join(error.supported)))
    if isinstance(error, WebSocketUnsupported):  # RFC 9110, section 15.5.22
        headers = (*headers, ("upgrade", "HTTP/1.1"))
    if isinstance(error, GatewayBusy | LimitReached):
        headers = (*headers, ("retry-after", str(error.retry_after_s)))
    if isinstance(error, SpendingCapReached):
        headers = (*headers, *_cap_headers(error.cap))
    return headers


def _cap_headers(cap: SpentCap) -> Headers:
    """What a client of Anthropic shows of a cap that is used up.

    Without a representative claim and a status of the overage, with which Claude Code shows a
    sentence of its own in place of the error's. Source: Claude Code, "LLM gateway protocol".
    """
    resets_at = str(int(cap.resets_at))
    unified = {
        "status": "rejected",
        "reset": resets_at,
        "overage-reset": resets_at,
        "overage-utilization": "1",
        "overage-surpassed-threshold": "1",
        "overage-period": cap.period,
        "overage-disabled-reason": "org_spend_cap_reached",
    }
    return (
        ("retry-after", str(max(1, math.ceil(cap.left_s)))),
        *((f"anthropic-ratelimit-unified-{name}", value) for name, value in unified.items()),
    )


def as_json(headers: Headers) -> Headers:
    """The headers with a JSON content type: SDKs parse no other, and some servers omit it."""
    if _says_type(headers, "json"):
        return headers
    return (JSON_TYPE, *without_type(headers))


def as_stream(headers: Headers) -> Headers:
    """The headers with the type of event streams: readers in browsers take no other."""
    if _says_type(headers, "event-stream"):
        return headers
    return (EVENT_STREAM, *without_type(headers))


def _says_type(headers: Headers, word: str) -> bool:
    """True if a content type has this word."""
    for name, value in headers:  # noqa: SIM110 - for every answer: a generator costs more
        if name == "content-type" and word in value.lower():
            return True
    return False


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
    if decision.rule:
        headers.append(("x-fingerpost-rule", _encoded(decision.rule)))
    if decision.tier:
        headers.append(("x-fingerpost-tier", decision.tier))
    return tuple(headers)


def _attempts_timing(progress: RequestProgress) -> str:
    """Each attempt as an entry of Server-Timing, where there were several."""
    if len(progress.tried) <= 1:
        return ""
    return "".join(
        f', try{number};desc="{_encoded(f"{tried.candidate} {tried.outcome}")}"'
        f";dur={tried.seconds * 1e3:.2f}"
        for number, tried in enumerate(progress.tried, 1)
    )


def progress_headers(progress: RequestProgress, spent_s: float) -> Headers:
    """The decision and what came of it. Durations in Server-Timing are milliseconds."""
    upstream_s = progress.upstream_s
    timing = (
        f"decide;dur={progress.decided_s * 1e3:.2f}, upstream;dur={upstream_s * 1e3:.2f}, "
        f"gateway;dur={(spent_s - upstream_s) * 1e3:.2f}{_attempts_timing(progress)}"
    )
    version = progress.request.snapshot.policy.version
    session = progress.session
    dropped = progress.dropped
    affinity = () if session is None else (("x-fingerpost-affinity", session.state),)
    return (
        *decision_headers(progress.decision, progress.candidate, progress.reason, version),
        *affinity,
        *(
            (("x-fingerpost-dropped", _encoded(", ".join(dropped[:_MAX_DROPPED]))),)
            if dropped
            else ()
        ),
        *((("x-fingerpost-healed", progress.healed),) if progress.healed else ()),
        ("x-fingerpost-attempts", str(progress.attempts)),
        ("server-timing", timing),
    )
