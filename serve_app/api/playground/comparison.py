"""Decides the last decisions again with edited routes, without getting in the way of requests."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from serve_app.api.playground.views import excerpt, render_comparison
from serve_app.domain import Json, RouteDecision, Unavailable
from serve_app.errors import PageBusy
from serve_app.ports import Clock
from serve_app.requests.trial import Trials
from serve_app.snapshot import Snapshot
from serve_app.telemetry.recent import RecentDecision

MAX_AGAIN: Final = 100
DEADLINE_S: Final = 20.0
MAX_WAITING: Final = 4
"""Comparisons at once; one of them runs."""

_PATIENCE_S: Final = 1.0
_LONGEST_BREAK_S: Final = 0.05


@dataclass(slots=True)
class Comparisons:
    """One comparison after the other. Each ends with its client, or after DEADLINE_S."""

    trials: Trials
    clock: Clock
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: int = 0

    async def compare(self, kept: Sequence[RecentDecision], edited: Snapshot) -> Json:
        """What an edit changes about the newest of these decisions. Raises PageBusy."""
        if self._waiting >= MAX_WAITING:
            raise PageBusy
        self._waiting += 1
        try:
            async with self._lock:
                return await self._compare(kept, edited)
        finally:
            self._waiting -= 1

    async def _compare(self, kept: Sequence[RecentDecision], edited: Snapshot) -> Json:
        """Leaves the engine alone for as long as it took, after each question."""
        began = self.clock()
        ends_at = began + DEADLINE_S
        rows: list[Json] = []
        is_complete = True
        again = [one for one in kept if one.turns and not one.is_inline]
        for one in reversed(again[-MAX_AGAIN:]):
            asked_at = self.clock()
            if asked_at >= ends_at:
                is_complete = False
                break
            patience_s = min(_PATIENCE_S, ends_at - asked_at)
            after = await self.trials.decide_again(one, edited, patience_s)
            is_complete &= not isinstance(after, Unavailable)
            rows.append(_row(one, after))
            await asyncio.sleep(min(_LONGEST_BREAK_S, self.clock() - asked_at))
        return render_comparison(rows, is_complete=is_complete, took_s=self.clock() - began)


def _row(kept: RecentDecision, after: RouteDecision | Unavailable | None) -> Json:
    record = kept.record
    before = {
        "route": record.route,
        "model": record.candidates[0] if record.candidates else record.model,
        "confidence": record.confidence,
        "reason": record.reason,
    }
    row = {
        "number": kept.number,
        "at": record.at,
        "text": excerpt(kept),
        "before": before,
        "after": None,
        "changed": False,
    }
    if not isinstance(after, RouteDecision):
        return row
    model = str(after.candidates[0])
    changed = (after.route, model) != (before["route"], before["model"])
    shown = {"route": after.route, "model": model, "confidence": after.confidence}
    return {**row, "after": shown, "changed": changed}
