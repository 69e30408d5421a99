"""The use case: tries candidates in turn, returns an answer, and records it."""

import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import InvalidRequest, NoModel, UnknownModel
from serve_app.exchange import FaultKind, UpstreamRequest
from serve_app.requests.answer import Answer
from serve_app.snapshot import Snapshot
from serve_app.telemetry.metrics import Metric
from tests.unit.config.broken import V
from tests.unit.fakes import (
    COMPLETION,
    FakeChunks,
    FakeUpstream,
    Scripted,
    fault,
    headers_of,
    reply,
    snapshot_of,
)
from tests.unit.requests.gateway_rig import TEXT, make_rig


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(tmp_path, TEXT)


def error_of(answer: Answer) -> dict[str, Any]:
    assert isinstance(answer.body, bytes)
    error: dict[str, Any] = json.loads(answer.body)["error"]
    return error


async def test_gateway_forwards_request_with_provider_model_name(snapshot: Snapshot) -> None:
    """The provider gets the client's body with its own model name, and the forwarded headers."""
    rig = make_rig(snapshot, {"openai/b": reply()})
    answer = await rig.ask({"model": "fast", "models": ["a"], "x": 1}, headers=(("accept", "*/*"),))
    (request,) = rig.upstream.requests
    assert json.loads(request.body) == {
        "messages": [{"role": "user", "content": "Hello"}],
        "model": "b",
        "x": 1,
    }
    assert (request.provider, request.path, request.stream) == (
        "openai",
        "/chat/completions",
        False,
    )
    assert request.headers == (("accept", "*/*"),)
    assert (answer.status, answer.body) == (200, COMPLETION)


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        (fault(FaultKind.CONNECT), "connect"),
        (fault(FaultKind.TIMEOUT), "timeout"),
        (fault(FaultKind.BROKEN), "broken"),
        (fault(FaultKind.NO_KEY), "no_key"),
        (fault(FaultKind.HOP), "hop"),
        (fault(FaultKind.TOO_LARGE), "too_large"),
        (reply(500, b"{}"), "500"),
        (reply(503, b"no"), "503"),
        (reply(529, b"{}"), "529"),
        (reply(429, b"{}"), "429"),
        (reply(200, b'{"error": {"message": "no"}}'), "502"),
        (reply(200, b'{"error": {"message": "no", "code": 429}}'), "429"),
        (reply(200, b'{"error": "no"}'), "bad_answer"),
        (reply(200, b"<html>"), "bad_answer"),
    ],
)
async def test_gateway_fails_over_to_next_candidate(
    trouble: Scripted, outcome: str, snapshot: Snapshot
) -> None:
    """When a candidate fails, the client gets the answer of the next one."""
    rig = make_rig(snapshot, {"openai/a": trouble, "openai/b": reply()})
    answer = await rig.ask({"model": "a", "fallbacks": ["b", "vllm/c"]})
    assert rig.upstream.models == ["openai/a", "openai/b"]
    assert (answer.status, answer.body) == (200, COMPLETION)
    headers = headers_of(answer)
    assert headers["x-fingerpost-model"] == "openai/b"
    assert headers["x-fingerpost-reason"] == "failover"
    assert headers["x-fingerpost-attempts"] == "2"
    assert rig.meter.counted(Metric.ATTEMPTS) == [
        ("openai", "openai/a", outcome),
        ("openai", "openai/b", "ok"),
    ]


RESET = fault(FaultKind.RESET)
CONNECT = fault(FaultKind.CONNECT)
TIMEOUT = fault(FaultKind.TIMEOUT)


