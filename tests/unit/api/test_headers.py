"""Reading a request before the decision: its headers and its body."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from serve_app.api import body
from serve_app.api.body import ClientGoneError, read_body
from serve_app.api.headers import read_headers
from serve_app.errors import (
    BodyTimeout,
    BodyTooLarge,
    HeadersTooLarge,
)

Pairs = list[tuple[bytes, bytes]]


def test_read_headers_sorts_headers() -> None:
    """The gateway's headers are kept, forwardable headers are forwarded, and all others are
    dropped.
    """
    facts = read_headers(
        [
            (b"host", b"h"),
            (b"user-agent", b"caf\xe9"),
            (b"authorization", b"Bearer  sk-1 "),
            (b"x-api-key", b" sk-2"),
            (b"content-length", b"12"),
            (b"x-arch-llm-provider-hint", "é".encode()),
            (b"origin", b"http://localhost:3000"),
            (b"cookie", b"a=b"),
            (b"openai-beta", b"x"),
            (b"openai-organization", b"o"),
            (b"traceparent", b"t"),
        ],
        10_000,
    )
    assert facts.forwarded == (("user-agent", "café"), ("openai-beta", "x"), ("traceparent", "t"))
    assert (facts.hint, facts.content_length, facts.watch_off) == ("é", 12, False)
    assert facts.keys == (b"sk-1", b"sk-2")
    assert facts.origin == "http://localhost:3000"


FORWARDED = [
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "idempotency-key",
    "openai-beta",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-app",
    "x-client-request-id",
    "x-stainless-lang",
    "x-stainless-timeout",
    "x-stainless-whatever-comes",
]
KEPT_BACK = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "host",
    "keep-alive",
    "openai-organization",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-api-key",
    "x-arch-llm-provider-hint",
    "x-fingerpost-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-model-affinity",
    "x-real-ip",
    "x-request-disconnect-disabled",
    "x-request-id",
    "xx-stainless-lang",
]


def test_headers_are_forwarded_by_allow_list() -> None:
    """What clients say of themselves and of the API goes on; what belongs to the connection, to
    proxies, to the gateway, and whatever holds a secret does not.
    """
    headers = [(name.encode(), b"1") for name in sorted([*FORWARDED, *KEPT_BACK])]
    facts = read_headers(headers, 10_000, {b"x-model-affinity"})
    assert [name for name, _ in facts.forwarded] == FORWARDED
    assert facts.watch_off


def test_repeated_header_is_forwarded_each_time() -> None:
    """A client may send its betas in several headers."""
    headers = [(b"anthropic-beta", b"a"), (b"anthropic-beta", b"b")]
    assert read_headers(headers, 1000).forwarded == (
        ("anthropic-beta", "a"),
        ("anthropic-beta", "b"),
    )


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        (b"Bearer a", (b"a",)),
        (b"bearer a", (b"a",)),
        (b"BEARER\ta", ()),
        (b"Bearer", ()),
        (b"Bearer ", (b"",)),
        (b"Basic a", ()),
        (b"a", ()),
        (b"", ()),
    ],
)
def test_client_key_is_bearer_token(value: bytes, keys: tuple[bytes, ...]) -> None:
    """A client key is a bearer token; other authentication schemes are ignored."""
    assert read_headers([(b"authorization", value)], 1000).keys == keys


@pytest.mark.parametrize(
    ("value", "length"), [(b"0", 0), (b"007", 7), (b"-1", None), (b"+1", None), (b"1,1", None), (b"", None), (b"1e3", None)]
)  # fmt: skip
def test_content_length_is_digits_or_ignored(value: bytes, length: int | None) -> None:
    """A content length that is not a plain number is ignored."""
    assert read_headers([(b"content-length", value)], 1000).content_length == length


def test_content_length_with_thousands_of_digits_does_not_raise() -> None:
    """A content length with thousands of digits is either too large or ignored, and does not raise."""
    length = read_headers([(b"content-length", b"9" * 5000)], 10_000).content_length
    assert length is None or length > 1 << 60


@pytest.mark.parametrize(("limit", "fits"), [(30, True), (29, False)])
def test_header_limit_counts_all_headers(limit: int, fits: bool) -> None:
    """The limit counts names, values and four characters per header, also for dropped headers."""
    headers: Pairs = [(b"aaaa", b"bbbbbb"), (b"cookie", b"123456")]
    if fits:
        assert read_headers(headers, limit).forwarded == ()
        return
    with pytest.raises(HeadersTooLarge) as caught:
        read_headers(headers, limit)
    assert caught.value.limit == limit


def receive_of(*messages: dict[str, Any]) -> tuple[Callable[[], Awaitable[Any]], list[Any]]:
    """An ASGI receive callable that returns these messages and then blocks, and the messages left."""
    left: list[Any] = list(messages)

    async def receive() -> Any:
        if left:
            return left.pop(0)
        await asyncio.sleep(3600)
        raise AssertionError

    return receive, left


def part(body: bytes | None, *, more: bool = True) -> dict[str, Any]:
    message: dict[str, Any] = {"type": "http.request"}
    return (
        message | ({} if body is None else {"body": body}) | ({"more_body": True} if more else {})
    )


@pytest.mark.parametrize(
    ("messages", "body"),
    [
        ([part(b"abc", more=False)], b"abc"),
        ([part(b"a"), part(b"bc"), part(b"", more=False)], b"abc"),
        ([part(None, more=False)], b""),
        ([part(b"abcd"), part(None, more=False)], b"abcd"),
    ],
)
async def test_read_body_joins_parts(messages: list[dict[str, Any]], body: bytes) -> None:
    """A body in one message or several is read whole, up to the limit."""
    receive, left = receive_of(*messages)
    assert await read_body(receive, None, 4) == body
    assert left == []


async def test_read_body_rejects_large_content_length() -> None:
    """A body whose content length is too large is rejected before any of it is read."""
    receive, left = receive_of(part(b"a", more=False))
    with pytest.raises(BodyTooLarge) as caught:
        await read_body(receive, 5, 4)
    assert (caught.value.limit, len(left)) == (4, 1)


@pytest.mark.parametrize("length", [None, 3])
async def test_read_body_stops_at_limit(length: int | None) -> None:
    """A body without a content length, or with a wrong one, is rejected as soon as it exceeds the
    limit.
    """
    receive, left = receive_of(part(b"abc"), part(b"de"), part(b"f", more=False))
    with pytest.raises(BodyTooLarge):
        await read_body(receive, length, 4)
    assert len(left) == 1


async def test_read_body_reports_client_disconnect() -> None:
    """A client that disconnects while it sends the body raises ClientGoneError."""
    receive, _ = receive_of(part(b"ab"), {"type": "http.disconnect"})
    with pytest.raises(ClientGoneError):
        await read_body(receive, None, 10)


async def test_read_body_limits_pause_between_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body times out if the pause between two parts is too long."""
    monkeypatch.setattr(body, "BODY_IDLE_S", 0.01)
    receive, _ = receive_of(part(b"ab"))
    with pytest.raises(BodyTimeout):
        await read_body(receive, None, 10)


async def test_read_body_accepts_slow_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit applies to each pause, not to the whole body."""
    monkeypatch.setattr(body, "BODY_IDLE_S", 0.2)
    receive, _ = receive_of(*[part(b"a")] * 5, part(b"b", more=False))

    async def slow() -> Any:
        await asyncio.sleep(0.05)
        return await receive()

    assert await read_body(slow, None, 10) == b"aaaaab"


async def test_read_body_limits_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that trickles in for ever times out, although no pause is too long."""
    monkeypatch.setattr(body, "BODY_TOTAL_S", 0.1)
    began = asyncio.get_running_loop().time()

    async def trickle() -> Any:
        await asyncio.sleep(0.01)
        return part(b"a")

    with pytest.raises(BodyTimeout):
        await read_body(trickle, None, 10_000)
    assert asyncio.get_running_loop().time() - began < 1
