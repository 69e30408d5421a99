"""Bindings in a real Redis, in good and in bad times."""

import asyncio
import json
import logging
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from serve_app.affinity import plano_format
from serve_app.affinity.guarded import StoreError
from serve_app.affinity.redis import MAX_CONNECTIONS, RedisStore
from serve_app.breaker import FAILURES_TO_OPEN
from serve_app.domain import Binding, ModelRef
from tests.unit.affinity.redis_server import (
    DEADLINE_S,
    MARGIN_S,
    A,
    B,
    Rig,
    Server,
    certificate,
    relay,
    running,
)

PASSWORD = "s3cret/of#the?store@home"
IN_URL = "s3cret%2Fof%23the%3Fstore%40home"


Open = Callable[..., Rig]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all who do it no harm; each has its own keys."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """One that a test may do anything to."""
    with running(tmp_path) as server:
        yield server


@pytest.fixture
async def rigs() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        def opened(url: str, ttl_s: float = 600.0) -> Rig:
            rig = Rig(url, ttl_s)
            stack.push_async_callback(rig.redis.aclose)
            return rig

        yield opened


@pytest.fixture
def store(server: Server, rigs: Open) -> RedisStore:
    return rigs(server.url).redis


@pytest.fixture
async def raw(server: Server) -> AsyncIterator[Redis]:
    """Another program on the same Redis."""
    async with Redis.from_url(server.url) as client:
        yield client


async def test_a_binding_is_kept(store: RedisStore) -> None:
    """What was bound is found whole, under its key only."""
    assert await store.get("kept") is None
    assert await store.bind("kept", A, instead_of=None)
    assert (await store.get("kept"), await store.get("other")) == (A, None)
    assert repr(store) == f"<RedisStore at {store.address}>"


async def test_the_first_one_stays(store: RedisStore) -> None:
    """Put if absent: the loser of a race changes nothing."""
    assert await store.bind("first", A, instead_of=None)
    assert not await store.bind("first", B, instead_of=None)
    assert await store.get("first") == A


async def test_a_failed_model_is_swapped(store: RedisStore) -> None:
    """Compare and set: only whoever names the bound model replaces it, and nobody's is absent."""
    assert not await store.bind("swap", B, instead_of=A.model)
    assert await store.get("swap") is None
    await store.bind("swap", A, instead_of=None)
    assert not await store.bind("swap", A, instead_of=B.model)
    assert await store.bind("swap", B, instead_of=A.model)
    assert await store.get("swap") == B


async def test_races_have_one_winner(server: Server, rigs: Open) -> None:
    """Of many at once, in two gateways, one binds and one swaps; all then see the same."""
    stores = [rigs(server.url).redis for _ in range(2)]
    offers = [Binding(ModelRef("p", str(n))) for n in range(10)]
    for instead_of in (None, "the winner"):
        bound = await stores[0].get("race") if instead_of else None
        before = None if bound is None else bound.model
        won = await asyncio.gather(
            *(
                stores[n % 2].bind("race", offer, instead_of=before)
                for n, offer in enumerate(offers)
            )
        )
        assert sum(won) == 1
        assert [await store.get("race") for store in stores] == [offers[won.index(True)]] * 2
        offers = [Binding(ModelRef("q", str(n))) for n in range(10)]


async def test_a_binding_has_its_time(server: Server, rigs: Open) -> None:
    """Each use gives it its whole time again; unused for that time it is gone."""
    store = rigs(server.url, ttl_s=1.0).redis
    await store.bind("time", A, instead_of=None)
    for _ in range(2):
        await asyncio.sleep(0.6)
        assert await store.get("time") == A
    assert await store.bind("time", B, instead_of=A.model)
    await asyncio.sleep(1.05)
    assert await store.get("time") is None


async def test_planos_bindings_are_ours(store: RedisStore, raw: Redis) -> None:
    """A value that Plano left is read, swapped and kept alive; ours stands where Plano looks."""
    value = {"anchor_model": "together/meta/llämä", "default_model": "", "last_used": 5}
    await raw.set("plano:affinity:theirs", json.dumps(value), ex=60)
    assert await store.get("theirs") == Binding(A.model, last_used=5.0)
    assert await raw.ttl("plano:affinity:theirs") == 600
    assert await store.bind("theirs", B, instead_of=A.model)
    assert await raw.get("plano:affinity:theirs") == plano_format.write_binding(B)
    assert await raw.ttl("plano:affinity:theirs") == 600