@pytest.mark.parametrize(
    ("script", "tried", "reason"),
    [
        ({"openai/a": [RESET, reply()]}, "aa", "explicit"),
        ({"openai/a": RESET, "openai/b": reply()}, "aab", "failover"),
        ({"openai/a": [RESET, CONNECT], "openai/b": reply()}, "aab", "failover"),
        ({"openai/a": RESET, "openai/b": RESET}, "aabb", "failover"),
        ({"openai/a": CONNECT, "openai/b": reply(500), "openai/d": RESET}, "abdd", "failover"),
        ({f"openai/{name}": TIMEOUT for name in "abde"}, "abde", "failover"),
    ],
)
async def test_gateway_retries_reset_candidate_once(
    script: dict[str, Scripted], tried: str, reason: str, snapshot: Snapshot
) -> None:
    """The gateway retries a reset candidate once, and makes at most four attempts."""
    rig = make_rig(snapshot, script)
    answer = await rig.ask({"model": "a", "models": ["b", "d", "e", "vllm/c"]})
    assert rig.upstream.models == [f"openai/{name}" for name in tried]
    assert headers_of(answer)["x-fingerpost-attempts"] == str(len(tried))
    assert headers_of(answer)["x-fingerpost-reason"] == reason


async def test_gateway_opens_fresh_connection_after_reset(snapshot: Snapshot) -> None:
    """The attempt after a reset uses a fresh connection, for any candidate; the next attempt after
    another fault does not.
    """
    rig = make_rig(snapshot, {"openai/a": RESET, "openai/b": CONNECT, "openai/d": reply()})
    await rig.ask({"model": "a", "models": ["b", "d"]})
    tried = [(request.model.name, request.fresh) for request in rig.upstream.requests]
    assert tried == [("a", False), ("a", True), ("b", True), ("d", False)]


@pytest.mark.parametrize("stream", [False, True])
async def test_gateway_returns_error_in_200_with_its_own_status(
    stream: bool, snapshot: Snapshot
) -> None:
    """An error in a body with status 200 reaches the client with the error's own status, text and
    headers.
    """
    body = b'{"error": {"message": "wait", "code": 429}, "choices": null}'
    passed = (("retry-after", "7"), ("x-request-id", "r1"))
    answer = await make_rig(snapshot, {"openai/a": reply(200, body, passed)}).ask(
        {"model": "a", "stream": stream}
    )
    headers = headers_of(answer)
    assert (answer.status, answer.body) == (429, body)
    assert (headers["retry-after"], headers["x-fingerpost-upstream-request-id"]) == ("7", "r1")


async def test_gateway_detects_truncated_answer_without_length(snapshot: Snapshot) -> None:
    """An answer without a content length that is not complete JSON fails over to the next
    candidate; a complete one with a length is passed on.
    """
    torn = b'{"choices": [{"message": {"content": "half"}'
    rig = make_rig(snapshot, {"openai/a": reply(200, torn), "openai/b": reply()})
    answer = await rig.ask({"model": "a", "models": ["b"]})
    assert (answer.body, rig.upstream.models) == (COMPLETION, ["openai/a", "openai/b"])
    complete = reply(200, COMPLETION, (("content-length", str(len(COMPLETION))),))
    assert (await make_rig(snapshot, {"openai/a": complete}).ask({"model": "a"})).body == COMPLETION


@pytest.mark.parametrize("status", [400, 409, 422])
async def test_gateway_passes_on_client_errors_without_failover(
    status: int, snapshot: Snapshot
) -> None:
    """A client error of a provider goes back unchanged, and no other candidate is tried."""
    body = b'{ "error": {"message": "m\\u00e9", "type": "x", "code": null} }'
    passed = (("retry-after", "7"), ("x-should-retry", "false"), ("set-cookie", "a=b"))
    rig = make_rig(snapshot, {"openai/a": reply(status, body, passed)})
    answer = await rig.ask({"model": "a", "models": ["b"]})
    headers = headers_of(answer)
    assert (answer.status, answer.body) == (status, body)
    assert (headers["retry-after"], headers["x-should-retry"]) == ("7", "false")
    assert headers["content-type"] == "application/json"
    assert "set-cookie" not in headers
    assert rig.upstream.models == ["openai/a"]


