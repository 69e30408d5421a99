"""The access log: one line of JSON for each request, without keys and without texts."""

from typing import Final

from serve_app.dialects import ir
from serve_app.domain import Json
from serve_app.telemetry.log_lines import line_of, milliseconds, number, short, time_text
from serve_app.telemetry.log_writer import LogWriter
from serve_app.telemetry.record import AttemptRecord, DecisionRecord, RequestRecord, TriedRecord

ACCESS: Final = "access"
"""The value of ``log`` in its lines."""


class AccessLog:
    """Writes a line when a request is over."""

    def __init__(self, writer: LogWriter, replica: str) -> None:
        self._writer = writer
        self._replica = replica

    def decided(self, decision: DecisionRecord) -> None:
        """Ignored: the request's own line says what was decided."""

    def attempted(self, attempt: AttemptRecord) -> None:
        """Ignored: the request's own line says what was tried."""

    def session_changed(self, event: str) -> None:
        """Ignored: the request's own line has the state of its session."""

    def ended(self, request: RequestRecord) -> None:
        """Writes the line of a request."""
        self._writer.put(access_line(request, self._replica))


def access_line(request: RequestRecord, replica: str) -> bytes:
    """The line of a request; null is what is unknown or does not apply."""
    tried = request.tried
    return line_of(
        {
            "log": ACCESS,
            "at": time_text(request.at),
            "id": short(request.id),
            "client": request.client or None,
            "team": request.team or None,
            "surface": request.surface,
            "asked": short(request.asked),
            "stream": request.stream,
            "status": request.status,
            "error": short(request.error_type),
            "model": short(tried[-1].model if tried else request.model),
            "provider": request.provider,
            "reason": request.reason or None,
            "route": short(request.route),
            "confidence": number(request.confidence),
            "tier": request.tier or None,
            "rule": request.rule or None,
            "candidates": [short(model) for model in request.candidates],
            "tried": [_tried(one) for one in tried],
            "ms": {
                "decide": milliseconds(request.decided_s or None),
                "first_token": milliseconds(request.first_token_s),
                "total": milliseconds(request.seconds),
                "overhead": milliseconds(request.overhead_s),
                "queued": milliseconds(request.queued_s),
            },
            "tokens": _tokens(request.usage),
            "tokens_estimated": request.is_estimated,
            "usd": request.usd,
            "baseline_usd": request.baseline_usd,
            "session": request.session,
            "session_hash": request.session_hash or None,
            "policy": request.policy or None,
            "trace": short(request.trace),
            "replica": replica or None,
        }
    )


def _tried(tried: TriedRecord) -> Json:
    return {
        "provider": tried.provider,
        "model": short(tried.model),
        "outcome": short(tried.outcome),
        "began_ms": milliseconds(tried.began_s),
        "ms": milliseconds(tried.seconds),
    }


def _tokens(usage: ir.Usage | None) -> Json:
    """The tokens in four classes that do not overlap; null if they are unknown."""
    if usage is None:
        return None
    return {
        "input": usage.uncached_input,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write,
        "output": usage.output,
    }
