"""Values in a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from serve_app.affinity.guarded import StoreError
from serve_app.conversations.redis import KEY_PREFIX, RedisConversations
from tests.unit.affinity.redis_server import Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests of this file; each has its own keys."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def store(server: Server) -> AsyncIterator[RedisConversations]:
    """Values for a minute."""
    store = RedisConversations(server.url, ttl_s=60)
    yield store
    await store.aclose()


async def test_values_are_found_by_their_keys(store: RedisConversations) -> None:
    """Several are read at once, whatever their bytes and keys are."""
    await store.save("a:é", b"\x00\xff")
    await store.save("b", b"x" * 3_000_000)
    assert await store.load(["a:é", "none", "b"]) == [b"\x00\xff", None, b"x" * 3_000_000]
    assert await store.delete(["a:é", "none"]) == 1
    assert await store.load(["a:é"]) == [None]


async def test_reading_extends_a_life(store: RedisConversations, server: Server) -> None:
    """Each use gives a value its whole time again."""
    await store.save("k", b"1")
    async with Redis.from_url(server.url) as raw:
        await raw.expire(f"{KEY_PREFIX}k", 5)
        await store.load(["k"])
        assert await raw.ttl(f"{KEY_PREFIX}k") > 50


async def test_value_of_another_type_is_a_failure(
    store: RedisConversations, server: Server
) -> None:
    """A key that another program uses is reported without its contents."""
    async with Redis.from_url(server.url) as raw:
        await raw.lpush(f"{KEY_PREFIX}list", "secret")
    with pytest.raises(StoreError) as caught:
        await store.load(["list"])
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_failure_names_the_address_only(tmp_path: Path) -> None:
    """A server that is gone raises; the text has neither user nor password."""
    with running(tmp_path) as server:
        url = server.url.replace("//", "//user:hunter22@")
    store = RedisConversations(url, ttl_s=1)
    with pytest.raises(StoreError) as caught:
        await asyncio.wait_for(store.save("a", b"1"), 5)
    assert "hunter22" not in str(caught.value)
    assert repr(store) == f"<RedisConversations at {store.address}>"


def test_invalid_address_is_refused() -> None:
    """The message says what an address looks like, without the address itself."""
    with pytest.raises(ValueError, match="redis://"):
        RedisConversations("http://x:hunter22@y", ttl_s=1)
