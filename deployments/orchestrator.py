"""The orchestrator's deployment."""

import logging
import os
import threading
import time
from dataclasses import replace
from typing import Final

from ray import get_runtime_context, is_initialized

from deployments.meter import ServeMeter
from deployments.reload import watch
from serve_app.domain import Question, Reason, Scores, Unavailable
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.faults import EngineFaultError
from serve_app.engines.guard import Guard, breaker
from serve_app.engines.thread import EngineThread
from serve_app.engines.vllm.engine import VllmEngine
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.ports import Orchestrator as Port
from serve_app.scoring.excerpt import recent
from serve_app.snapshot import Snapshot

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

    While an engine with a language model is unavailable, the embedded one answers in its place,
    unless the configuration forbids it.
    """

    def __init__(self, config: str | None) -> None:
        self._closing = threading.Event()
        self._guard: Guard | None = None
        self._thread: EngineThread | None = None
        self._watch = watch(config, ServeMeter(), adopt=self._adopt)
        self._snapshot = self._watch.current
        self._fault = ""
        section = self._snapshot.config.orchestrator
        self._vllm: VllmEngine | None = None
        self._first = self._first_engine()
        if self._first is None or section.fallback == "embedding":
            self._try_engine()
            if self._guard is None:
                threading.Thread(target=self._retry, name="engine-retry", daemon=True).start()
        self._watch.start()

    async def score(self, question: Question) -> Scores | Unavailable:
        """The engine's scores, or why there are none."""
        if self._first is None:
            return await self._embedded(question)
        section = self._snapshot.config.orchestrator
        began = time.monotonic()
        scores = await self._first.score(question)
        if isinstance(scores, Scores) or section.fallback == "none":
            return scores
        left_s = section.deadline_s - (time.monotonic() - began)
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
        """The engine with a language model, or None; its deadline leaves time for the embedded one."""
        section = self._snapshot.config.orchestrator
        deadline_s = _SHARE * section.deadline_s
        inner: Port
        if section.engine == "vllm":
            inner = self._vllm = VllmEngine(
                VllmSettings.from_section(section),
                routes=self._snapshot.policy.routes,
                deadline_s=deadline_s,
                gpu_share=_gpu_share(),
            )
        elif section.engine == "http":
            from serve_app.engines import http  # noqa: PLC0415 - the others do without aiohttp

            tls_ca = self._snapshot.config.overrides.upstream_tls_ca_path
            inner = http.HttpEngine(
                http.HttpEngineSettings.from_section(section, deadline_s, tls_ca), os.environ
            )
        else:
            return None
        return Guard(
            inner,
            deadline_s=deadline_s,
            clock=time.monotonic,
            breaker=breaker(deadline_s, time.monotonic),
        )

    async def policy(self) -> str:
        """The version of the configuration that this replica uses."""
        return self._watch.current.version

    def _adopt(self, snapshot: Snapshot) -> None:
        if self._thread is not None:
            self._thread.prepare(snapshot.policy.routes)

    def _try_engine(self) -> None:
        section = self._snapshot.config.orchestrator
        try:
            engine = EmbeddingEngine(EmbeddingSettings.from_section(section))
            engine.prepare(self._watch.current.policy.routes)
        except EngineFaultError as error:
            self._note(str(error))
        except Exception as error:  # noqa: BLE001 - Serve must not see it
            _log.exception("the embedded engine could not be created")
            self._note(f"{type(error).__name__}: {error}")
        else:
            deadline_s = section.deadline_s
            thread = EngineThread(engine, deadline_s=_SHARE * deadline_s, clock=time.monotonic)
            # the caller keeps the deadline; this one only ends an engine that hangs
            self._guard = Guard(thread, deadline_s=2 * deadline_s, clock=time.monotonic)
            self._thread = thread

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
        vllm: VllmEngine | None = getattr(self, "_vllm", None)  # none where the constructor raised
        if vllm is not None:
            vllm.close()


def _gpu_share() -> float:
    """The share of a GPU that Ray gives this replica; 1 outside of Ray."""
    if not is_initialized() or get_runtime_context().get_actor_id() is None:
        return 1.0
    return float(get_runtime_context().get_assigned_resources().get("GPU", 1.0))
