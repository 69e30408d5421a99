"""Requests of an engine to a model server, over the transport of providers."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from serve_app.config.schema.timeouts import Timeouts
from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import client_dialect, pair
from serve_app.domain import Json, Reason, TokenUsage, Unavailable
from serve_app.engines.servers import Server
from serve_app.exchange import FaultKind, Operation, UpstreamFault, UpstreamRequest
from serve_app.providers.endpoints import ProviderTable
from serve_app.providers.transport import Transport, fixed

SUCCESS: Final = 200

_CONNECT_SHARE: Final = 0.5
"""Share of the deadline for connecting, which tells an unreachable server from a slow one."""

_STATUS_TEXTS: Final[Mapping[int, str]] = {
    401: "rejected the key (status 401); set {key}",
    403: "rejected the key (status 403); set {key}",
    404: "has no such model or path (status 404); check {model}",
    429: "is overloaded (status 429)",
}


@dataclass(frozen=True, slots=True)
class ServerReply:
    """The answer of a server; of an exchange without one, the fault and the status 0."""

    status: int
    body: bytes = b""
    fault: Unavailable | None = None
    """Set unless the answer is a success."""


class ServerClient:
    """Asks one model of one server. Not shared between event loops."""

    def __init__(
        self,
        server: Server,
        operation: Operation,
        environ: Mapping[str, str],
        *,
        deadline_s: float,
        tls_ca: str | None,
        max_answer_bytes: int,
    ) -> None:
        """Answers that are larger than ``max_answer_bytes`` are faults."""
        self.server = server
        self.name = server.model.provider
        """The server in messages."""
        self._dialects = pair(client_dialect(operation), server.endpoint.operations)
        self._operation = self._dialects.upstream.operation
        self._deadline_s = deadline_s
        self._connect_s = _CONNECT_SHARE * deadline_s
        self._quirk = server.endpoint.quirk(server.model.name, self._operation)
        self._was_reached = False
        self._transport = Transport(
            fixed(
                ProviderTable({server.model: (server.endpoint,)}, {}),
                Timeouts(connect_s=self._connect_s, total_s=deadline_s),
            ),
            environ,
            tls_ca,
            max_answer_bytes=max_answer_bytes,
        )

    def __repr__(self) -> str:
        return repr(self._transport)

    async def post(self, body: Mapping[str, Json]) -> ServerReply:
        """Sends a body, to which the model's name is added.

        A server may close a kept connection while the next request goes out on it. That request
        is sent once more, on a new connection.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        model = self.server.model
        document = read_document(json.dumps(body).encode(), unique=frozenset())
        asked = self._dialects.ask(document, Intent(), model.name, self._quirk)
        request = UpstreamRequest(
            provider=self.name,
            model=model,
            operation=self._operation,
            path=self.server.path or self._dialects.upstream.address(model.name, stream=False),
            headers=(),
            body=asked.body,
            stream=False,
            deadline_s=self._deadline_s,
        )
        reply = await self._transport.open(request)
        if (
            isinstance(reply, UpstreamFault)
            and reply.kind is FaultKind.RESET
            and self._was_reached  # else no connection can have been kept
        ):
            reply = await self._transport.open(request._replace(fresh=True))
        if isinstance(reply, UpstreamFault):
            slow = loop.time() - started >= self._connect_s
            late = reply.kind is FaultKind.TIMEOUT or (reply.kind is FaultKind.CONNECT and slow)
            reason = Reason.ORCHESTRATOR_TIMEOUT if late else Reason.ORCHESTRATOR_ERROR
            return ServerReply(0, fault=Unavailable(reason, reply.detail))
        self._was_reached = True
        content = reply.body if isinstance(reply.body, bytes) else b""  # never a stream here
        if reply.status != SUCCESS:
            return ServerReply(reply.status, content, self._status_fault(reply.status))
        try:
            return ServerReply(reply.status, asked.answer(content)[0])
        except ValueError as error:
            return ServerReply(reply.status, content, self.fault(f"gave no usable answer: {error}"))

    def timed_out(self) -> Unavailable:
        """The fault of an answer that did not come in time."""
        detail = f"{self.name} timed out after {self._deadline_s:.3g} s"
        return Unavailable(Reason.ORCHESTRATOR_TIMEOUT, detail)

    def fault(self, text: str, usage: TokenUsage | None = None) -> Unavailable:
        """The fault of an answer that cannot be used."""
        return Unavailable(Reason.ORCHESTRATOR_ERROR, f"{self.name} {text}", usage)

    async def close(self) -> None:
        """Closes every connection."""
        await self._transport.close()

    def _status_fault(self, status: int) -> Unavailable:
        key = self.server.key_at
        own = self.server.model == self.server.priced_as
        text = _STATUS_TEXTS.get(status, f"returned an error (status {status})")
        model = f"{key}.model and base_url" if own else key
        return self.fault(
            text.format(key=f"{key}.access_key" if own else f"access_key of {key}", model=model)
        )


def read_usage(answer: Json) -> TokenUsage | None:
    """The tokens that an answer names; None if it does not.

    The names are those of OpenAI's chat completions and embeddings, or of its decisions.
    """
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict):
        return None
    for read, written in (("prompt", "completion"), ("input", "output")):
        taken = _count(usage, f"{read}_tokens")
        if taken is not None:
            details = usage.get(f"{read}_tokens_details")
            cached = _count(details, "cached_tokens") if isinstance(details, dict) else None
            return TokenUsage(taken, _count(usage, f"{written}_tokens") or 0, cached or 0)
    return None


def _count(usage: Mapping[str, Json], key: str) -> int | None:
    value = usage.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
