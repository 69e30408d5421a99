"""The board of resting endpoints in Redis, which gateways share."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from serve_app.affinity.redis import SOCKET_TIMEOUT_S, connection_pool
from serve_app.affinity.rests import LONGEST_S
from serve_app.domain import Json
from serve_app.exchange import RestReport

REDIS_KEY: Final = "fingerpost:rests"
_CLAIM_PREFIX: Final = "fingerpost:probe:"


class RedisRests:
    """The rests of all ingress replicas in a hash, each until it is over."""

    def __init__(
        self,
        url: str,
        wall_clock: Callable[[], float] = time.time,
        *,
        tls_ca: str | None = None,
    ) -> None:
        self._client: Any = Redis.from_pool(connection_pool(url, SOCKET_TIMEOUT_S, tls_ca))
        self._wall_clock = wall_clock

    async def share(self, own: Sequence[RestReport]) -> list[RestReport]:
        """Puts up rests, and takes down those without time left. Returns all that are not over."""
        now = self._wall_clock()
        async with self._client.pipeline(transaction=False) as pipe:  # one round trip
            for report in own:
                until = now + min(report.left_s, LONGEST_S)
                field = json.dumps([report.endpoint, report.model])
                if report.left_s > 0:
                    pipe.hset(REDIS_KEY, field, json.dumps([until, report.why]))
                else:
                    pipe.hdel(REDIS_KEY, field)
            if own:
                pipe.expire(REDIS_KEY, LONGEST_S)
            pipe.hgetall(REDIS_KEY)
            results = await pipe.execute()
        read = {field: _read(field, value, now) for field, value in results[-1].items()}
        over = [field for field, report in read.items() if report is None]
        if over:
            await self._client.hdel(REDIS_KEY, *over)
        return [report for report in read.values() if report is not None]

    async def claim(self, endpoint: str, for_s: float) -> bool:
        """True if no replica has claimed the endpoint; then it is the caller's for that long."""
        key, milliseconds = f"{_CLAIM_PREFIX}{endpoint}", max(1, round(for_s * 1e3))
        return bool(await self._client.set(key, b"", nx=True, px=milliseconds))

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._client.aclose()


def _read(field: bytes, value: bytes, now: float) -> RestReport | None:
    """The rest in an entry of the hash. Returns None if it is over, or not readable."""
    try:
        place, rest = json.loads(field), json.loads(value)
        left_s = float(rest[0]) - now
        report = RestReport(
            _text(place[0]), _text(place[1]), min(left_s, LONGEST_S), _text(rest[1])
        )
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return report if left_s > 0 else None


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
