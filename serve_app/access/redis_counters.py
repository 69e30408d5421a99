"""Counters in Redis, which all ingress replicas share; one script for each reservation."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from serve_app.access.counters import (
    BUCKETS,
    Charge,
    LimitRefusal,
    Settlement,
    Standing,
    StoreAwayError,
)
from serve_app.access_errors import LimitKind
from serve_app.affinity.redis import address_of, connection_pool
from serve_app.breaker import Breaker, OutageLog
from serve_app.ports import Clock

KEY_PREFIX: Final = "{fingerpost:limits}:"
"""The braces keep all counters of a request on one node of a cluster, as a script needs it."""

DEADLINE_S: Final = 1.0
"""Longer than for sessions, which a request can do without."""
MAX_WAITING: Final = 20_000
"""Settlements that wait while Redis is away; the oldest are dropped."""

_BATCH: Final = 64
_RETRY_S: Final = 1.0
_CLOSE_S: Final = 2.0
_LOG_EVERY_S: Final = 10.0
_LONGEST_PAUSE_S: Final = 2.0
_KEPT_S: Final = 86400.0
"""How long a budget's counter is kept after its window, for late settlements."""

_WINDOW, _SLOT, _BUDGET = "w", "s", "b"
_FORMS: Final = {LimitKind.USD: _BUDGET, LimitKind.CONCURRENT: _SLOT}

