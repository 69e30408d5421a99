"""The place of a request in its trace."""

import random
import re
from typing import Final

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from serve_app.domain import Headers
from serve_app.telemetry.trace_context import TraceContext, Tracer

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT: Final = "b7ad6b7169203331"
VALID: Final = f"00-{TRACE}-{PARENT}-01"
OTHER: Final = (("accept", "*/*"),)
PATH: Final = "/v1/chat/completions"


def begin(value: str, *more: tuple[str, str], sample: float = 1) -> tuple[TraceContext, Headers]:
    context, headers = Tracer(sample).begin((("traceparent", value), *OTHER, *more), PATH)
    assert context is not None
    return context, headers


def test_valid_header_is_continued() -> None:
    """The trace goes on with a span of ours below the client's, and the provider hears of ours."""
    context, headers = begin(VALID, ("tracestate", "a=1"), ("tracestate", "b=2"))
    assert f"{context.trace_id:032x}" == TRACE
    assert f"{context.parent_id:016x}" == PARENT
    assert context.is_sampled
    assert context.route == PATH
    ours = f"00-{TRACE}-{context.span_id:016x}-01"
    assert headers == (*OTHER, ("tracestate", "a=1,b=2"), ("traceparent", ours))
    assert context.span_id != context.parent_id


@pytest.mark.parametrize(
    "value",
    [
        "",
        "garbage",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-0",
        f"00-{TRACE}-{PARENT}-01\r\nx: y",
        f"00-{TRACE}{'a' * 9999}-{PARENT}-01",
    ],
)
def test_invalid_header_begins_a_new_trace(value: str) -> None:
    """A header that W3C calls invalid does not go on, nor does the tracestate beside it."""
    context, headers = begin(value, ("tracestate", "a=1"), sample=1)
    assert context.parent_id == 0
    assert f"{context.trace_id:032x}" != TRACE
    assert context.is_sampled
    assert [name for name, _ in headers] == ["accept", "traceparent"]


def test_two_headers_begin_a_new_trace() -> None:
    """Two traceparents contradict each other, so neither is used."""
    context, headers = begin(VALID, ("traceparent", VALID))
    assert context.parent_id == 0
    assert [name for name, _ in headers] == ["accept", "traceparent"]


def test_later_version_is_continued() -> None:
    """A version that is yet unknown is read as far as it is known, and ours goes on."""
    context, headers = begin(f"cc-{TRACE}-{PARENT}-01-what-comes-then")
    assert f"{context.trace_id:032x}" == TRACE
    assert headers[-1][1].startswith("00-")


def test_long_tracestate_is_dropped() -> None:
    """A tracestate over 512 characters does not go on, while the trace does."""
    context, headers = begin(VALID, ("tracestate", f"a={'x' * 600}"))
    assert f"{context.trace_id:032x}" == TRACE
    assert [name for name, _ in headers] == ["accept", "traceparent"]


@pytest.mark.parametrize("flags", ["00", "01", "02", "03", "ff"])
def test_flags_of_the_client_go_on(flags: str) -> None:
    """Of the client's flags those that are known go on; the client's decision is ours."""
    parent = ("traceparent", f"00-{TRACE}-{PARENT}-{flags}")
    context, headers = Tracer(1).begin((*OTHER, parent), PATH)
    assert (context is not None) is bool(int(flags, 16) & 1)
    assert int(headers[-1][1][-2:], 16) == int(flags, 16) & 3
    assert headers[-1][1][:35] == f"00-{TRACE}"
    assert headers[-1][1][36:52] != PARENT


def test_unsampled_request_tells_its_provider() -> None:
    """A request that is not sampled has a trace of its own, marked as such."""
    headers = [Tracer(0).begin(OTHER, PATH) for _ in range(20)]
    assert {context for context, _ in headers} == {None}
    values = [found[-1][1] for _, found in headers]
    assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-02", value) for value in values)
    assert len(set(values)) == 20


def test_each_attempt_has_a_span_of_its_own() -> None:
    """The attempts of a request have different ids, none of them 0 or the request's own."""
    context, headers = begin(VALID)
    told = [context.headers_of_attempt(headers, ordinal)[-1][1] for ordinal in range(1, 9)]
    ids = [header.split("-")[2] for header in told]
    assert len({*ids, f"{context.span_id:016x}"}) == 9
    assert ids == [f"{context.attempt_id(ordinal):016x}" for ordinal in range(1, 9)]
    assert context._replace(span_id=0).attempt_id(0) == 1


def test_sampling_agrees_with_the_official_sampler() -> None:
    """Our decision for a trace id is that of OpenTelemetry's sampler with the same share."""
    official = TraceIdRatioBased(0.3)
    tracer = Tracer(0.3, random_bits=random.Random(7).getrandbits)
    sampled = 0
    for _ in range(2000):
        context, headers = tracer.begin((), PATH)
        trace_id = int(headers[-1][1].split("-")[1], 16)
        expected = official.should_sample(None, trace_id, "x").decision
        assert (context is not None) is (expected is Decision.RECORD_AND_SAMPLE)
        sampled += context is not None
    assert 500 < sampled < 700
