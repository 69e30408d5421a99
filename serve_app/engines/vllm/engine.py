"""The life of vLLM's AsyncLLM in this process: starting, watching, restarting and ending it.

The model runs in a child process of vLLM. Its client runs on a thread with its own event loop, so
neither its start, which takes long, nor its end blocks the replica. If the child dies, another
one is started at once; until it is ready, questions are answered "unavailable" without waiting.
"""

import asyncio
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Final

from serve_app.domain import Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.engines.faults import EngineFaultError
from serve_app.engines.vllm.chat_decider import ChatDecider
from serve_app.engines.vllm.settings import Mode, VllmSettings
from serve_app.engines.vllm.start import Running, start

PROCESS_WATCH_S: Final = 0.2
"""Interval between checks of the engine's process."""

FIRST_RESTART_S: Final = 1.0
LONGEST_RESTART_S: Final = 300.0
"""Pause between starts: each one that fails, or ends early, doubles it."""

LASTING_S: Final = 60.0
"""Lifetime of an engine after which the pause before the next start is short again."""

WARM_UP_S: Final = 120.0
"""Time in which a new engine must make its first decisions."""

CLOSE_S: Final = 15.0
"""Time in which an engine must end by itself."""

_WARM_UP: Final = Question(
    (Turn("user", "Good morning"),),
    (Route("greetings", "greetings and small talk", ()), Route("weather", "the weather", ())),
    "warm-up",
)

_WARM_UP_MODES: Final[Mapping[Mode, tuple[Mode, ...]]] = {
    "auto": ("trie", "choice"),
    "trie": ("trie",),
    "trie_lazy": ("trie_lazy",),
    "choice": ("choice",),
    "json": ("json",),
    "free": ("free",),
}
"""The first decision in each mode takes seconds."""

_log = logging.getLogger("fingerpost")


