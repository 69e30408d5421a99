"""What ingress replicas tell each other about endpoints."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from serve_app.affinity.redis_rests import REDIS_KEY, RedisRests
from serve_app.affinity.rests import MAX_RESTS, MemoryRests
from serve_app.exchange import RestReport
from serve_app.requests.health import Health
from serve_app.requests.shared_health import SHARE_S, SharedHealth
from serve_app.requests.verdict import judge_status
from tests.unit.affinity.redis_server import running
from tests.unit.fakes import FakeClock

REST = RestReport("e", "m", 9.0, "rate_limited")


class Board:
    """A board in this process, which may fail."""

    def __init__(self, clock: FakeClock) -> None:
        self.rests = MemoryRests(clock)
        self.calls = 0
        self.fault: Exception | None = None

    async def share(self, own: Sequence[RestReport]) -> list[RestReport]:
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        return self.rests.share(own)

    async def claim(self, endpoint: str, for_s: float) -> bool:
        if self.fault is not None:
            raise self.fault
        return self.rests.claim(endpoint, for_s)


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_replicas_learn_from_each_other() -> None:
    """What one replica found out, the other one avoids from its next look at the board on."""
    clock = FakeClock()
    board, one, two = Board(clock), Health(clock), Health(clock)
    sharing = [SharedHealth(health, board, clock) for health in (one, two)]
    one.failed("e", "m", judge_status(429, (("retry-after", "9"),)))
    for shared in sharing:
        shared.touch()
        await _settle()
    assert two.rests_now("e", "m")
    assert two.news() == []
    for shared in sharing:
        shared.touch()
    await _settle()
    assert board.calls == 2
    clock.now += SHARE_S
    sharing[0].touch()
    sharing[0].touch()
    await _settle()
    assert board.calls == 3


async def test_recovered_endpoint_does_not_come_back_from_the_board() -> None:
    """A success takes the rest down for every replica."""
    clock = FakeClock()
    board, one, two = Board(clock), Health(clock), Health(clock)
    sharing = [SharedHealth(health, board, clock) for health in (one, two)]
    one.failed("e", "m", judge_status(429, (("retry-after", "9"),)))
    for turn in range(3):
        if turn == 1:
            assert two.rests_now("e", "m")
            two.succeeded("e", "m")
        for shared in sharing:
            shared.touch()
            await _settle()
        clock.now += SHARE_S
    assert not two.rests_now("e", "m")
    assert not one.rests_now("e", "m")
    assert board.rests.share([]) == []


async def test_failing_board_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Without the board each replica goes by its own; the log says so once."""
    clock = FakeClock()
    board, health = Board(clock), Health(clock)
    shared = SharedHealth(health, board, clock)
    board.fault = RuntimeError("redis://user:secret@h")
    for _ in range(3):
        clock.now += SHARE_S
        shared.touch()
        await _settle()
    assert caplog.text.count("board of resting endpoints unavailable") == 1
    assert "secret" not in caplog.text
    board.fault = None
    clock.now += SHARE_S
    shared.touch()
    await _settle()
    assert "available again" in caplog.text


def test_memory_board_forgets_what_is_over() -> None:
    """A rest stays until it is over, and there is a bound to how many there are."""
    clock = FakeClock()
    board = MemoryRests(clock)
    assert board.share([REST]) == [REST]
    clock.now += 4
    assert board.share([]) == [REST._replace(left_s=5.0)]
    clock.now += 5
    assert board.share([]) == []
    many = [REST._replace(endpoint=str(number)) for number in range(MAX_RESTS + 2)]
    assert len(board.share(many)) == MAX_RESTS


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[tuple[RedisRests, RedisRests, FakeClock]]:
    """Two replicas with boards in one real Redis."""
    clock = FakeClock()
    with running(tmp_path) as server:
        one, two = (RedisRests(server.url, clock) for _ in range(2))
        yield one, two, clock
        await one.aclose()
        await two.aclose()


async def test_redis_board_is_shared(redis: tuple[RedisRests, RedisRests, FakeClock]) -> None:
    """What one replica puts up, the other one reads, until it is over."""
    one, two, clock = redis
    assert await one.share([REST, RestReport("f", "", 2.0, "bad_key")])
    assert await two.share([]) == [REST, RestReport("f", "", 2.0, "bad_key")]
    clock.now += 3
    assert await two.share([]) == [REST._replace(left_s=6.0)]
    assert await two._client.hlen(REDIS_KEY) == 1


def test_memory_board_gives_an_endpoint_to_one_replica() -> None:
    """A claim holds for its time; there is a bound to how many there are."""
    clock = FakeClock()
    board = MemoryRests(clock)
    assert board.claim("e", 5.0)
    assert not board.claim("e", 5.0)
    assert board.claim("f", 9.0)
    clock.now += 6
    assert board.claim("e", 5.0)
    assert not board.claim("f", 5.0)
    assert sum(board.claim(str(number), 5.0) for number in range(MAX_RESTS)) == MAX_RESTS - 2


async def test_redis_board_gives_an_endpoint_to_one_replica(
    redis: tuple[RedisRests, RedisRests, FakeClock],
) -> None:
    """A claim holds for its time, whichever replica asks."""
    one, two, _ = redis
    assert await one.claim("e", 2.0)
    assert not await two.claim("e", 2.0)
    assert await two.claim("f", 0.05)
    await asyncio.sleep(0.1)
    assert await one.claim("f", 2.0)


async def test_claim_without_a_board_is_granted(caplog: pytest.LogCaptureFixture) -> None:
    """A replica that cannot ask the others goes by itself; the log says so once."""
    clock = FakeClock()
    board = Board(clock)
    shared = SharedHealth(Health(clock), board, clock)
    assert await shared.claim("e", 5.0)
    assert not await shared.claim("e", 5.0)
    board.fault = RuntimeError("redis://user:secret@h")
    assert await shared.claim("e", 5.0)
    assert await shared.claim("e", 5.0)
    assert caplog.text.count("board of resting endpoints unavailable") == 1
    assert "secret" not in caplog.text


async def test_redis_board_drops_what_it_cannot_read(
    redis: tuple[RedisRests, RedisRests, FakeClock],
) -> None:
    """Entries of other forms are removed."""
    one, _, clock = redis
    for field, value in {
        "x": "1",
        '["e", 1]': f'[{clock.now + 9}, "w"]',
        '["e", "m"]': "[]",
    }.items():
        await one._client.hset(REDIS_KEY, field, value)
    assert await one.share([]) == []
    assert await one._client.hlen(REDIS_KEY) == 0