@pytest.mark.parametrize("value", ["", "{", "[]", '{"anchor_model":"gpt-4o"}', '"p/a"', None])
async def test_what_is_no_binding_is_absent(
    store: RedisStore, raw: Redis, value: str | None
) -> None:
    """Foreign values, even of another type, bind nothing and stand in nobody's way."""
    name = "plano:affinity:foreign"
    await raw.delete(name)
    await (raw.sadd(name, "p/a") if value is None else raw.set(name, value))
    assert await store.get("foreign") is None
    assert not await store.bind("foreign", B, instead_of=A.model)
    assert await store.bind("foreign", A, instead_of=None)
    assert await store.get("foreign") == A


async def test_many_at_once(store: RedisStore, raw: Redis) -> None:
    """More operations than connections wait for their turn; none is refused."""
    keys = [f"many {n}" for n in range(200)]
    assert all(await asyncio.gather(*(store.bind(key, A, instead_of=None) for key in keys)))
    assert await asyncio.gather(*map(store.get, keys)) == [A] * 200
    assert len(await raw.client_list()) <= MAX_CONNECTIONS + 5  # other programs' are there, too


async def test_clients_that_leave_mix_nothing_up(server: Server, rigs: Open) -> None:
    """An operation given up in its middle leaves no answer behind for the next one."""
    store = rigs(server.url).redis
    wanted = [Binding(ModelRef("p", str(n))) for n in range(40)]
    await asyncio.gather(*(store.bind(f"leave {n}", wanted[n], instead_of=None) for n in range(40)))
    for turn in range(20):
        tasks = [asyncio.create_task(store.get(f"leave {n}")) for n in range(40)]
        await asyncio.sleep(turn * 2e-4)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [task.result() for task in tasks[1::2]] == wanted[1::2]


async def test_other_addresses(server: Server, rigs: Open, raw: Redis) -> None:
    """A socket's path and a database's number are taken from the address."""
    store = rigs(f"unix://{server.socket}?db=3").redis
    assert await store.bind("elsewhere", A, instead_of=None)
    assert await rigs(f"{server.url}/3").redis.get("elsewhere") == A
    assert await raw.get("plano:affinity:elsewhere") is None
    assert store.address == str(server.socket)


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{PASSWORD}@127.0.0.1",
        "",
        "127.0.0.1:6379",
        "redis://:s3cret/x@127.0.0.1:6379",
        "redis://:3?s3cret@127.0.0.1:6379",
        "redis://:3#s3cret@127.0.0.1:6379",
        "redis://u:s3cret:x@h:s3cret",
        "redis://:s3cret@h?colour=blue",
        "redis://:s3cret@[h",
        "rediss://:s3cret@h?ssl_ca_certs=/nowhere/s3cret.pem",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    """Found at the start, and not quoted: there may be a password anywhere in it."""
    with pytest.raises(ValueError, match="the affinity store's address can't be used") as caught:
        RedisStore(url, ttl_s=600.0)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


async def test_a_gateway_starts_first(tmp_path: Path, rigs: Open) -> None:
    """Without a store nothing is bound; soon after its start it is used."""
    server = Server(tmp_path)
    rig = rigs(server.url)
    await rig.fails()
    assert rig.steady.trouble == f"ConnectionError at 127.0.0.1:{server.port}"
    try:
        server.start()
        await rig.recovers()
    finally:
        server.kill()


async def test_a_store_dies(own: Server, rigs: Open) -> None:
    """Killed in the middle it costs nothing but the bindings; it comes back empty and is used."""
    rig = rigs(own.url)
    assert (
        await asyncio.gather(*(rig.steady.bind(k, A, instead_of=None) for k in "kabc"))
        == [True] * 4
    )
    own.kill()
    await rig.fails()
    own.start()
    await rig.recovers()
    assert await rig.steady.get("k") is None


