"""The use case: candidates in turn, what goes back, and what is recorded."""

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
    setup_of,
)
from tests.unit.requests.gateway_rig import TEXT, rig


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return setup_of(tmp_path, TEXT)


def error_of(answer: Answer) -> dict[str, Any]:
    assert isinstance(answer.body, bytes)
    error: dict[str, Any] = json.loads(answer.body)["error"]
    return error


async def test_a_request_goes_on_as_it_came(snapshot: Snapshot) -> None:
    """The provider gets the body with its own name for the model, and the forwarded headers."""
    asking = rig(snapshot, {"openai/b": reply()})
    answer = await asking.ask(
        {"model": "fast", "models": ["a"], "x": 1}, headers=(("accept", "*/*"),)
    )
    (request,) = asking.upstream.requests
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
async def test_the_next_candidate_answers(
    trouble: Scripted, outcome: str, snapshot: Snapshot
) -> None:
    """A candidate in trouble costs the client nothing while another can answer."""
    asking = rig(snapshot, {"openai/a": trouble, "openai/b": reply()})
    answer = await asking.ask({"model": "a", "fallbacks": ["b", "vllm/c"]})
    assert asking.upstream.asked == ["openai/a", "openai/b"]
    assert (answer.status, answer.body) == (200, COMPLETION)
    headers = headers_of(answer)
    assert headers["x-fingerpost-model"] == "openai/b"
    assert headers["x-fingerpost-reason"] == "failover"
    assert headers["x-fingerpost-attempts"] == "2"
    assert asking.meter.counted(Metric.ATTEMPTS) == [
        ("openai", "openai/a", outcome),
        ("openai", "openai/b", "ok"),
    ]


RESET = fault(FaultKind.RESET)
CONNECT = fault(FaultKind.CONNECT)


@pytest.mark.parametrize(
    ("script", "asked", "reason"),
    [
        ({"openai/a": [RESET, reply()]}, "aa", "explicit"),
        ({"openai/a": RESET, "openai/b": reply()}, "aab", "failover"),
        ({"openai/a": [RESET, CONNECT], "openai/b": reply()}, "aab", "failover"),
        ({"openai/a": RESET, "openai/b": RESET}, "aabb", "failover"),
        ({"openai/a": CONNECT, "openai/b": RESET, "openai/d": RESET}, "abbd", "failover"),
        ({f"openai/{name}": CONNECT for name in "abde"}, "abde", "failover"),
    ],
)
async def test_a_reset_is_tried_once_more(
    script: dict[str, Scripted], asked: str, reason: str, snapshot: Snapshot
) -> None:
    """The same candidate again, once, and four exchanges in all."""
    asking = rig(snapshot, script)
    answer = await asking.ask({"model": "a", "models": ["b", "d", "e", "vllm/c"]})
    assert asking.upstream.asked == [f"openai/{name}" for name in asked]
    assert headers_of(answer)["x-fingerpost-attempts"] == str(len(asked))
    assert headers_of(answer)["x-fingerpost-reason"] == reason


async def test_after_a_reset_comes_a_connection_of_its_own(snapshot: Snapshot) -> None:
    """For the exchange that follows, whoever it is with; one that was not reset changes that."""
    asking = rig(snapshot, {"openai/a": RESET, "openai/b": CONNECT, "openai/d": reply()})
    await asking.ask({"model": "a", "models": ["b", "d"]})
    tried = [(request.model.name, request.fresh) for request in asking.upstream.requests]
    assert tried == [("a", False), ("a", True), ("b", True), ("d", False)]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_under_a_200_counts_as_what_it_stands_for(
    stream: bool, snapshot: Snapshot
) -> None:
    """Its status, its words and the provider's headers reach the client."""
    body = b'{"error": {"message": "wait", "code": 429}, "choices": null}'
    passed = (("retry-after", "7"), ("x-request-id", "r1"))
    answer = await rig(snapshot, {"openai/a": reply(200, body, passed)}).ask(
        {"model": "a", "stream": stream}
    )
    headers = headers_of(answer)
    assert (answer.status, answer.body) == (429, body)
    assert (headers["retry-after"], headers["x-fingerpost-upstream-request-id"]) == ("7", "r1")


async def test_an_answer_without_an_announced_end_may_be_torn(snapshot: Snapshot) -> None:
    """What only looks whole is not; with a length it would have been missed by the transport."""
    torn = b'{"choices": [{"message": {"content": "half"}'
    asking = rig(snapshot, {"openai/a": reply(200, torn), "openai/b": reply()})
    answer = await asking.ask({"model": "a", "models": ["b"]})
    assert (answer.body, asking.upstream.asked) == (COMPLETION, ["openai/a", "openai/b"])
    told = reply(200, COMPLETION, (("content-length", str(len(COMPLETION))),))
    assert (await rig(snapshot, {"openai/a": told}).ask({"model": "a"})).body == COMPLETION


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_the_clients_own_mistake_is_final(status: int, snapshot: Snapshot) -> None:
    """An error of the request goes back word for word, and nobody else is asked."""
    body = b'{ "error": {"message": "m\\u00e9", "type": "x", "code": null} }'
    passed = (("retry-after", "7"), ("x-should-retry", "false"), ("set-cookie", "a=b"))
    asking = rig(snapshot, {"openai/a": reply(status, body, passed)})
    answer = await asking.ask({"model": "a", "models": ["b"]})
    headers = headers_of(answer)
    assert (answer.status, answer.body) == (status, body)
    assert (headers["retry-after"], headers["x-should-retry"]) == ("7", "false")
    assert headers["content-type"] == "application/json"
    assert "set-cookie" not in headers
    assert asking.upstream.asked == ["openai/a"]


