"""The store of earlier answers as an ingress uses it: it never raises, and outlives restarts."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from serve_app.affinity.guarded import LOG_EVERY_S, StoreError
from serve_app.breaker import Breaker, OutageLog
from serve_app.conversations.memory import DELETED, MemoryConversations
from serve_app.ports import Clock, ConversationStore

LOAD_S: Final = 10.0
"""Deadline of reading, seconds: a request that needs its history can only wait for it."""
SAVE_S: Final = 2.0
"""Deadline of writing, seconds: the end of an answer waits for it."""
LOOK_S: Final = 2.0
"""Seconds between two looks whether the store was restarted."""
SETTLE_S: Final = 3 * LOOK_S
"""Seconds after its restart within which every ingress has given the store its copies back."""

_AGAIN_S: Final = 0.5

_T = TypeVar("_T")


class RestartingStore(ConversationStore, Protocol):
    """A store in the memory of one process, which is empty after a restart."""

    async def life(self) -> tuple[str, float]:
        """The name of the process, another one after a restart, and its age in seconds."""
        ...

    async def restore(self, key: str, value: bytes) -> None:
        """As ``save``, unless there is a longer value: a conversation only grows."""
        ...


class SharedConversations:
    """Reads and writes through another store, with deadlines and a circuit breaker.

    With ``copies``, the inner store is in memory: it gets them back after a restart, and while it
    is unavailable they are used alone.
    """

    def __init__(
        self,
        inner: ConversationStore | RestartingStore,
        *,
        clock: Clock,
        copies: MemoryConversations | None = None,
    ) -> None:
        self._inner = inner
        self._restarting: Any = inner if copies is not None else None
        self._copies = copies
        self._breaker = Breaker(clock, longest_pause_s=LOOK_S)
        self._outages = OutageLog(
            "store of earlier answers",
            clock,
            effect="`previous_response_id` and `conversation` may fail",
            interval_s=LOG_EVERY_S,
        )
        self.trouble: str | None = None
        """The fault of the last operation; None if it was answered."""
        self._life: str | None = None
        self._looking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<SharedConversations {self._inner!r}: {self._breaker.state}>"

    async def load(self, keys: Sequence[str]) -> list[bytes | None] | None:
        """The values of these keys. Returns None if the store is unavailable."""
        if not keys:
            return []
        until = asyncio.get_running_loop().time() + LOAD_S
        values = await self._loaded(keys, until)
        if self._copies is None:
            return values
        own = self._copies.load(keys)
        values = await self._with_copies(self._copies, keys, values, until)
        if values is None:
            return None
        pairs = zip(own, values, strict=True)
        return [None if DELETED in pair else pair[1] for pair in pairs]

    async def _with_copies(
        self,
        copies: MemoryConversations,
        keys: Sequence[str],
        values: list[bytes | None] | None,
        until: float,
    ) -> list[bytes | None] | None:
        """The values, and those that the inner store has lost; they are copied."""
        self._look_for_restarts()
        if values is None:
            own = copies.load(keys)
            return None if None in own else own
        if None in values:
            values = await self._after_restart(keys, values, until)
        for key, value in zip(keys, values, strict=True):
            if value is not None and copies.load([key]) != [DELETED]:
                copies.save(key, value)
        return values

    async def save(self, key: str, value: bytes) -> bool:
        """Keeps a value. Returns False if it could not be kept."""
        kept = False
        if self._copies is not None:
            kept = self._copies.save(key, value)
            self._look_for_restarts()
        stored = await self._guarded(lambda: _done(self._inner.save(key, value)), SAVE_S)
        return kept or stored is not None

    async def delete(self, keys: Sequence[str]) -> int | None:
        """Forgets the values of these keys. Returns how many there were, None if unavailable.

        Where there are copies, a mark replaces each value: other ingresses would give it back.
        """
        if self._copies is None:
            return await self._guarded(lambda: _count(self._inner.delete(keys)), SAVE_S)
        values = await self.load(keys)
        for key in keys if values is not None else ():
            if not await self._guarded(lambda: _done(self._inner.save(key, DELETED)), SAVE_S):  # noqa: B023 - awaited here
                return None
            self._copies.save(key, DELETED)
        return None if values is None else sum(value is not None for value in values)

    async def aclose(self) -> None:
        """Stops looking for restarts."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _loaded(self, keys: Sequence[str], until: float) -> list[bytes | None] | None:
        """What the inner store has; one in memory that is being restarted is asked again."""
        loop = asyncio.get_running_loop()
        while True:
            left_s = until - loop.time()
            values = await self._guarded(lambda: _values(self._inner.load(keys)), left_s)
            if values is not None or self._copies is None or loop.time() + _AGAIN_S > until:
                return values
            await asyncio.sleep(_AGAIN_S)

    async def _after_restart(
        self, keys: Sequence[str], values: list[bytes | None], until: float
    ) -> list[bytes | None]:
        """The values, those included that were lost in a restart a moment ago."""
        loop = asyncio.get_running_loop()
        await self._give_back([key for key, value in zip(keys, values, strict=True) if not value])
        while True:
            again = await self._loaded(keys, until)
            if again is None or None not in again or loop.time() + _AGAIN_S > until:
                return values if again is None else again
            life = await self._guarded(lambda: _life(self._restarting.life()), SAVE_S)
            if life is None or life[1] > SETTLE_S:
                return again
            await asyncio.sleep(_AGAIN_S)

    def _look_for_restarts(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        """Looks as long as there are copies that a restart would take."""
        while self._copies is not None and self._copies.items():
            life = await self._guarded(lambda: _life(self._restarting.life()), SAVE_S)
            if life is not None and life[0] != self._life:
                if self._life is not None:
                    await self._give_back([key for key, _ in self._copies.items()])
                self._life = life[0]
            await asyncio.sleep(LOOK_S)

    async def _give_back(self, keys: Sequence[str]) -> None:
        if self._copies is None:
            return
        for key, value in zip(keys, self._copies.load(keys), strict=True):
            if value is not None:
                await self._guarded(lambda: _done(self._restarting.restore(key, value)), SAVE_S)  # noqa: B023 - awaited here

    async def _guarded(
        self, operation: Callable[[], Coroutine[Any, Any, _T]], deadline_s: float
    ) -> _T | None:
        """What the operation returns, or None for a failure."""
        if not self._breaker.lets_through():
            return None
        try:
            async with asyncio.timeout(deadline_s):
                result = await operation()
        except asyncio.CancelledError:
            self._breaker.forgotten()
            raise
        except Exception as error:  # noqa: BLE001 - its text may contain an address or a key
            self._breaker.failed()
            text = str(error) if isinstance(error, StoreError) else type(error).__name__
            self._outages.failed(text)
            self.trouble = text
            return None
        self._breaker.succeeded()
        self._outages.succeeded()
        self.trouble = None
        return result


async def _done(saving: Any) -> bool:  # noqa: ANN401 - a coroutine of any store
    await saving
    return True


async def _values(loading: Any) -> list[bytes | None]:  # noqa: ANN401 - as above
    return list(await loading)


async def _count(deleting: Any) -> int:  # noqa: ANN401 - as above
    return int(await deleting)


async def _life(asking: Any) -> tuple[str, float]:  # noqa: ANN401 - as above
    name, age_s = await asking
    return str(name), float(age_s)
