"""The place of a request in its trace: what the client's ``traceparent`` says, and ours.

Source: W3C Trace Context. Ids are known before a provider is asked, because the provider gets
them; the spans themselves are made of the record when the request is over.
"""

import random
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from serve_app.domain import Headers

TRACE_HEADERS: Final = frozenset({"traceparent", "tracestate"})

_SAMPLED: Final = 1
_RANDOM: Final = 2
"""The flag that says that the trace id is random, which goes on as it came."""
_SPAN_BITS: Final = 64
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
        """The headers for the provider of an attempt; ``headers`` are what ``Tracer.begin`` made."""
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
        random_bits: Callable[[int], int] | None = None,
    ) -> None:
        """``sample`` is the share of requests that is traced."""
        bound = round(sample * _SPAN_IDS)
        self._bound = f"{bound:016x}" if bound < _SPAN_IDS else "g"
        """In hexadecimal digits, of which ``g`` is above all; equally long ones sort as numbers."""
        self._follow_client = follow_client
        self._with_content = with_content
        # an instance of its own, because processes that are forked share the state of the module's
        self._random_bits = random_bits or random.Random().getrandbits  # noqa: S311 - no secrets
        self._process = f"{self._random_bits(_SPAN_BITS) | 1:016x}"
        """The first half of the trace ids that begin here; the second half is random in each."""

    def begin(self, headers: Headers, route: str) -> tuple[TraceContext | None, Headers]:
        """The context of a sampled request, else None; and its headers for providers.

        Their last one is the ``traceparent`` of the request. ``route`` is the path of its surface.
        """
        if [pair for pair in headers if pair[0] in TRACE_HEADERS]:
            return self._joined(headers, route)
        digits = f"{self._random_bits(_SPAN_BITS):016x}"
        if digits >= self._bound:
            value = f"00-{self._process}{digits}-{digits}-02"
            return None, (*headers, ("traceparent", value))
        span_id = int(digits, 16)
        trace_id, flags = int(self._process + digits, 16), _RANDOM | _SAMPLED
        context = TraceContext(trace_id, span_id, 0, flags, "", self._with_content, route)
        return context, (*headers, ("traceparent", context.traceparent(span_id)))

    def _joined(self, headers: Headers, route: str) -> tuple[TraceContext | None, Headers]:
        """Goes on with the client's trace, unless its headers are invalid."""
        found = [pair for pair in headers if pair[0] in TRACE_HEADERS]
        others = tuple(pair for pair in headers if pair[0] not in TRACE_HEADERS)
        context = self._continued(found, route)
        if context is None:
            return self.begin(others, route)
        if context.state:
            others = (*others, ("tracestate", context.state))
        own = (*others, ("traceparent", context.traceparent(context.span_id)))
        return (context if context.is_sampled else None), own

    def _continued(self, headers: list[tuple[str, str]], route: str) -> TraceContext | None:
        """The context that continues the client's trace; None if its header is not valid."""
        parents = [value for name, value in headers if name == "traceparent"]
        match = _PARENT.fullmatch(parents[0].strip()) if len(parents) == 1 else None
        if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
            return None
        trace_id, parent_id, flags = int(match[2], 16), int(match[3], 16), int(match[4], 16)
        if not trace_id or not parent_id:
            return None
        own = _SAMPLED if match[2][16:] < self._bound else 0
        sampled = flags & _SAMPLED if self._follow_client else own
        state = ",".join(value for name, value in headers if name == "tracestate")
        return TraceContext(
            trace_id,
            self._random_bits(_SPAN_BITS) | 1,
            parent_id,
            (flags & _RANDOM) | sampled,
            state if len(state) <= _MAX_STATE else "",
            self._with_content,
            route,
        )
