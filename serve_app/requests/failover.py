"""Tries the candidates of a request in turn, until one answers or no try is left."""

import asyncio
import time
from functools import partial
from typing import Final, NamedTuple

from serve_app.dialects import registry
from serve_app.domain import ModelRef
from serve_app.errors import GatewayBusy
from serve_app.ports import Clock, Upstream
from serve_app.providers.endpoints import Endpoint
from serve_app.requests.attempts import MAX_ATTEMPTS, Attempts, Try
from serve_app.requests.commit import Held
from serve_app.requests.endpoint_order import EndpointOrder, never
from serve_app.requests.exchange import Outcome, TimeLeft, open_exchange
from serve_app.requests.failures import Failure
from serve_app.requests.health import Health
from serve_app.requests.latencies import Latencies
from serve_app.requests.probes import Probes
from serve_app.requests.progress import RequestProgress, Tried
from serve_app.requests.quota_headers import spent_until
from serve_app.requests.shared_health import SharedHealth
from serve_app.requests.slots import UNLIMITED, Slot, Slots
from serve_app.requests.state import heal, preferred_endpoints
from serve_app.requests.verdict import BROKEN_OFF, FINAL, GOOD, Action, Rests, Verdict
from serve_app.telemetry.record import AttemptRecord, Observer

_NOT_TRIED: Final = Failure(FINAL)
_LEAST_LEFT_S: Final = 0.05
"""A try with less time than this can only fail, and would blame a provider for it."""


class _Reported(NamedTuple):
    """The failure that the client hears of, and whose it was."""

    outcome: Failure
    candidate: ModelRef
    endpoint: Endpoint | None

    @property
    def rank(self) -> tuple[bool, bool]:
        """How much it helps the client: one that says when to come back helps most.

        What is wrong with a key of the gateway helps least: the client can't mend it.
        """
        verdict = self.outcome.verdict
        return verdict.is_passing, verdict.retry_after_s is not None