# Times are those of Redis, so that the clocks of the replicas don't matter.
# ARGV: the holder, and in one text, which is cheaper to send, for each key: form limit amount span_ms.
# Returns "0 used reset part ..." with all charges made, or "index used retry_ms"; one text, since
# redis-py reads a list number by number.
_RESERVE = f"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parts, newest, reply = {BUCKETS}, {{}}, {{'0'}}
local charges = {{}}
for form, limit, amount, span in string.gmatch(ARGV[2], '(%a) (%d+) (%d+) (%d+)') do
  charges[#charges + 1] = {{form, tonumber(limit), amount, tonumber(span)}}
end
for i, key in ipairs(KEYS) do
  local form, limit = charges[i][1], charges[i][2]
  local amount, span = tonumber(charges[i][3]), charges[i][4]
  local used, reset, part = 0, span, 0
  if form == 'w' then
    local width = span / parts
    part = math.floor(now / width)
    local fields, live = redis.call('HGETALL', key), {{}}
    for j = 1, #fields, 2 do
      local index = tonumber(fields[j])
      if index < part - parts then redis.call('HDEL', key, fields[j])
      else
        used = used + tonumber(fields[j + 1])
        live[#live + 1] = {{index, tonumber(fields[j + 1])}}
      end
    end
    if used + amount > limit then
      table.sort(live, function(a, b) return a[1] < b[1] end)
      local left, free = used, part + 1
      for _, one in ipairs(live) do
        left, free = left - one[2], one[1] + parts + 1
        if left + amount <= limit then break end
      end
      local wait = math.max(math.ceil(width), math.ceil(free * width - now))
      return string.format('%d %.0f %.0f', i, used, wait)
    end
    reset = math.ceil((part + parts + 1) * width - now)
  elseif form == 's' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    used = redis.call('ZCARD', key)
    if used >= limit then return string.format('%d %.0f 1000', i, used) end
  else
    used = tonumber(redis.call('GET', key) or 0)
    if used >= limit then return string.format('%d %.0f %.0f', i, used, span) end
  end
  newest[i] = string.format('%.0f', part)
  reply[i + 1] = string.format('%.0f %.0f %s', used + amount, reset, newest[i])
end
for i, key in ipairs(KEYS) do
  local form, amount, span = charges[i][1], charges[i][3], charges[i][4]
  if form == 'w' then
    redis.call('HINCRBY', key, newest[i], amount)
    redis.call('PEXPIRE', key, math.ceil(span * (parts + 2) / parts))
  elseif form == 's' then
    redis.call('ZADD', key, now + span, ARGV[1])
    redis.call('PEXPIRE', key, span)
  else
    redis.call('INCRBY', key, amount)
    redis.call('PEXPIRE', key, span + {int(_KEPT_S * 1000)})
  end
end
return table.concat(reply, ' ')
"""

# ARGV: the holder, and in one text for each key: form difference part span_ms.
_SETTLE = f"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local i = 0
for form, change, part, spell in string.gmatch(ARGV[2], '(%a) (%-?%d+) (%d+) (%d+)') do
  i = i + 1
  local key, delta, span = KEYS[i], tonumber(change), tonumber(spell)
  if form == 's' then redis.call('ZREM', key, ARGV[1])
  elseif form == 'b' then
    if redis.call('EXISTS', key) == 1 then redis.call('INCRBY', key, change)
    elseif delta > 0 then
      redis.call('INCRBY', key, change)
      redis.call('PEXPIRE', key, span + {int(_KEPT_S * 1000)})
    end
  elseif delta < 0 then
    if redis.call('HEXISTS', key, part) == 1 then
      redis.call('HINCRBY', key, part, change)
    end
  else
    local newest = string.format('%d', math.floor(now * {BUCKETS} / span))
    redis.call('HINCRBY', key, newest, change)
    redis.call('PEXPIRE', key, math.ceil(span * {BUCKETS + 2} / {BUCKETS}))
  end
end
return 1
"""
_SHA: Final = {
    script: sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (_RESERVE, _SETTLE)
}


class RedisCounters:
    """Counters of all ingress replicas.

    A reservation is one round trip, and is cancelled after DEADLINE_S. Settlements are sent in the
    background, some at a time, by one task that ends when there are none.
    """

    def __init__(
        self, url: str, clock: Clock = time.monotonic, *, tls_ca: str | None = None
    ) -> None:
        """``tls_ca``: as of ``connection_pool``. Raises ValueError for an invalid address."""
        pool = connection_pool(url, DEADLINE_S, tls_ca)
        # Each operation has a deadline of its own; one for every read costs a tenth of the CPU.
        pool.connection_kwargs["socket_timeout"] = None
        self._client: Any = Redis.from_pool(pool)
        self._free_connections = asyncio.Semaphore(pool.max_connections - 1)
        self.address = address_of(pool.connection_kwargs)
        self._breaker = Breaker(clock, longest_pause_s=_LONGEST_PAUSE_S)
        self._outages = OutageLog("store of limits", clock, interval_s=_LOG_EVERY_S)
        self._waiting: deque[tuple[list[bytes], list[bytes]]] = deque(maxlen=MAX_WAITING)
        self._sender: asyncio.Task[None] | None = None
        self._late: set[asyncio.Task[Any]] = set()
        self.trouble: str | None = None
        """The fault of the last operation; None if it was answered."""

    def __repr__(self) -> str:
        return f"<RedisCounters at {self.address}: {self._breaker.state}>"

    async def reserve(
        self, charges: Sequence[Charge], holder: str
    ) -> list[Standing] | LimitRefusal:
        """Makes all charges, or none of them. Raises StoreAwayError."""
        if not self._breaker.lets_through():
            raise StoreAwayError(self.trouble or "not asked after repeated failures")
        keys = [_name(charge) for charge in charges]
        text = "".join(
            f"{_FORMS.get(kind, _WINDOW)} {limit} {amount} {max(1, int(span_s * 1000))} "
            for _, kind, limit, amount, span_s in charges
        )
        arguments = [holder.encode(), text.encode()]
        # A task of its own: if the client leaves or the time is over, a charge that is made all the
        # same has to be taken back.
        task = asyncio.create_task(self._run(_RESERVE, keys, arguments))
        try:
            await asyncio.wait((task,), timeout=DEADLINE_S)
        except asyncio.CancelledError:
            self._breaker.forgotten()
            self._give_back(task, charges, holder)
            raise
        if not task.done():
            self._give_back(task, charges, holder)
            raise self._failed(f"timed out after {DEADLINE_S * 1e3:g} ms at {self.address}")
        error = task.exception()
        if error is not None:
            raise self._failed(f"{type(error).__name__} at {self.address}")
        self._succeeded()
        return _read(task.result())

    def settle(self, settlements: Sequence[Settlement], holder: str) -> None:
        """Corrects charges, and frees slots, in the background."""
        keys = [_name(one.charge) for one in settlements]
        text = "".join(
            f"{_FORMS.get(charge.kind, _WINDOW)} {delta} {mark} {max(1, int(charge.span_s * 1000))} "
            for charge, delta, mark in settlements
        )
        self._waiting.append((keys, [holder.encode(), text.encode()]))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())

    async def settled(self) -> None:
        """Waits until all that was to be settled has been sent."""
        while self._sender is not None and not self._sender.done():
            await asyncio.wait((self._sender,))

    async def aclose(self) -> None:
        """Sends what is waiting, for at most two seconds, and closes all connections."""
        tasks = [task for task in (self._sender, *self._late) if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_S)
        if self._sender is not None:  # a late reservation may have begun another
            self._sender.cancel()
            with suppress(asyncio.CancelledError):
                await self._sender
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_S):
                await self._client.aclose()

    def _give_back(self, task: asyncio.Task[Any], charges: Sequence[Charge], holder: str) -> None:
        self._late.add(task)  # asyncio itself holds tasks only weakly
        end = asyncio.get_running_loop().call_later(DEADLINE_S, task.cancel)

        def take_back(done: asyncio.Task[Any]) -> None:
            end.cancel()
            self._late.discard(done)
            if done.cancelled() or done.exception() is not None:
                return
            standings = _read(done.result())
            if not isinstance(standings, LimitRefusal):
                both = zip(charges, standings, strict=True)
                self.settle([Settlement(one, -one.amount, at.mark) for one, at in both], holder)

        task.add_done_callback(take_back)

    async def _send(self) -> None:
        while self._waiting:
            count = min(_BATCH, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await self._send_batch(batch)
            except Exception as error:  # noqa: BLE001 - its text may contain the address
                self.trouble = f"{type(error).__name__} at {self.address}"
                room = MAX_WAITING - len(self._waiting)
                self._waiting.extendleft(reversed(batch[:room]))
                await asyncio.sleep(_RETRY_S)

    async def _send_batch(self, batch: Sequence[tuple[list[bytes], list[bytes]]]) -> None:
        for again in (False, True):
            async with self._client.pipeline(transaction=False) as pipe:
                for keys, arguments in batch:
                    if again:  # the server has lost the script, so none of the batch ran
                        pipe.eval(_SETTLE, len(keys), *keys, *arguments)
                    else:
                        pipe.evalsha(_SHA[_SETTLE], len(keys), *keys, *arguments)
                results = await pipe.execute(raise_on_error=False)
            if not any(isinstance(result, NoScriptError) for result in results):
                return

    async def _run(self, script: str, keys: list[bytes], arguments: list[bytes]) -> Any:  # noqa: ANN401 - as Redis answers
        async with self._free_connections:
            try:
                return await self._client.evalsha(_SHA[script], len(keys), *keys, *arguments)
            except NoScriptError:
                return await self._client.eval(script, len(keys), *keys, *arguments)

    def _failed(self, fault: str) -> StoreAwayError:
        self._breaker.failed()
        self.trouble = fault
        self._outages.failed(fault)
        return StoreAwayError(fault)

    def _succeeded(self) -> None:
        self._breaker.succeeded()
        self.trouble = None
        self._outages.succeeded()


def _name(charge: Charge) -> bytes:
    return f"{KEY_PREFIX}{charge.counter}".encode("utf-8", "surrogatepass")


def _read(reply: bytes) -> list[Standing] | LimitRefusal:
    refused, *rest = map(int, reply.split())
    if refused:
        return LimitRefusal(refused - 1, rest[0], rest[1] / 1000)
    values = iter(rest)
    return [Standing(used, next(values) / 1000, next(values)) for used in values]