async def test_a_store_is_restarted(own: Server, rigs: Open) -> None:
    """Between two operations: the old connections and the script are gone, and nobody notices."""
    rig = rigs(own.url)
    assert await rig.steady.bind("k", A, instead_of=None)
    assert await rig.steady.bind("k", B, instead_of=A.model)
    own.kill()
    own.start()
    await asyncio.sleep(0.01)  # the event loop hears that the connections were closed
    assert await rig.steady.get("k") is None
    assert await rig.steady.bind("k", A, instead_of=None)
    assert await rig.steady.bind("k", B, instead_of=A.model)
    assert rig.reports == []


async def test_a_store_stands_still(own: Server, rigs: Open) -> None:
    """It takes connections and says nothing: all are answered in time, and soon again well."""
    rig = rigs(own.url)
    assert await rig.steady.bind("k", A, instead_of=None)
    own.send(signal.SIGSTOP)
    await rig.fails()
    started = time.monotonic()
    assert await asyncio.gather(*(rig.steady.get("k") for _ in range(100))) == [None] * 100
    assert time.monotonic() - started < DEADLINE_S + MARGIN_S
    own.send(signal.SIGCONT)
    await rig.recovers()
    assert await rig.steady.get("k") == A


async def test_many_meet_a_store_that_stands_still(own: Server, rigs: Open) -> None:
    """Also those that wait for a connection have their answer in time."""
    many = 64  # twice the connections; with hundreds it is the connecting that takes time
    rig = rigs(own.url)
    own.send(signal.SIGSTOP)
    started = time.monotonic()
    assert await asyncio.gather(*(rig.steady.get("k") for _ in range(many))) == [None] * many
    assert time.monotonic() - started < DEADLINE_S + MARGIN_S
    assert rig.reports == ["error"] * many
    own.send(signal.SIGCONT)
    await rig.recovers()


async def test_a_slow_store(server: Server, rigs: Open) -> None:
    """What takes longer than the deadline is no answer."""
    async with relay(server.port, delay_s=0.4) as port:
        rig = rigs(f"redis://127.0.0.1:{port}")
        await rig.fails()
        await rig.redis.aclose()


async def test_a_store_with_a_password(
    tmp_path: Path, rigs: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """The right one opens it; a wrong one, or none, is in no error, log or repr."""
    caplog.set_level(logging.DEBUG)
    with running(tmp_path, "--requirepass", PASSWORD) as own:
        right = rigs(own.url.replace("//", f"//:{IN_URL}@"))
        assert await right.steady.bind("k", A, instead_of=None)
        assert await rigs(own.url.replace("//", f"//default:{IN_URL}@")).redis.get("k") == A
        for given in (f":not-{IN_URL}@", f"somebody:{IN_URL}@", ""):
            rig = rigs(own.url.replace("//", f"//{given}"))
            with pytest.raises(StoreError) as caught:
                await rig.redis.get("k")
            assert str(caught.value) == f"AuthenticationError at 127.0.0.1:{own.port}"
            assert (caught.value.__cause__, caught.value.__context__) == (None, None)
            await rig.fails(FAILURES_TO_OPEN)
            shown = f"{rig.redis!r} {rig.steady!r} {rig.steady.trouble} {caught.value!r}"
            assert "s3cret" not in shown + caplog.text
            assert "somebody" not in shown + caplog.text
    assert caplog.text.count("affinity store unavailable") == 3


async def test_a_store_behind_tls(
    server: Server, tmp_path_factory: pytest.TempPathFactory, rigs: Open
) -> None:
    """Its certificate is verified; one that nobody known vouches for opens nothing."""
    mine, foreign = (certificate(tmp_path_factory.mktemp(name)) for name in ("mine", "foreign"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(mine)
    async with relay(server.port, tls=tls) as port:
        url = f"rediss://127.0.0.1:{port}"
        rig = rigs(f"{url}?ssl_ca_certs={mine}")
        keys = [f"tls {n}" for n in range(8)]  # at once: they read the certificates only once
        assert await asyncio.gather(
            *(rig.steady.bind(key, A, instead_of=None) for key in keys)
        ) == [True] * len(keys)
        assert await rig.steady.get(keys[0]) == A
        for other in (url, f"{url}?ssl_ca_certs={foreign}"):
            with pytest.raises(StoreError, match=f"ConnectionError at 127.0.0.1:{port}"):
                await rigs(other).redis.get(keys[0])
        await rig.redis.aclose()
