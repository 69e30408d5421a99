"""The orchestrator's deployment."""

import logging
import math
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ray import get_runtime_context, is_initialized

from deployments.collector import return_freed_memory
from deployments.meter import ServeMeter
from deployments.reload import watch
from serve_app.config.schema.orchestrator import EngineSection, OrchestratorSection
from serve_app.domain import ModelRef, Question, Reason, Scores, Unavailable
from serve_app.engines.calibrated import by_rule
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings, unmeasured
from serve_app.engines.embedding.reranker import RerankerFaultError
from serve_app.engines.faults import EngineFaultError
from serve_app.engines.guard import Guard, breaker
from serve_app.engines.servers import FIRST, SECOND, Servers
from serve_app.engines.thread import EngineThread
from serve_app.engines.tiers import (
    EMBEDDED,
    WHEN_UNSURE,
    InTime,
    Tier,
    TierObserver,
    Tiers,
    time_for_both,
)
from serve_app.engines.vllm.engine import VllmEngine
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.ports import Orchestrator as Port
from serve_app.providers.prices import CurrentPrices
from serve_app.scoring.excerpt import recent
from serve_app.snapshot import Snapshot
from serve_app.telemetry.metrics import Meters, MetricsObserver

if TYPE_CHECKING:
    from serve_app.engines.embeddings import EmbeddingsEngine

FIRST_RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 300.0

_SHARE: Final = 0.8
"""Share of the ingress's deadline: an answer "busy" must arrive before the ingress gives up."""

_log = logging.getLogger("fingerpost")


