"""The use case: the headers that go back to the client."""

from pathlib import Path

import pytest

from serve_app.errors import InvalidRequest, UnknownModel
from serve_app.exchange import FaultKind, UpstreamReply
from serve_app.snapshot import Snapshot
from tests.unit.fakes import COMPLETION, FakeChunks, Scripted, fault, headers_of, reply, setup_of
from tests.unit.requests.gateway_rig import TEXT, rig


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return setup_of(tmp_path, TEXT)


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
async def test_every_answer_says_what_was_decided(outcome: Scripted, snapshot: Snapshot) -> None:
    """Good or bad, the decision's headers are there; a route and a score only where there were."""
    answer = await rig(snapshot, {"openai/a": outcome}).ask({"model": "a"})
    headers = headers_of(answer)
    assert set(headers) >= DECIDED
    assert headers["x-fingerpost-policy"] == snapshot.policy.version
    assert {"x-fingerpost-route", "x-fingerpost-confidence"}.isdisjoint(headers)


async def test_a_stream_says_what_was_decided(snapshot: Snapshot) -> None:
    """Its head goes out at the commit with the same headers, and the provider's type."""
    body = FakeChunks(b'data: {"choices":[{"text":"x"}]}\n\n')
    sse = reply(200, body, (("x-request-id", "r1"), ("openai-model", "m"), ("server", "x")))
    answer = await rig(snapshot, {"openai/a": sse}).ask({"model": "a", "stream": True})
    headers = headers_of(answer)
    assert set(headers) >= DECIDED
    assert headers["x-fingerpost-upstream-request-id"] == "r1"
    assert (headers["openai-model"], "server" in headers) == ("m", False)


async def test_a_wildcards_name_is_encoded(snapshot: Snapshot) -> None:
    """A name that comes from the client can't break a header."""
    name = "vllm/é x: y%"
    answer = await rig(snapshot, {name: reply()}).ask({"model": name})
    assert headers_of(answer)["x-fingerpost-model"] == "vllm/%C3%A9 x: y%25"


@pytest.mark.parametrize("name", ["vllm/a\r\nx: y", "vllm/" + "a" * 400, "vllm/\x00"])
@pytest.mark.parametrize("field", ["model", "models", "x-arch-llm-provider-hint"])
async def test_a_name_that_is_none_is_refused(snapshot: Snapshot, name: str, field: str) -> None:
    """A name that can't be printed or has no bounds is the client's mistake, named."""
    value = [name] if field == "models" else name
    hint = name if field.startswith("x-") else None
    with pytest.raises(InvalidRequest) as caught:
        await rig(snapshot, {}).ask({"model": "openai/a", field: value}, hint=hint)
    assert caught.value.param == field


async def test_half_a_surrogate_pair_fails_no_request(snapshot: Snapshot) -> None:
    """A name that UTF-8 has no form for is carried or refused, but no failure of the gateway."""
    name = "vllm/\ud800"
    try:
        answer = await rig(snapshot, {name: reply()}).ask({"model": name})
    except (InvalidRequest, UnknownModel):
        return
    assert answer.status == 200


async def test_a_long_name_does_not_burst_the_headers(snapshot: Snapshot) -> None:
    """Answers' headers stay below 16 KiB, whatever a client calls its model."""
    name = "vllm/" + "x" * 100_000
    try:
        answer = await rig(snapshot, {name: reply()}).ask({"model": name})
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


async def test_headers_pass_by_an_allow_list(snapshot: Snapshot) -> None:
    """What clients act upon goes back; all else, and what could pretend to be ours, does not."""
    sent = (*ALLOWED[1:], *((name, "no") for name in REFUSED))
    answer = await rig(snapshot, {"openai/a": reply(200, COMPLETION, sent)}).ask({"model": "a"})
    assert list(answer.headers[: len(ALLOWED)]) == ALLOWED
    assert "no" not in dict(answer.headers).values()


async def test_returned_headers_are_bounded(snapshot: Snapshot) -> None:
    """Never more than 16 KiB of a provider's headers, however many there are."""
    sent = tuple((f"x-ratelimit-{n}", "v" * 1000) for n in range(100))
    answer = await rig(snapshot, {"openai/a": reply(200, COMPLETION, sent)}).ask({"model": "a"})
    passed = [pair for pair in answer.headers if pair[0].startswith("x-ratelimit-")]
    assert 10 < len(passed) <= 16
    assert sum(len(name) + len(value) for name, value in passed) <= 16 << 10


async def test_one_huge_header_takes_no_other_with_it(snapshot: Snapshot) -> None:
    """A header that can't go back is left out alone."""
    sent = (("x-ratelimit-huge", "v" * 20_000), ("retry-after", "7"))
    answer = await rig(snapshot, {"openai/a": reply(400, b"{}", sent)}).ask({"model": "a"})
    assert headers_of(answer)["retry-after"] == "7"
    assert "x-ratelimit-huge" not in headers_of(answer)


@pytest.mark.parametrize("kind", [None, "text/plain", "Application/JSON; charset=utf-8"])
async def test_a_good_answer_is_called_json(kind: str | None, snapshot: Snapshot) -> None:
    """It was read as such, and SDKs go by its type; a right one stays as it is."""
    headers = () if kind is None else (("content-type", kind), ("openai-model", "m"))
    said = UpstreamReply(200, headers, b'{"choices": []}')
    answer = await rig(snapshot, {"openai/a": said}).ask({"model": "a"})
    right = kind if kind is not None and "JSON" in kind else "application/json"
    assert headers_of(answer)["content-type"] == right
