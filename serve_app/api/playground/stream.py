"""The live view: decisions as they come, as Server-Sent Events.

Source: WHATWG, HTML, "Server-sent events".
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Self

from serve_app.access.client import Client
from serve_app.api.playground.page import Page, decisions_for
from serve_app.api.playground.views import render_decision
from serve_app.domain import Json
from serve_app.errors import PageBusy
from serve_app.exchange import Chunks
from serve_app.snapshot import Snapshot

MAX_STREAMS: Final = 16
LONGEST_S: Final = 300.0
"""Then the page asks again, so that a client key that was removed no longer shows anything."""

MAX_AT_FIRST: Final = 500
KEEP_ALIVE: Final = b": still here\n\n"

_BATCH_S: Final = 0.1
"""Decisions of this time are one event."""


@dataclass(slots=True)
class LiveStreams:
    """The open streams of one replica, up to a limit."""

    page: Page
    current: Callable[[], Snapshot]
    open: int = 0

    def events(self, client: Client, after: int) -> Chunks:
        """Decisions with a number above ``after``, in batches. Raises PageBusy."""
        if self.open >= MAX_STREAMS:
            raise PageBusy
        return _Events(self._counted(client, after))

    async def _counted(self, client: Client, after: int) -> AsyncGenerator[bytes]:
        self.open += 1
        try:
            async with aclosing(self._events(client, after)) as events:
                async for event in events:
                    yield event
        finally:
            self.open -= 1

    async def _events(self, client: Client, after: int) -> AsyncGenerator[bytes]:
        page, recent = self.page, self.page.recent
        ends_at = asyncio.get_running_loop().time() + LONGEST_S
        while self.current().config.ui.enabled:
            snapshot = self.current()
            last = recent.last
            shown = decisions_for(page, client, snapshot, after)[-MAX_AT_FIRST:]
            yield _event(
                {
                    "replica": page.replica,
                    "policy": snapshot.version,
                    "last": last,
                    "decisions": [render_decision(kept) for kept in shown],
                }
            )
            after = last
            try:
                async with asyncio.timeout_at(ends_at):
                    await recent.wait(after)
                    await asyncio.sleep(_BATCH_S)
            except TimeoutError:
                return


class _Events:
    """A generator as the body of an answer."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        self._events = events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._events)

    async def aclose(self) -> None:
        await self._events.aclose()


def _event(content: Json) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"