async def test_gateway_passes_on_last_provider_error(snapshot: Snapshot) -> None:
    """When all candidates have failed, the client gets the status and the body of the last one."""
    rig = make_rig(
        snapshot,
        {
            "openai/a": reply(500, b"{}"),
            "openai/b": reply(429, b'{"error":{"message":"slow"}}', (("retry-after", "3"),)),
        },
    )
    answer = await rig.ask({"model": "a", "models": ["b"]})
    assert (answer.status, answer.body) == (429, b'{"error":{"message":"slow"}}')
    assert headers_of(answer)["retry-after"] == "3"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"too busy\n", "openai/a answered 503: too busy"),
        (b"<html>secret", "openai/a answered 503"),
        (b'{"detail": "x"}', 'openai/a answered 503: {"detail": "x"}'),
        (b"", "openai/a answered 503"),
    ],
)
async def test_gateway_renders_unknown_error_body_in_dialect(
    body: bytes, message: str, snapshot: Snapshot
) -> None:
    """An error body that SDKs cannot read is replaced by an error in the client's dialect with the
    same status.
    """
    foreign = reply(503, body, (("content-type", "text/html"),))
    answer = await make_rig(snapshot, {"openai/a": foreign}).ask({"model": "a"})
    assert (answer.status, error_of(answer)["message"]) == (503, message)
    assert headers_of(answer)["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (FaultKind.CONNECT, 502, "upstream_error"),
        (FaultKind.RESET, 502, "upstream_error"),
        (FaultKind.BAD_ANSWER, 502, "upstream_error"),
        (FaultKind.TIMEOUT, 504, "upstream_timeout"),
        (FaultKind.NO_KEY, 503, "provider_key_missing"),
        (FaultKind.TOO_LARGE, 413, "body_too_large"),
    ],
)
async def test_gateway_reports_fault_as_its_own_error(
    kind: FaultKind, status: int, code: str, snapshot: Snapshot
) -> None:
    """When no provider answers, the gateway's error names the model, the fault, and the number of
    attempts.
    """
    answer = await make_rig(snapshot, {"openai/a": fault(kind, "why")}).ask({"model": "a"})
    twice = f" (after 2 attempts: openai/a: {kind}, openai/a: {kind})"
    attempts = twice if kind in (FaultKind.RESET, FaultKind.CONNECT) else ""
    error = error_of(answer)
    assert (answer.status, error["code"]) == (status, code)
    assert error["message"] == f"openai/a: why{attempts}"


async def test_complete_answer_to_streaming_request_fails_over(snapshot: Snapshot) -> None:
    """A complete answer to a streaming request counts as a failure, and the next candidate is
    tried.
    """
    body = FakeChunks(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', b"data: [DONE]\n\n")
    rig = make_rig(snapshot, {"openai/a": reply(), "openai/b": reply(200, body)})
    answer = await rig.ask({"model": "a", "models": ["b"], "stream": True})
    assert rig.upstream.models == ["openai/a", "openai/b"]
    assert rig.upstream.requests[0].stream
    assert not isinstance(answer.body, bytes)
    await answer.body.aclose()


@pytest.mark.parametrize("first", [[], [b'data: {"error":{"code":500}}\n\n'], [b": x\n\n"]])
async def test_stream_that_fails_before_commit_fails_over(
    first: list[bytes], snapshot: Snapshot
) -> None:
    """The gateway closes a stream that fails before its commit and sends the next candidate's whole
    stream.
    """
    one, two = (
        FakeChunks(*first),
        FakeChunks(b'data: {"choices":[{"text":"x"}]}\n\ndata: [DONE]\n\n'),
    )
    rig = make_rig(snapshot, {"openai/a": reply(200, one), "openai/b": reply(200, two)})
    answer = await rig.ask({"model": "a", "models": ["b"], "stream": True})
    assert not isinstance(answer.body, bytes)
    assert b"".join([chunk async for chunk in answer.body]).endswith(b"[DONE]\n\n")
    assert (one.closed, headers_of(answer)["x-fingerpost-model"]) == (1, "openai/b")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream": []}, "stream"),
        ({"messages": None}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": {}}, "messages"),
        ({"model": 1}, "model"),
        ({"model": ["a"]}, "model"),
        ({"model": False}, "model"),
        ({"models": "b"}, "models"),
        ({"models": [1]}, "models"),
        ({"models": {"b": 1}}, "models"),
        ({"fallbacks": [None]}, "fallbacks"),
        ({"fallbacks": "b"}, "fallbacks"),
        ({"models": ["b"] * 9, "fallbacks": ["b"] * 8}, "models"),
    ],
)
async def test_gateway_rejects_field_of_wrong_type(
    body: dict[str, Any], param: str, snapshot: Snapshot
) -> None:
    """A field of the wrong type is rejected with its name before any provider is called."""
    rig = make_rig(snapshot, {})
    with pytest.raises(InvalidRequest) as caught:
        await rig.ask({"model": "a", **body})
    assert caught.value.param == param
    assert (caught.value.status, rig.upstream.models) == (400, [])