async def test_the_last_error_of_a_provider_is_passed_on(snapshot: Snapshot) -> None:
    """When no candidate is left, the last one's status and words reach the client."""
    asking = rig(
        snapshot,
        {
            "openai/a": reply(500, b"{}"),
            "openai/b": reply(429, b'{"error":{"message":"slow"}}', (("retry-after", "3"),)),
        },
    )
    answer = await asking.ask({"model": "a", "models": ["b"]})
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
async def test_a_foreign_error_is_put_into_the_dialect(
    body: bytes, message: str, snapshot: Snapshot
) -> None:
    """An error that SDKs can't read becomes one that they can, with the same status."""
    foreign = reply(503, body, (("content-type", "text/html"),))
    answer = await rig(snapshot, {"openai/a": foreign}).ask({"model": "a"})
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
async def test_a_fault_alone_is_an_error_of_ours(
    kind: FaultKind, status: int, code: str, snapshot: Snapshot
) -> None:
    """Without any answer the gateway says what happened and with whom."""
    answer = await rig(snapshot, {"openai/a": fault(kind, "why")}).ask({"model": "a"})
    attempts = " (after 2 attempts)" if kind is FaultKind.RESET else ""
    error = error_of(answer)
    assert (answer.status, error["code"]) == (status, code)
    assert error["message"] == f"openai/a: why{attempts}"


async def test_a_complete_answer_to_a_streamed_request_is_none(snapshot: Snapshot) -> None:
    """SDKs that wait for events can't read it, so the next candidate is asked."""
    body = FakeChunks(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', b"data: [DONE]\n\n")
    asking = rig(snapshot, {"openai/a": reply(), "openai/b": reply(200, body)})
    answer = await asking.ask({"model": "a", "models": ["b"], "stream": True})
    assert asking.upstream.asked == ["openai/a", "openai/b"]
    assert asking.upstream.requests[0].stream
    assert not isinstance(answer.body, bytes)
    await answer.body.aclose()


@pytest.mark.parametrize("first", [[], [b'data: {"error":{"code":500}}\n\n'], [b": x\n\n"]])
async def test_a_stream_that_fails_before_its_commit_costs_nothing(
    first: list[bytes], snapshot: Snapshot
) -> None:
    """Its body is closed, and the next candidate's stream goes to the client whole."""
    one, two = (
        FakeChunks(*first),
        FakeChunks(b'data: {"choices":[{"text":"x"}]}\n\ndata: [DONE]\n\n'),
    )
    asking = rig(snapshot, {"openai/a": reply(200, one), "openai/b": reply(200, two)})
    answer = await asking.ask({"model": "a", "models": ["b"], "stream": True})
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
async def test_a_wrong_type_is_named(body: dict[str, Any], param: str, snapshot: Snapshot) -> None:
    """What can't be understood is refused with the field, before anybody is asked."""
    asking = rig(snapshot, {})
    with pytest.raises(InvalidRequest) as caught:
        await asking.ask({"model": "a", **body})
    assert caught.value.param == param
    assert (caught.value.status, asking.upstream.asked) == (400, [])


@pytest.mark.parametrize("stream", [None, False])
async def test_no_stream_is_no_stream(stream: bool | None, snapshot: Snapshot) -> None:
    """Null counts as absent, as OpenAI has it."""
    asking = rig(snapshot, {"openai/a": reply()})
    await asking.ask({"model": "a", "stream": stream, "models": None, "fallbacks": None})
    assert not asking.upstream.requests[0].stream


async def test_unknown_names_reach_nobody(snapshot: Snapshot) -> None:
    """Neither the provider nor the orchestrator is asked."""
    asking = rig(snapshot, {})
    with pytest.raises(UnknownModel):
        await asking.ask({"model": "nope"})
    with pytest.raises(UnknownModel):
        await asking.ask({"model": "a"}, hint="nope")
    assert (asking.upstream.asked, asking.orchestrator.asked) == ([], [])


async def test_no_model_at_all_is_the_clients_error(tmp_path: Path) -> None:
    """Without default and routes, auto is a 400."""
    with pytest.raises(NoModel):
        await rig(setup_of(tmp_path, V), {}).ask({"model": "auto"})


async def test_the_deadline_shrinks(snapshot: Snapshot) -> None:
    """Each exchange gets what is left of the total; when nothing is left, that is the answer."""
    asking = rig(snapshot, {})

    def slow(request: UpstreamRequest) -> Any:
        asking.clock.now += 60
        return fault(FaultKind.TIMEOUT, "late")

    asking.upstream = FakeUpstream({f"openai/{name}": [slow] for name in "abd"})
    answer = await asking.ask({"model": "a", "models": ["b", "d"]})
    assert [request.deadline_s for request in asking.upstream.requests] == [100, 40]
    assert (answer.status, error_of(answer)["code"]) == (504, "upstream_timeout")


async def test_time_before_the_gateway_counts(snapshot: Snapshot) -> None:
    """The total begins when the request arrives, not when it is decided."""
    asking = rig(snapshot, {"openai/a": reply()})
    await asking.ask({"model": "a"}, waited_s=30)
    assert asking.upstream.requests[0].deadline_s == 70


async def test_a_request_that_is_late_asks_nobody(snapshot: Snapshot) -> None:
    """When all time has gone by already, that is the answer."""
    asking = rig(snapshot, {})
    answer = await asking.ask({"model": "a", "models": ["b"]}, waited_s=100)
    assert (answer.status, asking.upstream.asked) == (504, [])
