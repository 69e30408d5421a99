"""Decisions that no client asked for: what edited routes would do.

A trial binds no session, reads none, and is recorded nowhere. Its questions are asked while the
orchestrator is idle, and its scores are not cached.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from serve_app.affinity.sessions import Sessions
from serve_app.domain import (
    Binding,
    Headers,
    Json,
    ModelRef,
    Question,
    Reason,
    Route,
    RouteDecision,
    Scores,
    Unavailable,
)
from serve_app.ports import Clock, Orchestrator
from serve_app.providers.capabilities import Capabilities
from serve_app.providers.prices import CatalogPrice, CatalogPrices, CurrentPrices
from serve_app.requests.answer import decision_headers
from serve_app.requests.call import ClientRequest
from serve_app.requests.decide import Decided, decide
from serve_app.requests.explain import render_explanation
from serve_app.requests.intent import read_intent
from serve_app.requests.own_decisions import (
    FIRST_PAUSE_S,
    LEAST_TURN_S,
    LONGEST_PAUSE_S,
    own_decision,
)
from serve_app.requests.selection import CurrentCapabilities, Selection
from serve_app.routing import router
from serve_app.scoring.calibration import DecisionRule
from serve_app.snapshot import Snapshot
from serve_app.telemetry.recent import RecentDecision
from serve_app.telemetry.record import NoObserver

PATIENCE_S: Final = 3.0
"""How long one trial waits for an orchestrator that is busy."""

_TURNS_IN_DEADLINE: Final = 4
"""Turns of the embedded engine, each for one trial, in the time that a request waits for it."""

_VERSION_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class RouteEdit:
    """Routes and thresholds in place of the configured ones."""

    routes: tuple[Route, ...]
    no_route_examples: tuple[str, ...] = ()
    min_confidence: float | None = None
    """None: as configured."""
    min_margin: float | None = None
    """None: as configured."""

    def applied_to(self, snapshot: Snapshot) -> Snapshot:
        """The configuration with these; the same one if nothing differs."""
        policy, section = snapshot.policy, snapshot.config.orchestrator
        if (self.routes, self.no_route_examples) != (policy.routes, policy.no_route_examples):
            text = repr((self.routes, self.no_route_examples)).encode("utf-8", "replace")
            version = f"edited-{sha256(text).hexdigest()[:_VERSION_DIGITS]}"
            policy = replace(
                policy,
                version=version,
                routes=self.routes,
                no_route_examples=self.no_route_examples,
            )
        limits = {"min_confidence": self.min_confidence, "min_margin": self.min_margin}
        update = {name: limit for name, limit in limits.items() if limit is not None}
        changed = section.model_copy(update=update)
        if policy is snapshot.policy and changed == section:
            return snapshot
        config = snapshot.config.model_copy(update={"orchestrator": changed})
        return replace(snapshot, config=config, policy=policy)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A decision about a request that was not sent, and why."""

    explanation: Json
    """As ``POST /v1/route`` answers."""
    headers: Headers
    """Those of the decision that an answer would have."""
    prices: tuple[CatalogPrice | None, ...]
    """Of each candidate; None if unknown."""


