"""The place of a request in its trace: what the client's ``traceparent`` says, and ours.

Source: W3C Trace Context. Ids are known before a provider is asked, because the provider gets
them; the spans themselves are made of the record when the request is over.
"""

import os
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from serve_app.domain import Headers

TRACE_HEADERS: Final = frozenset({"traceparent", "tracestate"})

_SAMPLED: Final = 1
_RANDOM: Final = 2
"""The flag that says that the trace id is random, which goes on as it came."""
_TRACE_BYTES: Final = 16
_SPAN_BYTES: Final = 8
_SPAN_IDS: Final = 1 << 64
_STEP: Final = 0x9E3779B97F4A7C15
"""Odd, so that the spans of the attempts of one request have different ids."""
_MAX_STATE: Final = 512
"""Characters of a ``tracestate`` that goes on; a longer one is dropped, as W3C allows."""
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceContext(NamedTuple):
    """The span of one request, and what it continues."""

    trace_id: int
    span_id: int
    parent_id: int
    """The client's span; 0 where the trace begins here."""
    flags: int
    state: str = ""
    """The client's ``tracestate``."""
    with_content: bool = False
    """Its spans may contain the text of the conversation."""
    route: str = ""
    """The path of the request's surface."""
    read_at: float = 0.0
    """When the request's body was complete, in seconds since the epoch."""

    @property
    def is_sampled(self) -> bool:
        """True if the spans of the request are exported."""
        return bool(self.flags & _SAMPLED)

    def attempt_id(self, ordinal: int) -> int:
        """The id of the span of an attempt; the first one has the ordinal 1."""
        return (self.span_id + ordinal * _STEP) % _SPAN_IDS or 1

    def traceparent(self, span_id: int) -> str:
        """The header of a request whose parent is this span."""
        return f"00-{self.trace_id:032x}-{span_id:016x}-{self.flags:02x}"

    def headers_of_attempt(self, headers: Headers, ordinal: int) -> Headers:
        """The headers for a provider; ``headers`` are those that ``Tracer.begin`` returned."""
        return (*headers[:-1], ("traceparent", self.traceparent(self.attempt_id(ordinal))))


class Tracer:
    """Begins the trace of each request, or continues the client's, and decides about sampling.

    The decision depends on the trace id alone, so that it is the same wherever the share is.
    """

    def __init__(
        self,
        sample: float,
        *,
        follow_client: bool = True,
        with_content: bool = False,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """``sample`` is the share of requests that are traced."""
        self._bound = round(sample * _SPAN_IDS)
        self._follow_client = follow_client
        self._with_content = with_content
        self._random_bytes = random_bytes

    def begin(self, headers: Headers, route: str) -> tuple[TraceContext, Headers]:
        """The context of a request, and its headers for providers: ``traceparent`` is the last.

        ``route`` is the path of its surface.
        """
        found = [pair for pair in headers if pair[0] in TRACE_HEADERS]
        context = (self._continued(found) if found else None) or self._new()
        context = context._replace(route=route)
        if found:
            headers = tuple(pair for pair in headers if pair[0] not in TRACE_HEADERS)
        if context.state:
            headers = (*headers, ("tracestate", context.state))
        return context, (*headers, ("traceparent", context.traceparent(context.span_id)))

    def _new(self) -> TraceContext:
        trace_id = self._id(_TRACE_BYTES)
        flags = _RANDOM | self._sampled(trace_id)
        return TraceContext(
            trace_id, self._id(_SPAN_BYTES), 0, flags, with_content=self._with_content
        )

    def _continued(self, headers: list[tuple[str, str]]) -> TraceContext | None:
        """The context that continues the client's trace; None if its header is not valid."""
        parents = [value for name, value in headers if name == "traceparent"]
        match = _PARENT.fullmatch(parents[0].strip()) if len(parents) == 1 else None
        if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
            return None
        trace_id, parent_id, flags = int(match[2], 16), int(match[3], 16), int(match[4], 16)
        if not trace_id or not parent_id:
            return None
        sampled = flags & _SAMPLED if self._follow_client else self._sampled(trace_id)
        state = ",".join(value for name, value in headers if name == "tracestate")
        return TraceContext(
            trace_id,
            self._id(_SPAN_BYTES),
            parent_id,
            (flags & _RANDOM) | sampled,
            state if len(state) <= _MAX_STATE else "",
            self._with_content,
        )

    def _sampled(self, trace_id: int) -> int:
        return _SAMPLED if trace_id % _SPAN_IDS < self._bound else 0

    def _id(self, size: int) -> int:
        return int.from_bytes(self._random_bytes(size)) or 1
