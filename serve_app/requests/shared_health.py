"""Shares what an ingress replica finds out about endpoints with the others.

Each replica puts up its rests and takes over the others' at most once a second, while it has
requests. So a replica that sends an endpoint its first request a second after another one has
found it out does not pay for it again. Nothing waits for this, and nothing fails by it.
"""

import asyncio
from typing import Final

from serve_app.breaker import OutageLog
from serve_app.ports import Clock, RestBoard
from serve_app.requests.health import Health

SHARE_S: Final = 1.0
"""Seconds between two looks at the board."""
_DEADLINE_S: Final = 0.5


class SharedHealth:
    """Keeps the health of one replica in step with the board."""

    def __init__(self, health: Health, board: RestBoard, clock: Clock) -> None:
        self._health = health
        self._board = board
        self._clock = clock
        self._next = clock()
        self._sharing: asyncio.Task[None] | None = None
        self._outages = OutageLog(
            "board of resting endpoints", clock, effect="each ingress replica goes by its own"
        )

    def touch(self) -> None:
        """A request has come, or a failure: shares, if it is time."""
        now = self._clock()
        if now < self._next or (self._sharing is not None and not self._sharing.done()):
            return
        self._next = now + SHARE_S
        self._sharing = asyncio.get_running_loop().create_task(self._share())

    async def claim(self, endpoint: str, for_s: float) -> bool:
        """False if another replica has claimed the endpoint; True also if the board is not there."""
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await self._board.claim(endpoint, for_s)
        except Exception as error:  # noqa: BLE001 - as below
            self._outages.failed(type(error).__name__)
            return True

    async def _share(self) -> None:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                reports = await self._board.share(self._health.news())
        except Exception as error:  # noqa: BLE001 - its text may contain an address
            self._outages.failed(type(error).__name__)
            return
        self._outages.succeeded()
        self._health.adopt(reports)