class VllmEngine:
    """An orchestrator with a model in vLLM. Neither it nor its constructor raises."""

    name: Final = "vllm"

    def __init__(
        self,
        settings: VllmSettings,
        *,
        routes: tuple[Route, ...] = (),
        deadline_s: float = 5.0,
        gpu_share: float = 1.0,
        environ: MutableMapping[str, str] = os.environ,
    ) -> None:
        """Begins to start the engine.

        ``routes`` are prepared beforehand. ``gpu_share`` is Ray's share of the GPU for the
        replica. ``environ`` is the environment of vLLM; some of its settings are put there.
        """
        self._settings = settings
        self._routes = routes
        self._deadline_s = deadline_s
        self._gpu_share = gpu_share
        self._environ = environ
        self._running: Running | None = None
        self._typical_s = 0.0
        self.fault = ""
        """Why the last start failed; empty after one that succeeded."""
        self.starts = 0
        """Number of successful starts."""
        self.start_s = 0.0
        """Duration of the last successful start, in seconds."""
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._under_way = 0
        self._own: set[BaseProcess] = set()
        """The processes of the engine."""
        self._before_start: set[BaseProcess] | None = None
        """Children of this process before a start; None unless the engine is being started."""
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """True if the engine has made its first decisions and is running."""
        return self._running is not None

    async def score(self, question: Question, mode: Mode | None = None) -> Scores | Unavailable:
        """The model's scores, or why there are none; ``mode`` replaces the configured one."""
        running = self._running
        if running is None:
            return self._unavailable()
        if self._under_way * self._typical_s > self._deadline_s:
            each_ms = self._typical_s * 1e3
            detail = f"{self._under_way} questions are in progress, {each_ms:.0f} ms each"
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)
        self._under_way += 1
        try:
            decision = self._decide(running, question, mode)
            future = asyncio.run_coroutine_threadsafe(decision, self._loop)
            return await asyncio.wrap_future(future)
        finally:
            self._under_way -= 1

    def wait(self, timeout_s: float, starts: int = 1) -> bool:
        """Blocks until the engine was started ``starts`` times, or a start failed.

        Returns True if it is ready.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.starts >= starts or self.fault, timeout_s)
        return self.ready and self.starts >= starts

    def close(self) -> None:
        """Ends the engine and its process."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(2 * CLOSE_S)
        if (
            self._before_start is not None
        ):  # a start cannot be cancelled, but its process can be ended
            self._own = set(multiprocessing.active_children()) - self._before_start
        for child in self._own:
            child.kill()
            child.join(CLOSE_S)

    def _unavailable(self) -> Unavailable:
        if self.fault:
            detail = f"the engine has a fault: {self.fault}"
            return Unavailable(Reason.ORCHESTRATOR_ERROR, detail)
        state = "is restarting because its process ended" if self.starts else "is starting"
        return Unavailable(Reason.ORCHESTRATOR_BUSY, f"the engine {state}; retry")

    async def _decide(
        self, running: Running, question: Question, mode: Mode | None
    ) -> Scores | Unavailable:
        started = time.monotonic()
        together = max(self._under_way, 1)
        try:
            if isinstance(running.decider, ChatDecider):
                result = await running.decider.decide(question, mode)
            else:
                result = await running.decider.decide(question)
        except Exception as error:  # noqa: BLE001 - the request continues without it
            if running.engine.errored:
                detail = "the engine's process ended during the decision"
                return Unavailable(Reason.ORCHESTRATOR_ERROR, detail)
            _log.exception("vLLM raised an exception")
            detail = f"vLLM failed with {type(error).__name__}"
            return Unavailable(Reason.ORCHESTRATOR_ERROR, detail)
        took_s = (time.monotonic() - started) / together
        self._typical_s += (took_s - self._typical_s) / 8 if self._typical_s else took_s
        return result

    def _run(self) -> None:
        """Runs the event loop on the thread."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_end())

    async def _until_end(self) -> None:
        """Waits until the engine is closed, also during a start, which cannot be cancelled."""
        living = asyncio.create_task(self._live())
        await self._closing.wait()
        await asyncio.wait([living], timeout=0 if self._running is None else CLOSE_S)
        living.cancel()

    async def _live(self) -> None:
        """Starts engines, one after the other."""
        pause_s = FIRST_RESTART_S
        while not self._closing.is_set():
            lived_s = await self._live_once()
            if lived_s >= LASTING_S:
                pause_s = FIRST_RESTART_S
            await self._until_closed(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RESTART_S)

    async def _live_once(self) -> float:
        """The life of one engine, in seconds; 0 for one that could not be started."""
        began = time.monotonic()
        try:
            running = await self._started()
        except Exception as error:  # noqa: BLE001 - the replica continues in any case
            expected = isinstance(error, EngineFaultError)
            self._note(str(error) if expected else f"{type(error).__name__}: {error}")
            return 0.0
        ready = time.monotonic()
        self.start_s = ready - began
        with self._changed:
            self.fault, self.starts, self._running = "", self.starts + 1, running
            self._changed.notify_all()
        _log.info("vLLM is ready on %s after %.0f s", running.device, self.start_s)
        while not self._closing.is_set() and not running.engine.errored:
            await self._until_closed(PROCESS_WATCH_S)
        self._running = None
        if not self._closing.is_set():
            _log.warning("vLLM's process ended; restarting it")
        running.engine.shutdown()
        return time.monotonic() - ready

    async def _started(self) -> Running:
        """A new engine that has made its first decisions."""
        self._before_start = set(multiprocessing.active_children())
        try:
            running = await self._start_in_thread()
        except Exception:
            self._before_start = None
            raise
        self._own = set(multiprocessing.active_children()) - self._before_start
        self._before_start = None
        try:
            async with asyncio.timeout(WARM_UP_S):
                if isinstance(running.decider, ChatDecider):
                    for mode in _WARM_UP_MODES[self._settings.mode]:
                        await running.decider.decide(_WARM_UP, mode)
                else:
                    await running.decider.prepare(self._routes)
                    await running.decider.decide(_WARM_UP)
        except Exception as error:
            running.engine.shutdown()
            kind = type(error).__name__
            message = f"vLLM started, but its first decision failed ({kind}); see its log"
            raise EngineFaultError(message) from error
        return running

    async def _start_in_thread(self) -> Running:
        """Starts an engine on a daemon thread, for which the end of the process does not wait."""
        future: asyncio.Future[Running] = self._loop.create_future()

        def work() -> None:
            try:
                running = start(self._settings, self._gpu_share, self._environ)
            except Exception as error:  # noqa: BLE001 - raised where it is awaited
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(future.set_exception, error)
                return
            try:
                self._loop.call_soon_threadsafe(future.set_result, running)
            except RuntimeError:
                running.engine.shutdown()

        threading.Thread(target=work, name="vllm-start", daemon=True).start()
        return await future

    async def _until_closed(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    def _note(self, fault: str) -> None:
        if fault != self.fault:
            _log.warning("the engine vllm failed to start: %s", fault)
        with self._changed:
            self.fault = fault
            self._changed.notify_all()
