"""Protects requests from the affinity store: deadline and circuit breaker."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from serve_app.breaker import Breaker, OutageLog
from serve_app.domain import Binding, ModelRef
from serve_app.ports import AffinityStore, Clock

LOG_EVERY_S: Final = 10.0
"""Minimum time between two outages that are logged."""

_T = TypeVar("_T")


class StoreError(Exception):
    """A store that failed; the text contains no key, no value and no password."""


class GuardedStore:
    """A store around another one. It never raises and never takes longer than its deadline.

    If the inner store does not answer, ``get`` returns None and ``bind`` returns False, and
    ``report`` is called with "error". The breaker refuses operations at once, with the same result.
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
        self._breaker = breaker
        self._report = report
        self._deadline_s = deadline_s
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._outages = OutageLog(
            "affinity store", clock, effect="routing without sessions", interval_s=LOG_EVERY_S
        )
        self.trouble: str | None = None
        """The fault of the last operation; None if it was answered."""

    def __repr__(self) -> str:
        return f"<GuardedStore {self._inner!r}: {self._breaker.state}, trouble: {self.trouble}>"

    async def get(self, key: str) -> Binding | None:
        """The live binding of a session. Returns None if there is none, or no answer in time."""
        return await self._call(lambda: _get(self._inner, key), None)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap. Returns False also if there is no answer."""
        return await self._call(lambda: _bind(self._inner, key, binding, instead_of), False)  # noqa: FBT003 - the answer itself

    async def _call(self, operation: Callable[[], Coroutine[Any, Any, _T]], default: _T) -> _T:
        if not self._breaker.lets_through():
            self._report("error")
            return default
        # A task of its own, so that the caller does not wait while it is being cancelled.
        task = asyncio.create_task(operation())
        try:
            await asyncio.wait((task,), timeout=self._deadline_s)
        except asyncio.CancelledError:
            self._abandon(task)
            self._breaker.forgotten()
            raise
        if not task.done():
            self._abandon(task)
            self._failed(f"timed out after {self._deadline_s * 1e3:g} ms")
            return default
        fault = "the operation was cancelled" if task.cancelled() else _fault_of(task.exception())
        if fault is not None:
            self._failed(fault)
            return default
        self._succeeded()
        return task.result()

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.add(task)  # asyncio itself holds tasks only weakly
        task.add_done_callback(self._forget)
        task.cancel()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it with its contents

    def _failed(self, fault: str) -> None:
        self._breaker.failed()
        self.trouble = fault
        self._outages.failed(fault)
        self._report("error")

    def _succeeded(self) -> None:
        self._breaker.succeeded()
        self.trouble = None
        self._outages.succeeded()


async def _get(inner: AffinityStore, key: str) -> Binding | None:
    return await inner.get(key)


async def _bind(
    inner: AffinityStore, key: str, binding: Binding, instead_of: ModelRef | None
) -> bool:
    return await inner.bind(key, binding, instead_of=instead_of)


def _fault_of(error: BaseException | None) -> str | None:
    if error is None:
        return None
    # Texts of other errors may contain an address with its password.
    return str(error) if isinstance(error, StoreError) else f"failed with {type(error).__name__}"


class NoStore:
    """The store of a configuration without a usable one; every operation raises the reason."""

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
