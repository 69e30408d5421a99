"""vLLM's AsyncLLM in this process: started, watched, started again, and ended.

The model runs in a process of vLLM's own, a child of this one. All that belongs to it lives on a
thread with an event loop of its own, so neither its start, which takes long, nor its end holds up
the replica. A child that dies is noticed at once, and another one is started; until it is ready,
questions are answered "unavailable" without waiting.
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
"""How often the engine is looked at."""

FIRST_RESTART_S: Final = 1.0
LONGEST_RESTART_S: Final = 300.0
"""Between starts: each one that fails, or does not last, doubles the pause."""

LASTING_S: Final = 60.0
"""An engine that has lived so long was a good one."""

WARM_UP_S: Final = 120.0
"""In which a new engine has to decide something."""

CLOSE_S: Final = 15.0
"""In which an engine has to end by itself."""

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
"""The first of each kind takes seconds."""

_log = logging.getLogger("fingerpost")


class VllmEngine:
    """An orchestrator that asks a model in vLLM. Neither it nor its constructor raises."""

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

        ``routes`` are made ready beforehand; ``gpu_share`` is what Ray gives the replica of its
        GPU; ``environ`` is what vLLM reads, and what it takes from nowhere else is put there.
        """
        self._settings = settings
        self._routes = routes
        self._deadline_s = deadline_s
        self._gpu_share = gpu_share
        self._environ = environ
        self._running: Running | None = None
        self._typical_s = 0.0
        self.fault = ""
        """Why the engine could not be started the last time; empty once it was."""
        self.starts = 0
        """How often the engine has become ready."""
        self.start_s = 0.0
        """What that took the last time."""
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._under_way = 0
        self._own: set[BaseProcess] = set()
        """The processes of the engine."""
        self._before_start: set[BaseProcess] | None = None
        """Children of this process that are not the engine's; known while it is being started."""
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """The engine has decided something, and lives."""
        return self._running is not None

    async def score(self, question: Question, mode: Mode | None = None) -> Scores | Unavailable:
        """The model's scores, or why there are none; ``mode`` in place of the settings' one."""
        running = self._running
        if running is None:
            return self._absence()
        if self._under_way * self._typical_s > self._deadline_s:
            each_ms = self._typical_s * 1e3
            detail = f"{self._under_way} questions are under way, {each_ms:.0f} ms each"
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)
        self._under_way += 1
        try:
            asked = self._decide(running, question, mode)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, self._loop))
        finally:
            self._under_way -= 1

    def wait(self, timeout_s: float, starts: int = 1) -> bool:
        """Blocks until the engine was started so often, or can't be; whether it is ready."""
        with self._changed:
            self._changed.wait_for(lambda: self.starts >= starts or self.fault, timeout_s)
        return self.ready and self.starts >= starts

    def close(self) -> None:
        """Ends the engine and its process."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(2 * CLOSE_S)
        if self._before_start is not None:  # a start can't be called off, but its process ended
            self._own = set(multiprocessing.active_children()) - self._before_start
        for child in self._own:
            child.kill()
            child.join(CLOSE_S)

    def _absence(self) -> Unavailable:
        if self.fault:
            detail = f"the engine has a fault: {self.fault}"
            return Unavailable(Reason.ORCHESTRATOR_ERROR, detail)
        what = "is started again, because its process ended" if self.starts else "is starting"
        return Unavailable(Reason.ORCHESTRATOR_BUSY, f"the engine {what}; ask again")

    async def _decide(
        self, running: Running, question: Question, mode: Mode | None
    ) -> Scores | Unavailable:
        started = time.monotonic()
        together = max(self._under_way, 1)
        try:
            if isinstance(running.decider, ChatDecider):
                said = await running.decider.decide(question, mode)
            else:
                said = await running.decider.decide(question)
        except Exception as error:  # noqa: BLE001 - the request goes on without it
            if running.engine.errored:
                detail = "the engine's process ended in the middle of it"
                return Unavailable(Reason.ORCHESTRATOR_ERROR, detail)
            _log.exception("vLLM raised")
            detail = f"vLLM raised {type(error).__name__}"
            return Unavailable(Reason.ORCHESTRATOR_ERROR, detail)
        took_s = (time.monotonic() - started) / together
        self._typical_s += (took_s - self._typical_s) / 8 if self._typical_s else took_s
        return said

    def _run(self) -> None:
        """The thread."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_end())

    async def _until_end(self) -> None:
        """Until it is closed, also in the middle of a start, which can't be called off."""
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
        except Exception as error:  # noqa: BLE001 - whatever it is, the replica lives on
            known = isinstance(error, EngineFaultError)
            self._note(str(error) if known else f"{type(error).__name__}: {error}")
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
            _log.warning("the process of vLLM ended; another one is started")
        running.engine.shutdown()
        return time.monotonic() - ready

    async def _started(self) -> Running:
        """A new engine that has decided something."""
        self._before_start = set(multiprocessing.active_children())
        try:
            running = await self._in_thread()
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
            message = f"vLLM started, but gave no first decision ({kind}); its log says why"
            raise EngineFaultError(message) from error
        return running

    async def _in_thread(self) -> Running:
        """Starts an engine beside the loop, on a thread that no end of the process waits for."""
        future: asyncio.Future[Running] = self._loop.create_future()

        def work() -> None:
            try:
                running = start(self._settings, self._gpu_share, self._environ)
            except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
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
            _log.warning("the orchestrator's engine can't be started: %s", fault)
        with self._changed:
            self.fault = fault
            self._changed.notify_all()
