"""What the chaos benchmark switches while requests run: a provider's behaviour, Redis's delay."""

import asyncio
import threading
from collections import Counter
from contextlib import suppress
from typing import Any, Final, Self

from tests.scripts import Headers, Line, Script, die_in_answer, die_midstream, hang, script_of

_CHUNK: Final = 65536


async def _unavailable(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    del exchange, request
    line.whole(b'{"error": {"message": "scripted", "type": "server_error"}}', 503)


async def _cut(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """Resets the connection in the middle of an answer."""
    await (die_midstream if request.get("stream") else die_in_answer)(line, exchange, request)


BEHAVIOURS: Final[dict[str, Script]] = {"503": _unavailable, "hang": hang, "cut": _cut}


class SwitchedScripts:
    """The scripts of a provider that does what it is switched to; for ``ScriptedProvider``."""

    def __init__(self) -> None:
        self.behaviour: str | None = None
        """A key of ``BEHAVIOURS``; None: as the model's name says."""
        self.asked: Counter[str | None] = Counter()
        """Requests by the behaviour that they got."""

    def script(self, model: str) -> Script:
        """Returns the script for a model."""
        self.asked[self.behaviour] += 1
        return script_of(model) if self.behaviour is None else BEHAVIOURS[self.behaviour]


class SlowRelay:
    """A port that leads to another one, with a delay that can be changed: ``with SlowRelay(6379)``.

    Runs in a thread.
    """

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        """Seconds that each piece of data waits, in both directions."""
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port: int = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        both = [
            asyncio.create_task(self._copy(reader, back)),
            asyncio.create_task(self._copy(there, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            writer.close()
            back.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
