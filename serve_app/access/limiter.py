"""Reserves what a request may use of its limits, and settles what it has used."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from serve_app.access.counters import (
    Charge,
    CounterStore,
    LimitRefusal,
    MemoryCounters,
    Settlement,
    Standing,
    StoreAwayError,
    whole_seconds,
)
from serve_app.access.terms import NANO, LimitRule, window_of
from serve_app.access_errors import LimitKind, LimitReached, LimitsUnavailable, SpendingCapReached
from serve_app.domain import SpentCap
from serve_app.ports import Clock
from serve_app.telemetry.record import BudgetRecord

_PERIODS: Final = {"day": "daily", "week": "weekly", "month": "monthly"}
_MAX_BLOCKED: Final = 10_000
"""Entries of each map of the limiter; a configuration has fewer."""


class Estimate(NamedTuple):
    """What a request will take, as far as that is known before it is answered."""

    tokens: int = 0
    usd: float = 0.0


@dataclass(slots=True)
class Hold:
    """What a request has reserved; settled once."""

    id: str
    rules: tuple[LimitRule, ...]
    charges: tuple[Charge, ...]
    standings: list[Standing]
    store: CounterStore
    is_settled: bool = False

    @property
    def budgets(self) -> tuple[BudgetRecord, ...]:
        """How much of each budget is spent."""
        return tuple(
            BudgetRecord(rule.whose, rule.window, standing.used / rule.limit)
            for rule, standing in zip(self.rules, self.standings, strict=True)
            if rule.window is not None and rule.limit
        )


class _Calendar(NamedTuple):
    """The counter of a budget for a calendar window; times are seconds since the epoch."""

    counter: str
    begins_at: float
    """When it was first needed."""
    ends_at: float


class Limiter:
    """The limits of one ingress replica's requests, over a store of counters."""

    def __init__(
        self,
        store: CounterStore | None = None,
        *,
        clock: Clock = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        replicas: int = 1,
        longest_s: float = 660.0,
    ) -> None:
        """``store`` None: in memory, for a single replica.

        ``replicas``: the most ingress replicas there are, each of which gives out its share while
        the store is away. ``longest_s``: the longest time that a request has a slot.
        """
        self._memory = MemoryCounters(clock)
        self.store: CounterStore = self._memory if store is None else store
        self._clock = clock
        self._wall_clock = wall_clock
        self._replicas = replicas
        self._longest_s = longest_s
        self._blocked: dict[str, float] = {}
        self._windows: dict[str, _Calendar] = {}
        self._count = 0
        self._salt = secrets.token_hex(8)

    def refuse_known(self, rules: Sequence[LimitRule]) -> None:
        """Refuses at once what was refused before and can't pass yet. Raises LimitReached.

        That is for limits of requests alone, because no request gives those back: a client that
        floods the gateway costs neither a decision nor a look at the store.
        """
        if not self._blocked:
            return
        for rule in rules:
            until = self._blocked.get(f"{rule.counter}:{rule.limit}")
            if until is None:
                continue
            left_s = until - self._clock()
            if left_s > 0:
                raise self._error(rule, LimitRefusal(0, rule.limit, left_s), rule.span_s)
            del self._blocked[f"{rule.counter}:{rule.limit}"]

    async def reserve(self, rules: tuple[LimitRule, ...], need: Estimate, *, is_open: bool) -> Hold:
        """Reserves for all rules, or for none.

        ``is_open``: while the store is away, a replica gives out its share of the limits; else
        LimitsUnavailable is raised. Raises LimitReached or SpendingCapReached.
        """
        charges = self._charges(rules, need)
        self._count += 1
        holder, store = f"{self._salt}-{self._count}", self.store
        try:
            result = await store.reserve(charges, holder)
        except StoreAwayError:
            if not is_open:
                raise LimitsUnavailable from None
            store, charges = self._memory, tuple(map(self._share, charges))
            result = await store.reserve(charges, holder)
        if isinstance(result, LimitRefusal):
            rule, span_s = rules[result.at], charges[result.at].span_s
            if store is self.store:  # a share of the limit refuses only while the store is away
                self._remember(rule, result)
            raise self._error(rule, result, span_s)
        return Hold(holder, rules, charges, result, store)

    def settle(
        self, hold: Hold, tokens: int | None, usd: float | None, more: tuple[LimitRule, ...] = ()
    ) -> None:
        """Settles a request by what it took; None: as much as was reserved.

        ``more``: further limits that it counts for, since another model has answered.
        """
        if hold.is_settled:
            return
        hold.is_settled = True
        settlements = []
        for charge, standing in zip(hold.charges, hold.standings, strict=True):
            delta = _delta(charge, tokens, usd)
            if delta:
                settlements.append(Settlement(charge, delta, standing.mark))
        if more:
            settlements += [
                Settlement(charge._replace(amount=0), charge.amount, 0)
                for charge in self._charges(more, Estimate(tokens or 0, usd or 0.0))
                if charge.kind is not LimitKind.CONCURRENT
            ]
        if settlements:
            hold.store.settle(settlements, hold.id)

    @property
    def trouble(self) -> str | None:
        """The fault of the store, as last seen; None if there is none."""
        return self.store.trouble

    async def aclose(self) -> None:
        """Sends what is still to be settled."""
        await self.store.aclose()

    def _charges(self, rules: Sequence[LimitRule], need: Estimate) -> tuple[Charge, ...]:
        return tuple(self._charge(rule, need) for rule in rules)

    def _charge(self, rule: LimitRule, need: Estimate) -> Charge:
        kind = rule.kind
        if kind is LimitKind.USD:
            counter, left_s = self._calendar(rule)
            return Charge(counter, kind, rule.limit, _nano(need.usd), left_s)
        if kind is LimitKind.TOKENS:  # one that is over the limit alone may have all of it
            amount = max(1, min(need.tokens, rule.limit)) if need.tokens else 0
            return Charge(rule.counter, kind, rule.limit, amount, rule.span_s)
        span_s = self._longest_s if kind is LimitKind.CONCURRENT else rule.span_s
        return Charge(rule.counter, kind, rule.limit, 1, span_s)

    def _calendar(self, rule: LimitRule) -> tuple[str, float]:
        """The counter of a budget's window of the moment, and the seconds until that ends."""
        now = self._wall_clock()
        known = self._windows.get(rule.counter)
        if known is None or not known.begins_at <= now < known.ends_at:
            begin, ends_at = window_of(rule.window or "month", now)
            if len(self._windows) >= _MAX_BLOCKED:
                self._windows.clear()
            known = _Calendar(f"{rule.counter}:{begin}", now, ends_at)
            self._windows[rule.counter] = known
        return known.counter, max(1.0, known.ends_at - now)

    def _share(self, charge: Charge) -> Charge:
        limit = max(1, charge.limit // self._replicas) if charge.limit else 0
        amount = charge.amount if charge.kind is LimitKind.USD else min(charge.amount, limit)
        return charge._replace(counter=f"away:{charge.counter}", limit=limit, amount=amount)

    def _remember(self, rule: LimitRule, refusal: LimitRefusal) -> None:
        if rule.kind is LimitKind.REQUESTS and len(self._blocked) < _MAX_BLOCKED:
            name = f"{rule.counter}:{rule.limit}"
            self._blocked[name] = self._clock() + refusal.retry_s

    def _error(self, rule: LimitRule, refusal: LimitRefusal, span_s: float) -> Exception:
        if rule.window is None:
            retry_after_s = whole_seconds(refusal.retry_s)
            shown_s = 0.0 if rule.kind is LimitKind.CONCURRENT else span_s
            return LimitReached(rule.whose, rule.kind, rule.limit, shown_s, retry_after_s, span_s)
        now = self._wall_clock()
        resets_at = window_of(rule.window, now)[1]
        return SpendingCapReached(
            SpentCap(
                _PERIODS[rule.window],  # type: ignore[arg-type]  # one of its three values
                resets_at,
                resets_at - now,
                _spent_message(rule, resets_at),
            )
        )


def _spent_message(rule: LimitRule, resets_at: float) -> str:
    reset = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(resets_at))
    return (
        f"the {rule.whose} has spent its budget of {rule.limit / NANO:.2f} USD for this "
        f"{rule.window}; wait until {reset}, or ask the gateway's operator to raise it"
    )


def _nano(usd: float) -> int:
    return round(usd * NANO)


def _delta(charge: Charge, tokens: int | None, usd: float | None) -> int:
    if charge.kind is LimitKind.CONCURRENT:
        return -1
    if charge.kind is LimitKind.TOKENS and tokens is not None:
        return tokens - charge.amount
    if charge.kind is LimitKind.USD and usd is not None:
        return _nano(usd) - charge.amount
    return 0