class Orchestrator:
    """Scores routes for conversations, with an engine in its own process.

    The constructor does not raise if the engine cannot be made, because Serve gives a deployment
    up after three failures: it logs the fault once, answers questions with "unavailable", and a
    thread tries again with growing pauses.

    While an engine with another model is unavailable, the embedded one answers in its place,
    unless the configuration forbids it. Close calls go to the engine of ``when_unsure``, if any.
    """

    def __init__(self, config: str | None) -> None:
        self._closing = threading.Event()
        self._guard: Guard | None = None
        self._thread: EngineThread | None = None
        self._vllm: VllmEngine | None = None
        self._embeddings: EmbeddingsEngine | None = None
        meter = Meters(ServeMeter())
        self._observer = MetricsObserver(meter)
        self._watch = watch(config, meter, adopt=self._adopt)
        self._snapshot = self._watch.current
        self._prices = CurrentPrices(lambda: self._watch.current.config)
        self._fault = ""
        section = self._snapshot.config.orchestrator
        self._first = self._first_engine()
        self._tiers = self._both_tiers()
        if self._first is None or section.fallback == "embedding":
            self._try_engine()
            if self._guard is None:
                threading.Thread(target=self._retry, name="engine-retry", daemon=True).start()
        self._watch.start()

    async def score(self, question: Question) -> Scores | Unavailable:
        """The engine's scores, or why there are none."""
        tiers = self._tiers
        return await (self._configured(question) if tiers is None else tiers.score(question))

    async def _configured(self, question: Question) -> Scores | Unavailable:
        """The scores of the configured engine, or of the one that stands in for it."""
        if self._first is None:
            return await self._embedded(question)
        section = self._snapshot.config.orchestrator
        began = time.monotonic()
        scores = await self._first.score(question)
        if isinstance(scores, Scores):
            return replace(scores, tier=section.engine)
        if section.fallback == "none":
            return scores
        left_s = section.first_deadline_s - (time.monotonic() - began)
        shorter = replace(question, turns=recent(question.turns), within_s=_SHARE * left_s)
        instead = await self._embedded(shorter)
        if isinstance(instead, Scores):
            return replace(instead, stand_in=scores.detail)
        return replace(scores, detail=f"{scores.detail}; {instead.detail}")

    async def decisions(self) -> int:
        """How many questions reached this replica's engine; equal simultaneous ones count once."""
        guard = self._first or self._guard
        return 0 if guard is None else guard.asked

    async def _embedded(self, question: Question) -> Scores | Unavailable:
        if self._guard is None:
            return Unavailable(
                Reason.ORCHESTRATOR_ERROR, f"the embedded engine is unavailable: {self._fault}"
            )
        return await self._guard.score(question)

    def _first_engine(self) -> Guard | None:
        """The engine with another model, or None; its deadline leaves time for the embedded one."""
        section = self._snapshot.config.orchestrator
        if section.engine == "embedding":
            return None
        deadline_s = _SHARE * section.first_deadline_s
        engine, model = self._engine(section, FIRST, deadline_s)
        return Guard(
            by_rule(engine, self._snapshot.threshold.rule),
            deadline_s=deadline_s,
            clock=time.monotonic,
            observer=TierObserver(self._observer, section.engine, model, self._prices),
            breaker=breaker(deadline_s, time.monotonic),
        )

    def _both_tiers(self) -> Tiers | None:
        """The configured engine and that of ``when_unsure``, or None without one."""
        section = self._snapshot.config.orchestrator
        better = section.when_unsure
        if better is None:
            return None
        whole_s = time_for_both(section.deadline_s)
        deadline_s = min(whole_s, (better.deadline_ms or math.inf) / 1e3)
        engine, model = self._engine(better, SECOND, deadline_s)
        observer = TierObserver(self._observer, WHEN_UNSURE, model, self._prices)
        clock = time.monotonic
        guard = Guard(
            InTime(engine, deadline_s=deadline_s, clock=clock, observer=observer),
            deadline_s=2 * deadline_s,  # only ends an engine that hangs
            clock=clock,
            observer=observer,
            breaker=breaker(deadline_s, clock),
            name=SECOND,
        )
        whole = section.reads_conversations
        return Tiers(
            Tier(self._configured, whole=section.generates or not whole),
            Tier(
                guard.score,
                whole=better.generates or not whole,
                has_probabilities=better.has_probabilities,
            ),
            below=better.below,
            deadline_s=whole_s,
            clock=clock,
        )

    def _engine(self, section: EngineSection, key: str, deadline_s: float) -> tuple[Port, ModelRef]:
        """The engine of a section, except the embedded one, and its model for records."""
        snapshot, policy = self._snapshot, self._snapshot.policy
        if section.engine == "vllm":
            self._vllm = VllmEngine(
                VllmSettings.from_section(section),
                routes=policy.routes,
                deadline_s=deadline_s,
                gpu_share=_gpu_share(),
            )
            return self._vllm, ModelRef("vllm", Path(section.model or "").name or "-")
        servers = Servers.of(snapshot.config, snapshot.providers)
        # the other engines do without aiohttp
        if section.engine == "embeddings":
            from serve_app.engines import embeddings  # noqa: PLC0415 - as above

            remote = embeddings.EmbeddingsSettings.from_section(section, deadline_s, servers, key)
            self._embeddings = embeddings.EmbeddingsEngine(remote, os.environ)
            self._embeddings.prepare(policy.routes, policy.no_route_examples)
            return self._embeddings, remote.server.priced_as
        if section.engine == "decision":
            from serve_app.engines import decision  # noqa: PLC0415 - as above

            asked = decision.DecisionSettings.from_section(section, deadline_s, servers, key)
            return decision.DecisionEngine(asked, os.environ), asked.server.priced_as
        from serve_app.engines import http  # noqa: PLC0415 - as above

        settings = http.HttpEngineSettings.from_section(section, deadline_s, servers, key)
        return http.HttpEngine(settings, os.environ), settings.server.priced_as

    async def policy(self) -> str:
        """The version of the configuration that this replica uses."""
        return self._watch.current.version

    def _adopt(self, snapshot: Snapshot) -> None:
        policy = snapshot.policy
        for engine in (self._thread, self._embeddings):
            if engine is not None:
                engine.prepare(policy.routes, policy.no_route_examples)

    def _try_engine(self) -> None:
        section = self._snapshot.config.orchestrator
        try:
            engine = _embedding_engine(section)
            policy = self._watch.current.policy
            engine.prepare(policy.routes, policy.no_route_examples)
        except EngineFaultError as error:
            self._note(str(error))
        except Exception as error:  # noqa: BLE001 - Serve must not see it
            _log.exception("the embedded engine could not be created")
            self._note(f"{type(error).__name__}: {error}")
        else:
            deadline_s = section.first_deadline_s
            thread = EngineThread(engine, deadline_s=_SHARE * deadline_s, clock=time.monotonic)
            ruled = by_rule(thread, self._snapshot.threshold.embedded_rule)
            named = Tier(ruled.score, name=EMBEDDED)
            # the caller keeps the deadline; this one only ends an engine that hangs
            self._guard = Guard(named, deadline_s=2 * deadline_s, clock=time.monotonic)
            self._thread = thread
            return_freed_memory()

    def _note(self, fault: str) -> None:
        if fault != self._fault:
            _log.warning("orchestrator engine unavailable: %s", fault)
        self._fault = fault

    def _retry(self) -> None:
        pause_s = FIRST_RETRY_S
        while self._guard is None and not self._closing.wait(pause_s):
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)
            self._try_engine()

    def __del__(self) -> None:
        """Serve calls this when it stops a replica."""
        self._closing.set()
        for name in ("_vllm", "_embeddings"):
            engine = getattr(self, name, None)  # none where the constructor raised
            if engine is not None:
                engine.close()


def _embedding_engine(section: OrchestratorSection) -> EmbeddingEngine:
    """The embedded engine, without a second look if its reranker is faulty.

    Raises EngineFaultError if the model itself cannot be used.
    """
    settings = EmbeddingSettings.from_section(section)
    try:
        engine = EmbeddingEngine(settings)
    except RerankerFaultError as error:
        _log.warning("second look unavailable until the next start: %s", error)
        engine = EmbeddingEngine(replace(settings, reranker=None))
    if settings.model is not None and section.calibration is None:
        _log.warning("%s", unmeasured(settings.model))
    return engine


def _gpu_share() -> float:
    """The share of a GPU that Ray gives this replica; 1 outside of Ray."""
    if not is_initialized() or get_runtime_context().get_actor_id() is None:
        return 1.0
    return float(get_runtime_context().get_assigned_resources().get("GPU", 1.0))