class Trials:
    """Decides with edited routes; one question at a time, and only while the engine is idle."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        selection: Selection,
        prices: CurrentPrices,
        clock: Clock,
    ) -> None:
        self._orchestrator = orchestrator
        self._selection = selection
        self._prices = prices
        self._clock = clock
        self._sessions = Sessions(_NoBindings(), NoObserver(), prices)

    @property
    def prices(self) -> CatalogPrices:
        """The prices of models at the moment."""
        return self._prices()

    async def explain(
        self, request: ClientRequest, edited: Snapshot, *, by_content: bool = False
    ) -> TrialResult:
        """What would be done with a request. Raises GatewayError as the gateway.

        ``edited`` is the request's own configuration, or that with an edit; ``by_content``: names
        in the request decide nothing.
        """
        intent = None if by_content else read_intent(request)
        own = None if by_content else own_decision(request)
        if own is not None:
            decided = Decided(own)
        else:
            decided = await decide(
                request,
                intent,
                self.orchestrator_of(edited, PATIENCE_S),
                self._sessions,
                edited,
                self._selection_of(request.snapshot),
            )
        took_s = self._clock() - request.arrived
        decision = decided.decision
        first = decision.candidates[0]
        return TrialResult(
            render_explanation(edited, decided, took_s),
            decision_headers(decision, first, decision.reason, edited.version),
            tuple(self._prices().price(model) for model in decision.candidates),
        )

    async def decide_again(
        self, kept: RecentDecision, edited: Snapshot, patience_s: float
    ) -> RouteDecision | Unavailable | None:
        """The decision by content about a kept conversation.

        Returns None for one that the edited routes do not decide: its text was not kept, or it
        brought routes of its own.
        """
        if not kept.turns or kept.is_inline:
            return None
        policy, asked = edited.policy, kept.record.asked or None
        by_content = router.decide(policy, router.ModelChoice(asked))
        if isinstance(by_content, RouteDecision):
            return by_content if by_content.reason is Reason.DEFAULT else None
        if not by_content.routes:
            return router.without_routes(policy, by_content)
        question = Question(
            kept.turns, policy.routes, policy.version, no_route_examples=policy.no_route_examples
        )
        scores = await self.orchestrator_of(edited, patience_s).score(question)
        if isinstance(scores, Unavailable):
            return scores
        return router.by_scores(policy, by_content, scores)

    def orchestrator_of(self, edited: Snapshot, patience_s: float) -> Orchestrator:
        """The orchestrator for trials of a configuration, with its thresholds."""
        section = edited.config.orchestrator
        turn_s = None
        if section.engine == "embedding":
            turn_s = max(LEAST_TURN_S, section.deadline_s / _TURNS_IN_DEADLINE)
        limits = (section.min_confidence, section.min_margin)
        rule = None if limits == _limits_in_force(edited) else DecisionRule(*limits)
        return _IdleOrchestrator(self._orchestrator, self._clock, rule, turn_s, patience_s)

    def _selection_of(self, snapshot: Snapshot) -> Selection:
        known = _KnownCapabilities(self._selection.capabilities, snapshot)
        return replace(self._selection.without_exploring(), capabilities=known)


@dataclass(frozen=True, slots=True)
class _IdleOrchestrator:
    """Asks when the engine is idle: again and again, until ``patience_s`` is over."""

    inner: Orchestrator
    clock: Clock
    rule: DecisionRule | None
    """Edited thresholds; None: as the engine decides."""
    turn_s: float | None
    patience_s: float

    async def score(self, question: Question) -> Scores | Unavailable:
        """The scores, by the edited thresholds if there are any."""
        asked = replace(question, key=f"trial:{question.key}", within_s=self.turn_s, is_trial=True)
        ends_at = self.clock() + self.patience_s
        for pause_s in _pauses():
            scores = await self.inner.score(asked)
            if isinstance(scores, Scores):
                return scores if self.rule is None else self.rule.apply(scores)
            is_busy = scores.reason is Reason.ORCHESTRATOR_BUSY
            if not is_busy or self.clock() + pause_s > ends_at:
                return scores
            await asyncio.sleep(pause_s)
        raise AssertionError  # there is always another pause


def _pauses() -> Iterator[float]:
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _limits_in_force(snapshot: Snapshot) -> tuple[float, float]:
    return snapshot.threshold.min_confidence, snapshot.threshold.min_margin


class _KnownCapabilities(CurrentCapabilities):
    """Those of the configuration in use, whatever edited one is asked about.

    An edit does not change models, and compiling their capabilities takes tenths of a second.
    """

    def __init__(self, known: CurrentCapabilities, snapshot: Snapshot) -> None:
        super().__init__()
        self._known = known
        self._snapshot = snapshot

    async def of(self, snapshot: Snapshot) -> Capabilities:
        """Those of the configuration in use."""
        del snapshot
        return await self._known.of(self._snapshot)


class _NoBindings:
    """A store of sessions that has none and keeps none."""

    async def get(self, key: str) -> Binding | None:
        del key
        return None

    async def find(self, key: str) -> tuple[Binding | None, bool]:
        del key
        return None, False

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        del key, binding, instead_of
        return False

    def hold(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        del key, binding, instead_of
        return False
