"""What the API reads before anything is decided: headers and the body."""

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


def test_headers_are_read_in_one_pass() -> None:
    """What is ours is kept, what may go on goes on, the rest is left behind."""
    facts = read_headers(
        [
            (b"host", b"h"),
            (b"user-agent", b"caf\xe9"),
            (b"authorization", b"Bearer  sk-1 "),
            (b"x-api-key", b" sk-2"),
            (b"content-length", b"12"),
            (b"x-arch-llm-provider-hint", "é".encode()),
            (b"anthropic-version", b"2023-06-01"),
            (b"origin", b"http://localhost:3000"),
            (b"cookie", b"a=b"),
            (b"openai-beta", b"x"),
            (b"openai-organization", b"o"),
            (b"traceparent", b"t"),
        ],
        10_000,
    )
    assert facts.forwarded == (("user-agent", "café"), ("openai-beta", "x"), ("traceparent", "t"))
    assert (facts.hint, facts.content_length) == ("é", 12)
    assert facts.keys == (b"sk-1", b"sk-2")
    assert facts.origin == "http://localhost:3000"


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
def test_a_key_is_a_bearer_token(value: bytes, keys: tuple[bytes, ...]) -> None:
    """Other ways to authenticate are no client key."""
    assert read_headers([(b"authorization", value)], 1000).keys == keys


@pytest.mark.parametrize(
    ("value", "length"), [(b"0", 0), (b"007", 7), (b"-1", None), (b"+1", None), (b"1,1", None), (b"", None), (b"1e3", None)]
)  # fmt: skip
def test_a_length_is_a_number(value: bytes, length: int | None) -> None:
    """Anything else announces nothing."""
    assert read_headers([(b"content-length", value)], 1000).content_length == length


def test_a_length_of_thousands_of_digits_is_no_surprise() -> None:
    """A length that nobody can mean is too large or none, but no failure of the gateway."""
    length = read_headers([(b"content-length", b"9" * 5000)], 10_000).content_length
    assert length is None or length > 1 << 60


@pytest.mark.parametrize(("limit", "fits"), [(30, True), (29, False)])
def test_all_headers_count(limit: int, fits: bool) -> None:
    """Names, values and the four signs around each, those that we drop too."""
    headers: Pairs = [(b"aaaa", b"bbbbbb"), (b"cookie", b"123456")]
    if fits:
        assert read_headers(headers, limit).forwarded == ()
        return
    with pytest.raises(HeadersTooLarge) as caught:
        read_headers(headers, limit)
    assert caught.value.limit == limit


def receive_of(*messages: dict[str, Any]) -> tuple[Callable[[], Awaitable[Any]], list[Any]]:
    """An ASGI receive that gives these messages and then nothing more; and what is left."""
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
async def test_a_body_is_read_whole(messages: list[dict[str, Any]], body: bytes) -> None:
    """In one message or many, up to the limit."""
    receive, left = receive_of(*messages)
    assert await read_body(receive, None, 4) == body
    assert left == []


async def test_an_announced_size_is_believed() -> None:
    """A body that says it is too large is refused before any of it is read."""
    receive, left = receive_of(part(b"a", more=False))
    with pytest.raises(BodyTooLarge) as caught:
        await read_body(receive, 5, 4)
    assert (caught.value.limit, len(left)) == (4, 1)


@pytest.mark.parametrize("length", [None, 3])
async def test_a_body_that_grows_is_refused(length: int | None) -> None:
    """Without a length, or with a lie, reading ends where the limit is passed."""
    receive, left = receive_of(part(b"abc"), part(b"de"), part(b"f", more=False))
    with pytest.raises(BodyTooLarge):
        await read_body(receive, length, 4)
    assert len(left) == 1


async def test_a_client_may_leave_while_it_sends() -> None:
    """Half a body is no request."""
    receive, _ = receive_of(part(b"ab"), {"type": "http.disconnect"})
    with pytest.raises(ClientGoneError):
        await read_body(receive, None, 10)


async def test_a_client_may_not_pause_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two parts of a body there is a time limit."""
    monkeypatch.setattr(body, "BODY_IDLE_S", 0.01)
    receive, _ = receive_of(part(b"ab"))
    with pytest.raises(BodyTimeout):
        await read_body(receive, None, 10)


async def test_a_slow_body_is_none_that_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for a pause, not for the whole."""
    monkeypatch.setattr(body, "BODY_IDLE_S", 0.2)
    receive, _ = receive_of(*[part(b"a")] * 5, part(b"b", more=False))

    async def slow() -> Any:
        await asyncio.sleep(0.05)
        return await receive()

    assert await read_body(slow, None, 10) == b"aaaaab"
