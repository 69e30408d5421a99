"""Bindings in a real Redis, in good and in bad times."""

import asyncio
import json
import logging
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
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


async def test_binding_is_found_by_its_key(store: RedisStore) -> None:
    """It is complete, and not found by another key."""
    assert await store.get("kept") is None
    assert await store.bind("kept", A, instead_of=None)
    assert (await store.get("kept"), await store.get("other")) == (A, None)
    assert repr(store) == f"<RedisStore at {store.address}>"


async def test_first_binding_stays(store: RedisStore) -> None:
    """Binding is put-if-absent: the loser of a race changes nothing."""
    assert await store.bind("first", A, instead_of=None)
    assert not await store.bind("first", B, instead_of=None)
    assert await store.get("first") == A


async def test_named_model_is_swapped(store: RedisStore) -> None:
    """Swapping is compare-and-set, and needs a binding."""
    assert not await store.bind("swap", B, instead_of=A.model)
    assert await store.get("swap") is None
    await store.bind("swap", A, instead_of=None)
    assert not await store.bind("swap", A, instead_of=B.model)
    assert await store.bind("swap", B, instead_of=A.model)
    assert await store.get("swap") == B


async def test_races_have_one_winner(server: Server, rigs: Open) -> None:
    """Of many in two gateways, one binds and one swaps; then all read the same."""
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


async def test_unused_binding_expires(server: Server, rigs: Open) -> None:
    """Each use starts its time to live again."""
    store = rigs(server.url, ttl_s=1.0).redis
    await store.bind("time", A, instead_of=None)
    for _ in range(2):
        await asyncio.sleep(0.6)
        assert await store.get("time") == A
    assert await store.bind("time", B, instead_of=A.model)
    await asyncio.sleep(1.05)
    assert await store.get("time") is None


async def test_bindings_are_shared_with_plano(store: RedisStore, raw: Redis) -> None:
    """A value of Plano is read, swapped and kept alive; the gateway's has the same key."""
    value = {"anchor_model": "together/meta/llämä", "default_model": "", "last_used": 5}
    await raw.set("plano:affinity:theirs", json.dumps(value), ex=60)
    assert await store.get("theirs") == Binding(A.model, last_used=5.0)
    assert await raw.ttl("plano:affinity:theirs") == 600
    assert await store.bind("theirs", B, instead_of=A.model)
    assert await raw.get("plano:affinity:theirs") == plano_format.write_binding(B)
    assert await raw.ttl("plano:affinity:theirs") == 600


@pytest.mark.parametrize("value", ["", "{", "[]", '{"anchor_model":"gpt-4o"}', '"p/a"', None])
async def test_foreign_value_counts_as_absent(
    store: RedisStore, raw: Redis, value: str | None
) -> None:
    """Such values, even of another type, bind nothing and block nothing."""
    name = "plano:affinity:foreign"
    await raw.delete(name)
    await (raw.sadd(name, "p/a") if value is None else raw.set(name, value))
    assert await store.get("foreign") is None
    assert not await store.bind("foreign", B, instead_of=A.model)
    assert await store.bind("foreign", A, instead_of=None)
    assert await store.get("foreign") == A


async def test_operations_wait_for_a_connection(store: RedisStore, raw: Redis) -> None:
    """More operations than connections are all answered."""
    keys = [f"many {n}" for n in range(200)]
    assert all(await asyncio.gather(*(store.bind(key, A, instead_of=None) for key in keys)))
    assert await asyncio.gather(*map(store.get, keys)) == [A] * 200
    assert len(await raw.client_list()) <= MAX_CONNECTIONS + 5  # other programs' are there, too


async def test_cancelled_operation_leaves_no_answer_behind(server: Server, rigs: Open) -> None:
    """The next operation gets its own answer."""
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


async def test_socket_and_database_number_are_supported(
    server: Server, rigs: Open, raw: Redis
) -> None:
    """Both are taken from the address."""
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
def test_invalid_address_is_refused(url: str) -> None:
    """The error is raised at the start, and does not quote the address, which may contain a password."""
    with pytest.raises(ValueError, match="the address of the affinity store is invalid") as caught:
        RedisStore(url, ttl_s=600.0)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


async def test_store_may_start_after_the_gateway(tmp_path: Path, rigs: Open) -> None:
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


async def test_killed_store_costs_only_its_bindings(own: Server, rigs: Open) -> None:
    """It comes back empty and is used again."""
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


async def test_restart_between_operations_is_not_noticed(own: Server, rigs: Open) -> None:
    """The old connections and the script are gone."""
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


async def test_stopped_store_times_out(own: Server, rigs: Open) -> None:
    """It accepts connections without answering: operations time out, and succeed soon after."""
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


async def test_waiting_for_a_connection_times_out(own: Server, rigs: Open) -> None:
    """Operations that wait for a connection are answered in time, too."""
    many = 64  # twice the connections; with hundreds it is the connecting that takes time
    rig = rigs(own.url)
    own.send(signal.SIGSTOP)
    started = time.monotonic()
    assert await asyncio.gather(*(rig.steady.get("k") for _ in range(many))) == [None] * many
    assert time.monotonic() - started < DEADLINE_S + MARGIN_S
    assert rig.reports == ["error"] * many
    own.send(signal.SIGCONT)
    await rig.recovers()


async def test_answer_after_the_deadline_is_ignored(server: Server, rigs: Open) -> None:
    """The result is the same as without a store."""
    async with relay(server.port, delay_s=0.4) as port:
        rig = rigs(f"redis://127.0.0.1:{port}")
        await rig.fails()
        await rig.redis.aclose()


async def test_password_of_store_is_never_shown(
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


async def test_certificate_of_store_is_verified(
    server: Server, tmp_path_factory: pytest.TempPathFactory, rigs: Open
) -> None:
    """An untrusted one opens nothing."""
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


@pytest.mark.parametrize("key", ["longer", "longer {of} all"])
async def test_binding_may_be_kept_for_longer(key: str, store: RedisStore, raw: Redis) -> None:
    """Each use starts its own time again; its value in Redis is the same as that of any other."""
    name, long = f"plano:affinity:{key}", replace(A, ttl_s=3600.0)
    assert await store.bind(key, long, instead_of=None)
    assert await raw.get(name) == plano_format.write_binding(A)
    for _ in range(2):
        await raw.expire(name, 60)
        assert await store.get(key) == long
        assert await raw.ttl(name) == 3600
    assert await store.bind(key, replace(B, ttl_s=1800.0), instead_of=A.model)
    assert await raw.ttl(name) == 1800
    assert await store.bind(key, replace(A, ttl_s=30.0), instead_of=B.model)
    assert await store.get(key) == A
    assert await raw.ttl(name) == 600
    assert len(await raw.keys("*longer*")) == 1
    await raw.delete(name)
