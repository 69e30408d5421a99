"""Two gateways over one Redis: limits that hold for both, and what happens without it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from serve_app.access import redis_counters
from serve_app.access.limiter import Limiter
from serve_app.access.redis_counters import KEY_PREFIX, RedisCounters
from tests.unit.access.answering import GPT_4O_USD, Provider, StreamingProvider, keyed
from tests.unit.access.api_rig import MESSAGES, ApiRig, ask_chat, rig_of
from tests.unit.affinity.redis_server import Server, running


class Pair:
    """Two assembled gateways that count in one Redis, as two ingress replicas do."""

    def __init__(self, server: Server, provider: Provider, stack: AsyncExitStack) -> None:
        self.server = server
        self.provider = provider
        self._stack = stack
        self.rigs: list[ApiRig] = []
        self.stores: list[RedisCounters] = []

    def open(self, folder: Path, keys: str, unavailable: str = "closed") -> None:
        storage = f"limit_storage: {{type: redis, url: '{self.server.url}', unavailable: {unavailable}}}\n"
        for _ in range(2):
            store = RedisCounters(self.server.url)
            self._stack.push_async_callback(store.aclose)
            limiter = Limiter(store, replicas=2)
            self.stores.append(store)
            self.rigs.append(rig_of(folder, keys + storage, self.provider, limiter))

    async def statuses(self, count: int) -> Counter[int]:
        """The statuses of so many requests at once, half of them at each gateway."""
        asked = (self.rigs[at % 2].ask(ask_chat(max_tokens=200)) for at in range(count))
        return Counter([one.status for one in await asyncio.gather(*asked)])

    async def settled(self) -> None:
        for store in self.stores:
            await store.settled()

    async def used(self, counter: str) -> int:
        await self.settled()
        async with Redis.from_url(self.server.url) as redis:
            name = f"{KEY_PREFIX}{counter}"
            kind = str(await redis.type(name))
            if "hash" in kind:
                return sum(map(int, await redis.hvals(name)))
            return int(await redis.get(name) or 0) if "string" in kind else await redis.zcard(name)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture
async def pair(server: Server) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        yield Pair(server, Provider(), stack)


async def test_exactly_the_limit_passes_two_gateways(pair: Pair, tmp_path: Path) -> None:
    """Of 200 requests at once at two gateways, exactly 50 are answered."""
    pair.open(tmp_path, keyed("limits: {requests_per_minute: 50}"))
    assert await pair.statuses(200) == {200: 50, 429: 150}
    assert len(pair.provider.asked) == 50
    assert await pair.statuses(10) == {429: 10}


async def test_closed_without_redis(pair: Pair, tmp_path: Path) -> None:
    """When Redis dies, clients with limits get a 503 in their dialect, and others an answer."""
    pair.open(tmp_path, keyed("limits: {requests_per_minute: 50}"))
    assert await pair.statuses(10) == {200: 10}
    pair.server.kill()
    assert await pair.statuses(20) == {503: 20}
    got = await pair.rigs[0].ask({**ask_chat(), "max_tokens": 5}, path=MESSAGES)
    assert got.json["error"]["type"] == "api_error"
    assert (await pair.rigs[0].ask(ask_chat())).json["error"]["code"] == "limits_unavailable"
    assert (await pair.rigs[0].ask(ask_chat(), key="fp-batch")).status == 200


async def test_open_without_redis_gives_out_shares(pair: Pair, tmp_path: Path) -> None:
    """When Redis dies in the middle, each gateway gives out its half of the limit, and no more."""
    pair.open(tmp_path, keyed("limits: {requests_per_minute: 50}"), "open")
    assert await pair.statuses(30) == {200: 30}
    pair.server.kill()
    assert await pair.statuses(200) == {200: 50, 429: 150}


async def test_gateways_count_in_redis_again(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When Redis is back, the limit is shared again within seconds."""
    monkeypatch.setattr(redis_counters, "_RETRY_S", 0.05)
    pair.open(tmp_path, keyed("limits: {requests_per_minute: 3}"))
    pair.server.kill()
    assert set(await pair.statuses(4)) == {503}
    pair.server.start()
    for _ in range(100):
        if set(await pair.statuses(2)) != {503}:
            break
        await asyncio.sleep(0.05)
    await pair.statuses(4)
    assert await pair.used("key:ide:requests") == 3


async def test_streams_settle_in_redis(pair: Pair, tmp_path: Path) -> None:
    """Of 500 streams at two gateways, a tenth left by clients, the tokens are right within 1 %."""
    provider = StreamingProvider()
    pair.provider = provider
    pair.open(tmp_path, keyed("limits: {tokens_per_minute: 10000000, concurrent: 1000}"))
    text = [{"role": "user", "content": "some words " * 40}]

    async def stream(number: int) -> None:
        body = ask_chat(stream=True, messages=text)
        leave_after = 3 + number % 30 if number % 10 == 0 else -1
        got = await pair.rigs[number % 2].ask(body, leave_after=leave_after)
        assert got.status == 200

    for start in range(0, 500, 50):
        await asyncio.gather(*map(stream, range(start, start + 50)))
    assert await pair.used("key:ide:tokens") == pytest.approx(provider.usage, rel=0.01)
    assert await pair.used("key:ide:concurrent") == 0


async def test_budget_is_shared_and_survives_a_restart(pair: Pair, tmp_path: Path) -> None:
    """Two gateways spend one budget, and a gateway that starts anew knows what is spent."""
    pair.open(tmp_path, keyed("budget: {usd: 0.1}"))
    statuses: Counter[int] = Counter()
    for _ in range(10):
        statuses += await pair.statuses(8)
        await pair.settled()
    assert 0.1 <= statuses[200] * GPT_4O_USD <= 0.1 + 8 * GPT_4O_USD
    pair.rigs.clear()
    pair.open(tmp_path, keyed("budget: {usd: 0.1}"))
    assert await pair.statuses(4) == {429: 4}
