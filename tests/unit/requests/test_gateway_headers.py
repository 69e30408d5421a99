"""The use case: the headers that the client gets."""

from pathlib import Path

import pytest

from serve_app.errors import InvalidRequest, UnknownModel
from serve_app.exchange import FaultKind, UpstreamReply
from serve_app.snapshot import Snapshot
from tests.unit.fakes import COMPLETION, FakeChunks, Scripted, fault, headers_of, reply, snapshot_of
from tests.unit.requests.gateway_rig import TEXT, make_rig


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(tmp_path, TEXT)


DECIDED = {
    "x-fingerpost-model",
    "x-fingerpost-reason",
    "x-fingerpost-attempts",
    "x-fingerpost-policy",
    "server-timing",
}


@pytest.mark.parametrize(
    "outcome",
    [
        reply(),
        reply(400, b"{}"),
        reply(500, b"x"),
        fault(FaultKind.CONNECT),
        fault(FaultKind.NO_KEY),
    ],
)
async def test_every_answer_has_decision_headers(outcome: Scripted, snapshot: Snapshot) -> None:
    """Every answer, good or bad, has the headers of the decision; a route and a score only if the
    request was scored.
    """
    answer = await make_rig(snapshot, {"openai/a": outcome}).ask({"model": "a"})
    headers = headers_of(answer)
    assert set(headers) >= DECIDED
    assert headers["x-fingerpost-policy"] == snapshot.policy.version
    assert {"x-fingerpost-route", "x-fingerpost-confidence"}.isdisjoint(headers)


async def test_stream_has_decision_headers(snapshot: Snapshot) -> None:
    """A stream has the headers of the decision and the allowed headers of the provider."""
    body = FakeChunks(b'data: {"choices":[{"text":"x"}]}\n\n')
    sse = reply(200, body, (("x-request-id", "r1"), ("openai-model", "m"), ("server", "x")))
    answer = await make_rig(snapshot, {"openai/a": sse}).ask({"model": "a", "stream": True})
    headers = headers_of(answer)
    assert set(headers) >= DECIDED
    assert headers["x-fingerpost-upstream-request-id"] == "r1"
    assert (headers["openai-model"], "server" in headers) == ("m", False)


async def test_wildcard_name_is_percent_encoded_in_header(snapshot: Snapshot) -> None:
    """A model name from the client is percent-encoded in the header."""
    name = "vllm/é x: y%"
    answer = await make_rig(snapshot, {name: reply()}).ask({"model": name})
    assert headers_of(answer)["x-fingerpost-model"] == "vllm/%C3%A9 x: y%25"


@pytest.mark.parametrize("name", ["vllm/a\r\nx: y", "vllm/" + "a" * 400, "vllm/\x00"])
@pytest.mark.parametrize("field", ["model", "models", "x-arch-llm-provider-hint"])
async def test_gateway_rejects_invalid_model_name(
    snapshot: Snapshot, name: str, field: str
) -> None:
    """A model name with control characters or without a length limit is rejected with its field."""
    value = [name] if field == "models" else name
    hint = name if field.startswith("x-") else None
    with pytest.raises(InvalidRequest) as caught:
        await make_rig(snapshot, {}).ask({"model": "openai/a", field: value}, hint=hint)
    assert caught.value.param == field


async def test_lone_surrogate_in_model_name_does_not_fail_gateway(snapshot: Snapshot) -> None:
    """A model name with a lone surrogate is either passed on or rejected, and never causes an
    internal error.
    """
    name = "vllm/\ud800"
    try:
        answer = await make_rig(snapshot, {name: reply()}).ask({"model": name})
    except (InvalidRequest, UnknownModel):
        return
    assert answer.status == 200


async def test_long_model_name_does_not_exceed_header_limit(snapshot: Snapshot) -> None:
    """The headers of an answer stay below 16 KiB, however long the client's model name is."""
    name = "vllm/" + "x" * 100_000
    try:
        answer = await make_rig(snapshot, {name: reply()}).ask({"model": name})
    except (InvalidRequest, UnknownModel):
        return
    assert sum(len(name) + len(value) for name, value in answer.headers) <= 16 << 10


ALLOWED = [
    ("content-type", "application/json"),
    ("retry-after", "1"),
    ("retry-after-ms", "1"),
    ("x-should-retry", "true"),
    ("openai-processing-ms", "5"),
    ("openai-version", "v"),
    ("openai-model", "m"),
    ("x-ratelimit-remaining-tokens", "1"),
    ("anthropic-ratelimit-requests-limit", "1"),
]
REFUSED = ["set-cookie", "server", "content-length", "transfer-encoding", "connection", "x-fingerpost-model", "alt-svc", "openai-organization", "content-encoding", "x-ratelimit"]  # fmt: skip


async def test_provider_headers_pass_by_allow_list(snapshot: Snapshot) -> None:
    """The gateway passes on the provider's headers in the allow list and drops all others,
    including `x-fingerpost-*`.
    """
    sent = (*ALLOWED[1:], *((name, "no") for name in REFUSED))
    answer = await make_rig(snapshot, {"openai/a": reply(200, COMPLETION, sent)}).ask(
        {"model": "a"}
    )
    assert list(answer.headers[: len(ALLOWED)]) == ALLOWED
    assert "no" not in dict(answer.headers).values()


async def test_provider_headers_are_limited_to_16_kib(snapshot: Snapshot) -> None:
    """The gateway passes on at most 16 KiB of a provider's headers."""
    sent = tuple((f"x-ratelimit-{n}", "v" * 1000) for n in range(100))
    answer = await make_rig(snapshot, {"openai/a": reply(200, COMPLETION, sent)}).ask(
        {"model": "a"}
    )
    passed = [pair for pair in answer.headers if pair[0].startswith("x-ratelimit-")]
    assert 10 < len(passed) <= 16
    assert sum(len(name) + len(value) for name, value in passed) <= 16 << 10


async def test_oversized_provider_header_is_dropped_alone(snapshot: Snapshot) -> None:
    """The gateway drops a header that is too large and keeps the others."""
    sent = (("x-ratelimit-huge", "v" * 20_000), ("retry-after", "7"))
    answer = await make_rig(snapshot, {"openai/a": reply(400, b"{}", sent)}).ask({"model": "a"})
    assert headers_of(answer)["retry-after"] == "7"
    assert "x-ratelimit-huge" not in headers_of(answer)


@pytest.mark.parametrize("kind", [None, "text/plain", "Application/JSON; charset=utf-8"])
async def test_good_answer_has_json_content_type(kind: str | None, snapshot: Snapshot) -> None:
    """A good answer has a JSON content type, because SDKs rely on it; a correct type is kept."""
    headers = () if kind is None else (("content-type", kind), ("openai-model", "m"))
    upstream_reply = UpstreamReply(200, headers, COMPLETION)
    answer = await make_rig(snapshot, {"openai/a": upstream_reply}).ask({"model": "a"})
    expected = kind if kind is not None and "JSON" in kind else "application/json"
    assert headers_of(answer)["content-type"] == expected