class Failover:
    """Runs the exchanges of requests, and remembers which endpoints fail."""

    def __init__(
        self,
        upstream: Upstream,
        observer: Observer,
        clock: Clock,
        health: Health,
        latencies: Latencies,
    ) -> None:
        self._upstream = upstream
        self._observer = observer
        self._clock = clock
        self._health = health
        self._latencies = latencies
        self.shared: SharedHealth | None = None
        """None where this replica is the only one."""
        self.probes: Probes | None = None
        """None where resting endpoints are not probed."""
        self._order = EndpointOrder()
        self._slots = Slots(clock)

    async def run(self, progress: RequestProgress) -> Outcome:
        """The outcome of the last exchange that was made."""
        if self.shared is not None:
            self.shared.touch()
        if self.probes is not None:
            self.probes.touch()
        providers = progress.request.snapshot.providers
        rests = partial(self._rests, progress)
        attempts = Attempts(
            _candidates(progress),
            lambda candidate: preferred_endpoints(
                progress.request,
                candidate,
                self._order.order(providers, candidate, lambda: progress.home.name, rests),
            ),
            rests=rests,
            is_full=partial(self._is_full, progress) if providers.has_limits else never,
        )
        outcome: Outcome = _NOT_TRIED
        reported: _Reported | None = None
        while (tried := attempts.next()) is not None:
            if progress.attempts and self._left_s(progress) - tried.pause_s < _LEAST_LEFT_S:
                break
            if tried.pause_s:
                await asyncio.sleep(tried.pause_s)
            try:
                tried, slot = await self._slot(progress, attempts, tried)
            except GatewayBusy as error:
                outcome = Failure(FINAL, error=error) if reported is None else outcome
                break
            outcome = await self._ask(progress, tried, slot)
            attempts.record(_verdict_on(outcome))
            if isinstance(outcome, Failure):
                last = _Reported(outcome, progress.candidate, progress.endpoint)
                reported = last if reported is None or last.rank >= reported.rank else reported
        if isinstance(outcome, Failure) and reported is not None and not _is_final(outcome):
            outcome, progress.candidate, progress.endpoint = reported
        return outcome

    def broke_off(self, progress: RequestProgress) -> None:
        """A stream stopped after its commit."""
        self._judge(progress, BROKEN_OFF)

    async def _slot(
        self, progress: RequestProgress, attempts: Attempts, tried: Try
    ) -> tuple[Try, Slot]:
        """A slot for the try, or for one of the full endpoints, whichever becomes free first.

        Raises GatewayBusy.
        """
        providers = progress.request.snapshot.providers
        if not providers.has_limits:
            return tried, UNLIMITED
        endpoint_of = providers.endpoint
        endpoint = endpoint_of(tried.candidate, tried.endpoint)
        slot = UNLIMITED if endpoint is None else self._slots.take(endpoint)
        if slot is not None:
            return tried, slot
        wanted = [endpoint_of(full.candidate, full.endpoint) for full in (tried, *attempts.full)]
        began = self._clock()
        try:
            granted = await self._slots.wait(
                [endpoint for endpoint in wanted if endpoint is not None],  # full, so none is
                progress.request.snapshot.config.queue,
                self._left_s(progress),
            )
        finally:
            progress.queued_s += self._clock() - began
        if granted.place:
            tried = attempts.swap(tried, granted.place - 1)
        return tried, granted.slot

    async def _ask(self, progress: RequestProgress, tried: Try, slot: Slot) -> Outcome:
        """Makes the try, twice if that heals it. The slot is released at the answer's end."""
        outcome: Outcome | None = None
        try:
            outcome = await self._attempt(progress, tried)
            if isinstance(outcome, Failure) and heal(progress, outcome):
                outcome = await self._attempt(progress, tried)
        finally:
            if isinstance(outcome, Held):
                progress.slot = slot
            else:
                slot.release()
        return outcome

    async def _attempt(self, progress: RequestProgress, tried: Try) -> Outcome:
        progress.candidate = tried.candidate
        progress.attempts += 1
        endpoint = progress.request.snapshot.providers.endpoint(tried.candidate, tried.endpoint)
        progress.endpoint = endpoint
        opened, took_s = self._clock(), 0.0
        if endpoint is not None:
            self._health.begin(endpoint.fingerprint, tried.candidate.name)
        verdict: Verdict | None = None
        try:
            outcome = await open_exchange(progress, tried, self._upstream, self._time(progress))
            verdict = _verdict_on(outcome)
        finally:
            took_s = self._clock() - opened
            progress.upstream_s += took_s
            self._judge(progress, verdict)
            self._measure(progress, verdict, took_s)
        self._note_quota(progress, outcome)
        name = "ok" if not isinstance(outcome, Failure) else outcome.outcome
        began_s = opened - progress.request.arrived
        progress.tried.append(Tried(tried.candidate, name, took_s, began_s))
        self._observer.attempted(self._record(progress, outcome, took_s))
        return outcome

    def _left_s(self, progress: RequestProgress) -> float:
        """Seconds until the request's total timeout."""
        request = progress.request
        return request.snapshot.config.timeouts.total_s - (self._clock() - request.arrived)

    def _time(self, progress: RequestProgress) -> TimeLeft:
        """The time of the exchange that begins: half of it, if another endpoint may still answer.

        A provider that says nothing would else use up the time of all that come after it.
        """
        left_s = self._left_s(progress)
        return TimeLeft(left_s, left_s / 2 if _has_others(progress) else left_s)

    def _rests(self, progress: RequestProgress, candidate: ModelRef, ordinal: int) -> bool:
        if not len(self._health):
            return False
        endpoint = progress.request.snapshot.providers.endpoint(candidate, ordinal)
        return endpoint is not None and self._health.rests_now(endpoint.fingerprint, candidate.name)

    def _is_full(self, progress: RequestProgress, candidate: ModelRef, ordinal: int) -> bool:
        endpoint = progress.request.snapshot.providers.endpoint(candidate, ordinal)
        return endpoint is not None and self._slots.is_full(endpoint)

    def _note_quota(self, progress: RequestProgress, outcome: Outcome) -> None:
        """Lets a model rest whose quota the answer says to be spent: a 429 would be next."""
        endpoint = progress.endpoint
        if endpoint is None or endpoint.passthrough_auth or not outcome.headers:
            return  # the quota of a client's own key says nothing to others
        now = time.time()
        until = spent_until(outcome.headers, now)
        if until is not None:
            self._health.spent(endpoint.fingerprint, progress.candidate.name, until - now)

    def _judge(self, progress: RequestProgress, verdict: Verdict | None) -> None:
        """What the outcome says of the endpoint; None if the client left before there was one."""
        endpoint, model = progress.endpoint, progress.candidate.name
        if endpoint is None:
            return
        if verdict is None:
            self._health.forget(endpoint.fingerprint, model)
        elif verdict is GOOD:
            self._health.succeeded(endpoint.fingerprint, model)
        else:
            self._health.failed(endpoint.fingerprint, model, verdict)
            if self.probes is not None:
                self.probes.touch()

    def _measure(self, progress: RequestProgress, verdict: Verdict | None, took_s: float) -> None:
        """How long the model took, unless its answer says nothing about that."""
        if verdict is not None and (verdict is GOOD or verdict.rests is not Rests.NOTHING):
            stream, failed = progress.intent.stream, verdict is not GOOD
            self._latencies.note(progress.candidate, took_s, stream=stream, failed=failed)

    def _record(self, progress: RequestProgress, outcome: Outcome, took_s: float) -> AttemptRecord:
        failure = outcome if isinstance(outcome, Failure) else None
        began_s = self._clock() - progress.request.arrived if isinstance(outcome, Held) else None
        return AttemptRecord(
            provider=progress.candidate.provider,
            model=progress.model_label,
            outcome="ok" if failure is None else failure.outcome,
            seconds=took_s,
            surface=progress.request.surface,
            first_token_s=began_s,
            retry_after_s=None if failure is None else failure.verdict.retry_after_s,
        )


def _is_final(failure: Failure) -> bool:
    return failure.verdict.action is Action.FINAL


def _verdict_on(outcome: Outcome) -> Verdict:
    return outcome.verdict if isinstance(outcome, Failure) else GOOD


def _has_others(progress: RequestProgress) -> bool:
    """True while an endpoint has not been asked that may answer in place of the current one."""
    if progress.attempts >= MAX_ATTEMPTS:
        return False
    providers, candidates = progress.request.snapshot.providers, progress.decision.candidates
    if len(candidates) == 1 or not progress.intent.falls_back:
        return len(progress.tried) + 1 < len(providers.endpoints_of(candidates[0]))
    asked = [*(tried.candidate for tried in progress.tried), progress.candidate]
    return any(
        asked.count(candidate) < len(providers.endpoints_of(candidate)) for candidate in candidates
    )


def _candidates(progress: RequestProgress) -> tuple[ModelRef, ...]:
    """The candidates, those last whose provider lacks what the client asks for."""
    candidates, providers = progress.decision.candidates, progress.request.snapshot.providers
    if not progress.intent.falls_back:
        return candidates[:1]
    if len(candidates) == 1:
        return candidates

    def is_unable(candidate: ModelRef) -> bool:
        endpoint = providers.endpoint(candidate)
        return endpoint is not None and not registry.is_served(
            progress.request.dialect, endpoint.operations
        )

    return tuple(sorted(candidates, key=is_unable))
