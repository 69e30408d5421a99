"""The orchestrator's deployment."""

import logging
import threading
import time
from typing import Final

from deployments.meter import ServeMeter
from deployments.reload import watch
from serve_app.decision import Setup
from serve_app.domain import Question, Reason, Scores, Unavailable
from serve_app.engines.embedding import EmbeddingEngine, EngineFaultError, settings_of
from serve_app.engines.guard import EngineThread, Guard

FIRST_RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 300.0

_SHARE: Final = 0.8
"""Of the deadline that the ingress keeps: "busy" from here arrives before it gives up there."""

_log = logging.getLogger("fingerpost")


class Orchestrator:
    """Scores routes for conversations, with an engine in its own process.

    An engine that can't be made is no reason to die, because Serve gives a deployment up after
    three failures: the fault is logged once, questions are answered "unavailable" with it, and a
    thread tries again with growing pauses.
    """

    def __init__(self, config: str | None) -> None:
        self._closing = threading.Event()
        self._guard: Guard | None = None
        self._thread: EngineThread | None = None
        self._watch = watch(config, ServeMeter(), adopt=self._adopt)
        self._setup = self._watch.current
        self._fault = ""
        self._try_engine()
        if self._guard is None:
            threading.Thread(target=self._retry, name="engine-retry", daemon=True).start()

    async def score(self, question: Question) -> Scores | Unavailable:
        """The engine's scores, or why there are none."""
        if self._guard is None:
            return Unavailable(Reason.ORCHESTRATOR_ERROR, f"the engine has a fault: {self._fault}")
        return await self._guard.score(question)

    async def decisions(self) -> int:
        """How many questions this replica's engine was asked; equal ones at once are one."""
        return 0 if self._guard is None else self._guard.asked

    async def policy(self) -> str:
        """The version of the configuration in force in this replica."""
        return self._watch.current.version

    def _adopt(self, setup: Setup) -> None:
        if self._thread is not None:
            self._thread.prepare(setup.policy.routes)

    def _try_engine(self) -> None:
        try:
            engine = EmbeddingEngine(settings_of(self._setup.config.orchestrator))
            engine.prepare(self._watch.current.policy.routes)
        except EngineFaultError as error:
            self._note(str(error))
        except Exception as error:  # noqa: BLE001 - Serve must never see it
            _log.exception("the engine can't be made")
            self._note(f"{type(error).__name__}: {error}")
        else:
            deadline_s = self._setup.config.orchestrator.deadline_ms / 1e3
            thread = EngineThread(engine, deadline_s=_SHARE * deadline_s, clock=time.monotonic)
            # who asks has the deadline; here it is only for an engine that hangs
            self._guard = Guard(thread, deadline_s=2 * deadline_s, clock=time.monotonic)
            self._thread = thread

    def _note(self, fault: str) -> None:
        if fault != self._fault:
            _log.warning("the orchestrator has no engine: %s", fault)
        self._fault = fault

    def _retry(self) -> None:
        pause_s = FIRST_RETRY_S
        while self._guard is None and not self._closing.wait(pause_s):
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)
            self._try_engine()

    def __del__(self) -> None:
        """Serve calls this when it stops a replica."""
        self._closing.set()
