"""What is settled before anything is decided: headers, access, the body."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app.access.exposure import exposure_problem
from serve_app.access.keys import Access
from serve_app.api import body
from serve_app.api.body import ClientGoneError, read_body
from serve_app.api.headers import HeaderFacts, Scope, read_headers
from serve_app.errors import (
    AnonymousRefused,
    BodyTimeout,
    BodyTooLarge,
    HeadersTooLarge,
    InvalidClientKey,
)
from tests.unit.config.broken import V
from tests.unit.fakes import setup_of

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


def access_of(directory: Path, more: str, **environ: str) -> Access:
    return Access(setup_of(directory, V + more).config, environ)


def facts_of(*keys: bytes, origin: str | None = None) -> HeaderFacts:
    headers = [(b"x-api-key", key) for key in keys]
    headers += [] if origin is None else [(b"origin", origin.encode())]
    return read_headers(headers, 10_000)


FAR: Scope = {"client": ("203.0.113.9", 5), "server": ("10.0.0.1", 8000)}
NEAR: Scope = {"client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8000)}


@pytest.mark.parametrize(
    ("keys", "known"),
    [
        ([b"one"], True),
        ([b"two"], True),
        ([b"wrong", b"two"], True),
        ([b"two", b"wrong"], True),
        ([], False),
        ([b""], False),
        ([b"One"], False),
        ([b"on e"], False),
        ([b"$ONE"], False),
        ([b"onetwo"], False),
    ],
)
@pytest.mark.parametrize("scope", [FAR, NEAR])
def test_a_client_key_is_asked_for(
    keys: list[bytes], known: bool, scope: Scope, tmp_path: Path
) -> None:
    """With client keys one of them has to be shown, from this machine too."""
    access = access_of(tmp_path, "client_keys: [$ONE, two]\n", ONE="one")
    assert access.warnings == []
    if known:
        access.check(scope, facts_of(*keys))
        return
    with pytest.raises(InvalidClientKey):
        access.check(scope, facts_of(*keys))


def test_an_unset_client_key_is_nobodys(tmp_path: Path) -> None:
    """It fails closed, with a warning that names the variable and no key."""
    access = access_of(tmp_path, "client_keys: [$NO, sk-1]\n")
    assert access.warnings == [
        "client_keys: the environment variable NO is not set; nobody can use this key"
    ]
    access.check(FAR, facts_of(b"sk-1"))
    for key in (b"", b"$NO"):
        with pytest.raises(InvalidClientKey):
            access.check(NEAR, facts_of(key))


def test_without_any_set_key_nobody_gets_in(tmp_path: Path) -> None:
    """Configured keys of which none is set do not open the door."""
    access = access_of(tmp_path, "client_keys: [$NO]\nallow_anonymous: true\n")
    with pytest.raises(InvalidClientKey):
        access.check(NEAR, facts_of())


@pytest.mark.parametrize(
    ("client", "server", "local"),
    [
        (("127.0.0.1", 5), ("127.0.0.1", 80), True),
        (("127.9.9.9", 5), ("10.0.0.1", 80), True),
        (("::1", 5), ("::1", 80), True),
        (("10.0.0.1", 5), ("10.0.0.1", 80), True),
        (None, None, True),
        (("", 0), None, True),
        (("10.0.0.2", 5), ("10.0.0.1", 80), False),
        (("10.0.0.2", 5), None, False),
        (("fe80::1%eth0", 5), ("10.0.0.1", 80), False),
        (("example.com", 5), ("10.0.0.1", 80), False),
        (("2001:db8::1", 5), ("::", 80), False),
    ],
)
def test_without_keys_this_machine_alone_is_served(
    client: Any, server: Any, local: bool, tmp_path: Path
) -> None:
    """Loopback, or our own address on both ends; all others are refused."""
    access, scope = access_of(tmp_path, ""), {"client": client, "server": server}
    if local:
        access.check(scope, facts_of())
        return
    with pytest.raises(AnonymousRefused):
        access.check(scope, facts_of(b"a key"))


@pytest.mark.parametrize("scope", [FAR, NEAR])
def test_anonymous_clients_may_be_allowed(scope: Scope, tmp_path: Path) -> None:
    """Who says so serves everybody."""
    access_of(tmp_path, "allow_anonymous: true\n").check(scope, facts_of(origin="http://evil.test"))


@pytest.mark.parametrize(
    ("origin", "own"),
    [
        (None, True),
        ("http://localhost:3000", True),
        ("http://127.0.0.1:3000", True),
        ("https://[::1]", True),
        ("vscode-webview://x", True),
        ("http://evil.test", False),
        ("https://localhost.evil.test", False),
        ("http://[", False),
        ("null", False),
        ("", False),
    ],
)
def test_a_page_from_elsewhere_is_not_this_machine(
    origin: str | None, own: bool, tmp_path: Path
) -> None:
    """A browser here that runs a foreign page is not its user."""
    access = access_of(tmp_path, "")
    if own:
        access.check(NEAR, facts_of(origin=origin))
        return
    with pytest.raises(AnonymousRefused):
        access.check(NEAR, facts_of(origin=origin))


@pytest.mark.parametrize(
    ("host", "open_"),
    [
        ("localhost", False),
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("::1", False),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.1", True),
        ("example.com", True),
        ("", True),
        ("localhost.evil.test", True),
    ],
)
@pytest.mark.parametrize(
    ("more", "guarded"),
    [("", False), ("client_keys: [$K]\n", True), ("allow_anonymous: true\n", True)],
)
def test_an_open_door_is_a_problem(
    host: str, open_: bool, more: str, guarded: bool, tmp_path: Path
) -> None:
    """Listening where others reach it takes keys, or a word that it is meant so."""
    problem = exposure_problem(host, setup_of(tmp_path, V + more).config)
    assert (problem is not None) is (open_ and not guarded)
    if problem is not None:
        assert host in problem
        assert "client_keys" in problem


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