@pytest.mark.parametrize("stream", [None, False])
async def test_gateway_treats_null_fields_as_absent(
    stream: bool | None, snapshot: Snapshot
) -> None:
    """The gateway treats null in `stream`, `models` and `fallbacks` as absent, like OpenAI."""
    rig = make_rig(snapshot, {"openai/a": reply()})
    await rig.ask({"model": "a", "stream": stream, "models": None, "fallbacks": None})
    assert not rig.upstream.requests[0].stream


async def test_gateway_rejects_unknown_model_before_any_call(snapshot: Snapshot) -> None:
    """An unknown model name is rejected before any provider or the orchestrator is called."""
    rig = make_rig(snapshot, {})
    with pytest.raises(UnknownModel):
        await rig.ask({"model": "nope"})
    with pytest.raises(UnknownModel):
        await rig.ask({"model": "a"}, hint="nope")
    assert (rig.upstream.models, rig.orchestrator.questions) == ([], [])


async def test_gateway_raises_no_model_without_default_and_routes(tmp_path: Path) -> None:
    """A request for auto raises NoModel if neither a default model nor routes are configured."""
    with pytest.raises(NoModel):
        await make_rig(snapshot_of(tmp_path, V), {}).ask({"model": "auto"})


async def test_deadline_shrinks_with_each_attempt(snapshot: Snapshot) -> None:
    """Each attempt gets the time that is left of the total; when it is used up, the client gets a
    timeout.
    """
    rig = make_rig(snapshot, {})

    def slow(request: UpstreamRequest) -> Any:
        rig.clock.now += 60
        return fault(FaultKind.TIMEOUT, "late")

    rig.upstream = FakeUpstream({f"openai/{name}": [slow] for name in "abd"})
    answer = await rig.ask({"model": "a", "models": ["b", "d"]})
    assert [request.deadline_s for request in rig.upstream.requests] == [100, 40]
    assert (answer.status, error_of(answer)["code"]) == (504, "upstream_timeout")


async def test_deadline_counts_from_arrival(snapshot: Snapshot) -> None:
    """The total time counts from the arrival of the request, not from its decision."""
    rig = make_rig(snapshot, {"openai/a": reply()})
    await rig.ask({"model": "a"}, waited_s=30)
    assert rig.upstream.requests[0].deadline_s == 70


async def test_late_request_times_out_without_attempts(snapshot: Snapshot) -> None:
    """A request whose total time has passed times out, and no provider is called."""
    rig = make_rig(snapshot, {})
    answer = await rig.ask({"model": "a", "models": ["b"]}, waited_s=100)
    assert (answer.status, rig.upstream.models) == (504, [])
