"""Probes endpoints that rest, in the background, so that no request has to find out for itself.

Only what rests as a whole is probed: an endpoint that could not be reached, or whose key was
refused. The probe asks for the list of models, which costs nothing. A good one ends the rest: the
next request tries the endpoint while others still avoid it, as after any rest. A failed one extends
the rest, at least until the next probe. Of several replicas one probes an endpoint at a time.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from serve_app.domain import DataPath, ModelRef
from serve_app.exchange import (
    FaultKind,
    Operation,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.ports import Clock, Upstream
from serve_app.providers.endpoints import Endpoint, ProviderTable
from serve_app.requests.health import LONGEST_REST_S, Health
from serve_app.requests.shared_health import SharedHealth
from serve_app.requests.verdict import Meaning
from serve_app.snapshot import Snapshot

PATH: Final = "/models"
_TICK_S: Final = 1.0
"""The longest time until an endpoint that begins to rest is probed for the first time, seconds."""
_AT_ONCE: Final = 16
_UNREACHED: Final = frozenset({Meaning.UNREACHABLE, Meaning.RESET})
_PROBED: Final = _UNREACHED | {Meaning.BAD_KEY}
_NO_ANSWER: Final = frozenset({FaultKind.CONNECT, FaultKind.RESET, FaultKind.TIMEOUT})
_SUCCESS: Final = range(200, 300)
_SERVER_ERRORS: Final = range(500, 600)
_UNAUTHORIZED: Final = 401


class _Place(NamedTuple):
    """Where an endpoint is in a configuration, and why it rests."""

    model: ModelRef
    ordinal: int
    endpoint: Endpoint
    why: Meaning


class Probes:
    """Runs while something rests that can be probed; ``touch`` starts it."""

    def __init__(
        self, upstream: Upstream, health: Health, clock: Clock, current: Callable[[], Snapshot]
    ) -> None:
        """``current`` returns the configuration of the moment."""
        self._upstream = upstream
        self._health = health
        self._clock = clock
        self._current = current
        self._next: dict[str, float] = {}
        """When an endpoint may be probed again, by its fingerprint."""
        self._running: asyncio.Task[None] | None = None
        self.shared: SharedHealth | None = None
        """None where this replica is the only one."""

    def touch(self) -> None:
        """Something may have begun to rest: begins to probe, if that is configured."""
        if not len(self._health) or self._current().config.probes.every_s is None:
            return
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Stops; a probe under way is given up."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _run(self) -> None:
        """Probes what is due until nothing rests any more, or probes are switched off."""
        while True:
            snapshot = self._current()
            every_s = snapshot.config.probes.every_s
            resting = self._resting(snapshot.providers)
            if every_s is None or not resting:
                return
            now = self._clock()
            self._next = {name: at for name, at in self._next.items() if at > now}
            due = [name for name in resting if name not in self._next][:_AT_ONCE]
            for name in due:
                self._next[name] = now + every_s
            async with asyncio.TaskGroup() as group:
                for name in due:
                    group.create_task(self._probe(snapshot, resting[name], every_s))
            if self.shared is not None:
                self.shared.touch()
            await asyncio.sleep(min(_TICK_S, every_s))

    def _resting(self, providers: ProviderTable) -> dict[str, _Place]:
        """The endpoints whose rest a probe can end, by fingerprint."""
        reasons = {
            report.endpoint: Meaning(report.why)
            for report in self._health.rests()
            if not report.model and report.why in _PROBED
        }
        models = {
            **{ModelRef(prefix, "*"): each for prefix, each in providers.of_wildcards.items()},
            **providers.of_models,
        }
        return {
            endpoint.fingerprint: _Place(model, ordinal, endpoint, reasons[endpoint.fingerprint])
            for model, endpoints in models.items()
            for ordinal, endpoint in enumerate(endpoints)
            if endpoint.fingerprint in reasons and not endpoint.passthrough_auth
        }

    async def _probe(self, snapshot: Snapshot, place: _Place, every_s: float) -> None:
        model, ordinal, endpoint, why = place
        name, timeout_s = endpoint.fingerprint, snapshot.config.probes.timeout_s
        claim_s = max(every_s, timeout_s)  # not while this one may still run
        if self.shared is not None and not await self.shared.claim(name, claim_s):
            return
        reply = await self._upstream.open(
            UpstreamRequest(
                provider=endpoint.slug,
                model=model,
                operation=min(endpoint.operations, key=list(Operation).index),
                path=PATH,
                headers=(),
                body=b"",
                stream=False,
                deadline_s=timeout_s,
                attempt_s=timeout_s,
                policy=snapshot.version,
                endpoint=ordinal,
                fresh=True,
                inline=endpoint.data_path is DataPath.INLINE,
                method="GET",
            )
        )
        is_over = judge_probe(why, reply)
        if is_over is None:
            return
        if is_over and why is Meaning.BAD_KEY:
            # Some lists of models are public. If this one is, the next request finds out, and its
            # key is then left to requests for as long as it would have rested without probes.
            self._next[name] = self._clock() + LONGEST_REST_S
        self._health.probed(name, why, is_over=is_over, next_in_s=every_s + timeout_s + _TICK_S)


def judge_probe(why: Meaning, reply: UpstreamReply | UpstreamFault) -> bool | None:
    """True if an endpoint need not rest any longer; None if the probe does not say."""
    if isinstance(reply, UpstreamFault):
        return False if reply.kind in _NO_ANSWER and why in _UNREACHED else None
    if why in _UNREACHED:  # a proxy in front answers 5xx for a server that is gone
        return reply.status not in _SERVER_ERRORS
    if reply.status in _SUCCESS:
        return True
    return False if reply.status == _UNAUTHORIZED else None
