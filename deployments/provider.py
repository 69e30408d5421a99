"""The provider client: one deployment for each named provider, and a shared one."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from deployments.collector import calm_collector
from deployments.exchanges import transport
from deployments.frame import (
    UnreadableFrameError,
    decode_request,
    encode_chunk,
    encode_chunk_fault,
    encode_reply,
)
from deployments.meter import ServeMeter
from deployments.reload import watch
from serve_app.exchange import FaultKind, StreamBrokenError, UpstreamFault, UpstreamRequest
from serve_app.telemetry.metrics import Meters

_MIN_LOOK_INTERVAL_S = 0.5
_UNREADABLE = encode_reply(UpstreamFault(FaultKind.HOP, "the ingress runs another version"))


class ProviderClient:
    """Owns the connections and the keys of providers; frames in, frames out, never an exception.

    Every replica loads the whole provider table, so that any of them can carry any provider.
    """

    def __init__(self, config: str | None) -> None:
        self._watch = watch(config, Meters(ServeMeter()))
        self._last_look = -_MIN_LOOK_INTERVAL_S
        self._transport = transport(self._watch)
        self._watch.start()
        calm_collector()

    async def unary(self, frame: bytes) -> bytes:
        """One exchange with a complete answer."""
        try:
            request = decode_request(frame)
        except UnreadableFrameError:
            return _UNREADABLE
        await self._catch_up(request)
        return encode_reply(await self._transport.open(request))

    async def stream(self, frame: bytes) -> AsyncGenerator[bytes]:
        """One exchange with a streamed answer: its head, then its chunks, or a complete one."""
        try:
            request = decode_request(frame)
        except UnreadableFrameError:
            yield _UNREADABLE
            return
        await self._catch_up(request)
        reply = await self._transport.open(request)
        if isinstance(reply, UpstreamFault) or isinstance(reply.body, bytes):
            yield encode_reply(reply)
            return
        async with aclosing(reply.body) as body:
            yield encode_reply(reply)
            try:
                async for chunk in body:
                    yield encode_chunk(chunk)
            except StreamBrokenError as error:
                yield encode_chunk_fault(error.fault)

    async def policy(self) -> str:
        """The version of the configuration that this replica uses."""
        return self._watch.current.version

    async def _catch_up(self, request: UpstreamRequest) -> None:
        """Reads the file now if the ingress has read a newer one than this replica."""
        if self._watch.of(request.policy) is not None:
            return
        now = time.monotonic()
        if now - self._last_look >= _MIN_LOOK_INTERVAL_S:
            self._last_look = now
            await asyncio.to_thread(self._watch.look)
