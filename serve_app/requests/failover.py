"""Tries the candidates of a request in turn, until one answers or no try is left."""

import asyncio
from typing import Final, NamedTuple

from serve_app.dialects import registry
from serve_app.domain import ModelRef
from serve_app.ports import Clock, Upstream
from serve_app.providers.endpoints import Endpoint
from serve_app.requests.attempts import Attempts, EndpointTurns, Try
from serve_app.requests.commit import Held
from serve_app.requests.exchange import Outcome, open_exchange
from serve_app.requests.failures import Failure
from serve_app.requests.health import Health
from serve_app.requests.progress import RequestProgress, Tried
from serve_app.requests.shared_health import SharedHealth
from serve_app.requests.state import heal, preferred_endpoints
from serve_app.requests.verdict import BROKEN_OFF, FINAL, GOOD, Action, Verdict
from serve_app.telemetry.record import AttemptRecord, Observer

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
        self, upstream: Upstream, observer: Observer, clock: Clock, health: Health
    ) -> None:
        self._upstream = upstream
        self._observer = observer
        self._clock = clock
        self._health = health
        self.shared: SharedHealth | None = None
        """None where this replica is the only one."""
        self._turns = EndpointTurns()

    async def run(self, progress: RequestProgress) -> Outcome:
        """The outcome of the last exchange that was made."""
        if self.shared is not None:
            self.shared.touch()
        providers = progress.request.snapshot.providers
        attempts = Attempts(
            _candidates(progress),
            lambda candidate: preferred_endpoints(
                progress.request,
                candidate,
                self._turns.order(providers, candidate, lambda: progress.home.name),
            ),
            rests=lambda candidate, endpoint: self._rests(progress, candidate, endpoint),
        )
        outcome: Outcome = Failure(FINAL)
        reported: _Reported | None = None
        while (tried := attempts.next()) is not None:
            if progress.attempts and self._left_s(progress) - tried.pause_s < _LEAST_LEFT_S:
                break
            if tried.pause_s:
                await asyncio.sleep(tried.pause_s)
            outcome = await self._attempt(progress, tried)
            if isinstance(outcome, Failure) and heal(progress, outcome):
                outcome = await self._attempt(progress, tried)
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
            outcome = await open_exchange(progress, tried, self._upstream, self._left_s(progress))
            verdict = _verdict_on(outcome)
        finally:
            took_s = self._clock() - opened
            progress.upstream_s += took_s
            self._judge(progress, verdict)
        name = "ok" if not isinstance(outcome, Failure) else outcome.outcome
        progress.tried.append(Tried(tried.candidate, name, took_s))
        self._observer.attempted(self._record(progress, outcome, took_s))
        return outcome

    def _left_s(self, progress: RequestProgress) -> float:
        """Seconds until the request's total timeout."""
        request = progress.request
        return request.snapshot.config.timeouts.total_s - (self._clock() - request.arrived)

    def _rests(self, progress: RequestProgress, candidate: ModelRef, ordinal: int) -> bool:
        if not len(self._health):
            return False
        endpoint = progress.request.snapshot.providers.endpoint(candidate, ordinal)
        return endpoint is not None and self._health.rests_now(endpoint.fingerprint, candidate.name)

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
