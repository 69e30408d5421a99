"""What stands around a store that may fail: a request never fails or waits for its memory."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from serve_app.breaker import Breaker
from serve_app.domain import Binding, ModelRef
from serve_app.ports import AffinityStore, Clock

LOG_EVERY_S: Final = 10.0
"""A store that comes and goes is told of once in this time."""

_log = logging.getLogger("fingerpost")
_T = TypeVar("_T")


class StoreError(Exception):
    """A store that failed; its text is safe to show: no key, no value, no password."""


class GuardedStore:
    """A store around another one. It never raises and never takes longer than its deadline.

    In trouble nothing is bound and nothing can be: ``get`` gives None and ``bind`` False.
    ``report`` hears "error" for every operation that the store gave no answer to, those included
    that the breaker refused. A refused operation returns at once.
    """

    def __init__(
        self,
        inner: AffinityStore,
        *,
        clock: Clock,
        breaker: Breaker,
        report: Callable[[str], None],
        deadline_s: float = 0.25,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._breaker = breaker
        self._report = report
        self._deadline_s = deadline_s
        self._left: set[asyncio.Task[Any]] = set()
        self._told_at = -LOG_EVERY_S
        self._told = False
        self.trouble: str | None = None
        """Why the last operation that was tried had no answer; None after one that had."""

    def __repr__(self) -> str:
        return f"<GuardedStore {self._inner!r}: {self._breaker.state}, trouble: {self.trouble}>"

    async def get(self, key: str) -> Binding | None:
        """The live binding of a session, if there is one and the store says so in time."""
        return await self._ask(lambda: _get(self._inner, key), None)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap; False also when nobody knows."""
        return await self._ask(lambda: _bind(self._inner, key, binding, instead_of), False)  # noqa: FBT003 - the answer itself

    async def _ask(self, ask: Callable[[], Coroutine[Any, Any, _T]], otherwise: _T) -> _T:
        if not self._breaker.lets_through():
            self._report("error")
            return otherwise
        # A task of its own: whatever it does when it is cancelled, nobody waits for that.
        task = asyncio.create_task(ask())
        try:
            await asyncio.wait((task,), timeout=self._deadline_s)
        except asyncio.CancelledError:
            self._leave(task)
            self._breaker.forgotten()
            raise
        if not task.done():
            self._leave(task)
            self._failed(f"no answer within {self._deadline_s * 1e3:g} ms")
            return otherwise
        fault = "it gave the question up" if task.cancelled() else _named(task.exception())
        if fault is not None:
            self._failed(fault)
            return otherwise
        self._succeeded()
        return task.result()

    def _leave(self, task: asyncio.Task[Any]) -> None:
        self._left.add(task)  # asyncio itself holds tasks only weakly
        task.add_done_callback(self._forget)
        task.cancel()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()  # heard, so asyncio does not log it with all that it holds

    def _failed(self, fault: str) -> None:
        self._breaker.failed()
        self.trouble = fault
        now = self._clock()
        if not self._told and now - self._told_at >= LOG_EVERY_S:
            self._told, self._told_at = True, now
            _log.warning("the affinity store gives no answers, sessions go without: %s", fault)
        self._report("error")

    def _succeeded(self) -> None:
        self._breaker.succeeded()
        self.trouble = None
        if self._told:
            self._told = False
            _log.warning("the affinity store gives answers again")


async def _get(inner: AffinityStore, key: str) -> Binding | None:
    return await inner.get(key)


async def _bind(
    inner: AffinityStore, key: str, binding: Binding, instead_of: ModelRef | None
) -> bool:
    return await inner.bind(key, binding, instead_of=instead_of)


def _named(error: BaseException | None) -> str | None:
    if error is None:
        return None
    # What others write into their errors may hold an address with its password.
    return str(error) if isinstance(error, StoreError) else f"it raised {type(error).__name__}"


class NoStore:
    """A store that can't be made; says why to whoever asks it."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def get(self, key: str) -> Binding | None:
        """Raises StoreError."""
        del key
        raise StoreError(self._reason)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Raises StoreError."""
        del key, binding, instead_of
        raise StoreError(self._reason)
