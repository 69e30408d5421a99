"""The provider client: one deployment for each named provider, and a shared one."""

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

from deployments.frame import (
    UnreadableFrameError,
    decode_request,
    encode_chunk,
    encode_chunk_fault,
    encode_reply,
)
from serve_app.decision import compile_setup
from serve_app.domain import FaultKind, StreamBrokenError, UpstreamFault
from serve_app.providers.transport import Transport

_UNREADABLE = encode_reply(UpstreamFault(FaultKind.HOP, "the ingress is of another version"))


class ProviderClient:
    """Owns the connections and the keys of providers; frames in, frames out, never an exception.

    Every replica loads the whole provider table, so that any of them can carry any provider.
    """

    def __init__(self, config: str) -> None:
        setup = compile_setup(config)
        self._transport = Transport(setup.providers, os.environ, setup.config.timeouts)

    async def unary(self, frame: bytes) -> bytes:
        """One exchange with a complete answer."""
        try:
            request = decode_request(frame)
        except UnreadableFrameError:
            return _UNREADABLE
        return encode_reply(await self._transport.open(request))

    async def stream(self, frame: bytes) -> AsyncGenerator[bytes]:
        """One exchange with a streamed answer: its head, then its chunks, or a complete one."""
        try:
            request = decode_request(frame)
        except UnreadableFrameError:
            yield _UNREADABLE
            return
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
