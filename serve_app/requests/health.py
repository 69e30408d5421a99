"""Which endpoints rest after failures: known from the outcomes of requests, and kept per process.

An endpoint is known by its fingerprint. It rests as a whole where its key or its address is at
fault, else for one model. A rest only changes the order in which endpoints are tried: where all
of them rest, the request is sent all the same. When a rest is over, one request probes the
endpoint while the others go on avoiding it. A model whose quota is spent rests, too, without a
failure and without a probe: when it is filled again is known.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from serve_app.exchange import RestReport
from serve_app.ports import Clock
from serve_app.requests.verdict import Meaning, Rests, Verdict, verdict_of

MAX_ENTRIES: Final = 4096
"""Endpoints and models with failures; the ones that failed longest ago are forgotten."""
LONGEST_REST_S: Final = 600.0
LONGEST_KNOWN_S: Final = 3600.0
"""The longest rest that a provider asks for and gets, seconds."""

_FAILURES: Final = 3
"""Failures in a row that make a passing fault a rest."""
_FIRST_S: Final = 2.0
_LONGEST_PASSING_S: Final = 30.0
_KEY_S: Final = 60.0
_ALMOST_S: Final = 0.5
"""Reports whose ends are closer than this say the same, seconds."""
_PROBE_S: Final = 30.0
"""After this time a probe that never ended no longer counts, seconds."""


@dataclass(slots=True)
class _Entry:
    failures: int = 0
    pause_s: float = 0.0
    until: float = 0.0
    why: str = ""
    probing_since: float | None = None
    is_shared: bool = False
    """The other processes know of it; when they no longer do, it is over."""


class Health:
    """The endpoints that have failed since their last success."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._recovered: set[tuple[str, str]] = set()
        """What has rested and answers again, for the other processes."""
        self._spent: OrderedDict[tuple[str, str], float] = OrderedDict()
        """Until when the quotas are spent that have no failure."""

    def __repr__(self) -> str:
        return f"<Health {len(self._entries)} failing, {len(self.rests())} resting>"

    def __len__(self) -> int:
        return len(self._entries) + len(self._spent)

    def rests_now(self, endpoint: str, model: str) -> bool:
        """True for an endpoint that other requests should avoid, at least for this model."""
        if not len(self):
            return False
        now = self._clock()
        if self._spent.get((endpoint, model), 0.0) > now:
            return True
        return any(self._avoided(key, now) for key in ((endpoint, ""), (endpoint, model)))

    def begin(self, endpoint: str, model: str) -> None:
        """A request is sent to an endpoint; after a rest it is the probe."""
        if not self._entries:
            return
        now = self._clock()
        for key in ((endpoint, ""), (endpoint, model)):
            entry = self._entries.get(key)
            if entry is not None and entry.pause_s and entry.until <= now:
                entry.probing_since = now

    def forget(self, endpoint: str, model: str) -> None:
        """A request was given up, because its client left: it says nothing about the endpoint."""
        for key in ((endpoint, ""), (endpoint, model)):
            entry = self._entries.get(key)
            if entry is not None:
                entry.probing_since = None

    def succeeded(self, endpoint: str, model: str) -> None:
        """The endpoint has answered a request for the model."""
        if not self._entries:
            return
        for key in ((endpoint, ""), (endpoint, model)):
            entry = self._entries.pop(key, None)
            if entry is not None and entry.pause_s and len(self._recovered) < MAX_ENTRIES:
                self._recovered.add(key)

    def failed(self, endpoint: str, model: str, verdict: Verdict) -> None:
        """The endpoint has failed a request for the model, as the verdict says."""
        if verdict.rests is Rests.NOTHING:
            self.forget(endpoint, model)
            return
        if verdict.rests is not Rests.MODEL:
            self._fail((endpoint, ""), verdict)
        if verdict.rests is not Rests.ENDPOINT:  # a key may be refused for one model alone
            self._fail((endpoint, model), verdict)

    def spent(self, endpoint: str, model: str, left_s: float) -> None:
        """An answer says that the model's quota is spent for the next ``left_s`` seconds."""
        now = self._clock()
        self._spent = OrderedDict((key, until) for key, until in self._spent.items() if until > now)
        self._spent[endpoint, model] = now + min(left_s, LONGEST_KNOWN_S)
        if len(self._spent) > MAX_ENTRIES:
            self._spent.popitem(last=False)

    def probed(self, endpoint: str, why: Meaning, *, is_over: bool, next_in_s: float) -> None:
        """A probe has found out whether an endpoint need not rest any longer.

        If so, the next request tries it, as after any rest. Else it rests longer, at least for
        ``next_in_s``.
        """
        now = self._clock()
        whole = self._entries.get((endpoint, ""))
        if whole is None or whole.until <= now:
            return  # a request was faster
        if not is_over:
            self._fail((endpoint, ""), verdict_of(why))
            whole.until = max(whole.until, now + next_in_s)
            return
        for key, entry in self._entries.items():  # a key that is refused rests for the model, too
            if key[0] == endpoint and entry.why == why and entry.until > now:
                entry.until = now
                if len(self._recovered) < MAX_ENTRIES:
                    self._recovered.add(key)

    def rests(self) -> list[RestReport]:
        """All rests of this moment."""
        now = self._clock()
        rests = {
            key: (entry.until, entry.why)
            for key, entry in self._entries.items()
            if entry.until > now
        }
        for key, until in self._spent.items():
            if until > max(now, rests.get(key, (0.0, ""))[0]):
                rests[key] = until, Meaning.RATE_LIMITED
        return [RestReport(*key, until - now, why) for key, (until, why) in rests.items()]

    def news(self) -> list[RestReport]:
        """What this process has found out since it was last asked, for the others.

        What answers again has no time left.
        """
        recovered, self._recovered = self._recovered, set()
        resting = self.rests()
        over = recovered - {(report.endpoint, report.model) for report in resting}
        fresh: list[RestReport] = []
        for report in resting:
            key = (report.endpoint, report.model)
            entry = self._entries.get(key)
            if entry is None or not entry.is_shared or key in self._spent:
                fresh.append(report)
            if entry is not None:
                entry.is_shared = True
        return fresh + [RestReport(*key, 0.0, "") for key in over]

    def adopt(self, reports: Iterable[RestReport]) -> None:
        """Takes over all that the processes know together; what they knew and no longer do is over."""
        now, known = self._clock(), list(reports)
        named = {(report.endpoint, report.model) for report in known}
        for key, own in list(self._entries.items()):
            # A rest whose time is over is not listed, either: its next pause and probe stay known.
            if own.is_shared and key not in named and own.until > now + _ALMOST_S:
                del self._entries[key]
        for report in known:
            key = (report.endpoint, report.model)
            entry = self._entries.get(key)
            left_s = min(report.left_s, LONGEST_KNOWN_S)
            own_until = max(0.0 if entry is None else entry.until, self._spent.get(key, 0.0))
            if left_s <= 0 or own_until > now + left_s - _ALMOST_S or key in self._recovered:
                continue
            self._entries[key] = _Entry(_FAILURES, left_s, now + left_s, report.why, is_shared=True)
            if len(self._entries) > MAX_ENTRIES:
                self._entries.popitem(last=False)

    def _fail(self, key: tuple[str, str], verdict: Verdict) -> None:
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        entry.failures += 1
        entry.probing_since = None
        pause_s = _pause_s(entry, verdict)
        if pause_s > 0:
            entry.pause_s = pause_s
            entry.until = self._clock() + pause_s
            entry.why = verdict.meaning
            entry.is_shared = False
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def _avoided(self, key: tuple[str, str], now: float) -> bool:
        entry = self._entries.get(key)
        if entry is None or not entry.pause_s:
            return False
        if entry.until > now:
            return True
        since = entry.probing_since
        return since is not None and now - since < _PROBE_S


def _pause_s(entry: _Entry, verdict: Verdict) -> float:
    """How long it rests now; 0 for a fault that may pass by itself."""
    known_s = verdict.retry_after_s
    if verdict.is_passing:
        if known_s is not None:
            return min(known_s, LONGEST_REST_S)
        if entry.failures < _FAILURES:
            return 0.0
        return min(2 * entry.pause_s or _FIRST_S, _LONGEST_PASSING_S)
    pause_s = min(2 * entry.pause_s or _KEY_S, LONGEST_REST_S)
    return pause_s if known_s is None else max(pause_s, min(known_s, LONGEST_KNOWN_S))
