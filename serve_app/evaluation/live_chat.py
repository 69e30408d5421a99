"""Asks a chat model of a configuration, over its provider's own address, key and headers."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from serve_app.config.references import is_file, references
from serve_app.config.schema.timeouts import Timeouts
from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import read_document, read_object
from serve_app.dialects.protocol import Asked
from serve_app.dialects.registry import DEFAULT_DIALECT, pair
from serve_app.domain import Json, ModelRef
from serve_app.exchange import FaultKind, UpstreamFault, UpstreamReply, UpstreamRequest
from serve_app.providers.endpoints import Endpoint, ProviderTable
from serve_app.providers.transport import Transport, fixed

MAX_CHAT_BYTES: Final = 4 << 20

_OPTIONS: Final[Mapping[str, Json]] = {
    "max_tokens": 8192,
    "response_format": {"type": "json_object"},
}
"""Left out if the server refuses them: an answer is readable and ends without them, too."""

_REFUSALS: Final = frozenset({400, 415, 422, 500, 501})
"""Statuses of servers that refuse a body with fields that they lack, or fail on it."""

_SUCCESS: Final = 200
_MAX_MESSAGE: Final = 200

_FIXES: Final[Mapping[int, str]] = {
    401: "the key is rejected; check {key}",
    402: "the account has to be paid; check that of {key}",
    403: "the key is rejected; check {key}, and whether it may use this model",
    404: "the server lacks this model or path; check the model's name and base_url",
}
"""What a status means and what to do, for statuses that every further request would get, too."""

_OTHER_FIX: Final = "try again later, or name another model with --model"

_FINAL_KINDS: Final = frozenset({FaultKind.CONNECT, FaultKind.NO_KEY, FaultKind.UNSUPPORTED})


@dataclass(frozen=True, slots=True)
class ChatFault:
    """Why a chat model did not answer; contains no key."""

    detail: str
    is_final: bool
    """True if further requests would fail in the same way."""


Ask: TypeAlias = Callable[[str], str | ChatFault]
"""Sends a prompt and returns the text of the answer."""


@contextmanager
def open_chat(
    model: ModelRef,
    providers: ProviderTable,
    timeouts: Timeouts,
    environ: Mapping[str, str],
    tls_ca: str | None,
) -> Iterator[Ask]:
    """Yields a function that asks a model with one message, and closes the connections after it.

    The model is one of ``providers``. ``tls_ca`` is ``overrides.upstream_tls_ca_path``.
    """
    endpoint = providers.endpoints_of(model)[0]
    transport = Transport(
        fixed(providers, timeouts), environ, tls_ca, max_answer_bytes=MAX_CHAT_BYTES
    )
    chat = _Chat(model, endpoint, transport, timeouts.total_s)
    with asyncio.Runner() as runner:
        try:
            yield lambda prompt: runner.run(chat.ask(prompt))
        finally:
            runner.run(transport.close())


class _Chat:
    def __init__(
        self, model: ModelRef, endpoint: Endpoint, transport: Transport, total_s: float
    ) -> None:
        self._model = model
        self._endpoint = endpoint
        self._transport = transport
        self._total_s = total_s
        self._options = _OPTIONS

    async def ask(self, prompt: str) -> str | ChatFault:
        """The text of the answer, or why there is none."""
        message = {"role": "user", "content": prompt}
        body = {"model": self._model.name, "messages": [message], "stream": False}
        reply = await self._open({**body, **self._options})
        if self._options and isinstance(reply, UpstreamReply) and reply.status in _REFUSALS:
            reply = await self._open(body)
            if isinstance(reply, UpstreamReply) and reply.status == _SUCCESS:
                self._options = {}
        if isinstance(reply, UpstreamFault):
            return self._fault_of(reply)
        content = reply.body if isinstance(reply.body, bytes) else b""  # never a stream here
        if reply.status != _SUCCESS:
            return self._refusal(reply.status, content)
        return self._text(content)

    async def _open(self, body: Mapping[str, Json]) -> UpstreamReply | UpstreamFault:
        """One exchange; it is made again on a new connection if a kept one was closed."""
        dialects = pair(DEFAULT_DIALECT, self._endpoint.operations)
        operation = dialects.upstream.operation
        quirk = self._endpoint.quirk(self._model.name, operation)
        document = read_document(json.dumps(body).encode(), unique=frozenset())
        asked = dialects.ask(document, Intent(), self._model.name, quirk)
        request = UpstreamRequest(
            provider=self._endpoint.slug,
            model=self._model,
            operation=operation,
            path=dialects.upstream.address(self._model.name, stream=False),
            headers=(),
            body=asked.body,
            stream=False,
            deadline_s=self._total_s,
        )
        reply = await self._transport.open(request)
        if isinstance(reply, UpstreamFault) and reply.kind is FaultKind.RESET:
            reply = await self._transport.open(request._replace(fresh=True))
        if isinstance(reply, UpstreamReply) and reply.status == _SUCCESS:
            return replace(reply, body=_answer(asked, reply))
        return reply

    def _fault_of(self, fault: UpstreamFault) -> ChatFault:
        detail = fault.detail
        if fault.kind is FaultKind.TIMEOUT:
            detail += "; name a faster model with --model, or raise timeouts.total_s"
        elif fault.kind is FaultKind.CONNECT and ";" not in detail:  # else it has a fix of its own
            detail += "; check base_url, and whether the server runs"
        return ChatFault(f"{self._model}: {detail}", fault.kind in _FINAL_KINDS)

    def _refusal(self, status: int, body: bytes) -> ChatFault:
        """The fault of a status, with the provider's own message, which contains no key."""
        error = pair(DEFAULT_DIALECT, self._endpoint.operations).upstream.read_error(body)
        message = "" if error is None else " ".join(error.message.split())[:_MAX_MESSAGE]
        shown = f" ({message})" if message else ""
        fix = _FIXES.get(status, _OTHER_FIX).format(key=_key_name(self._endpoint.access_key))
        detail = f"{self._model} returned status {status}{shown}: {fix}"
        return ChatFault(detail, is_final=status in _FIXES)

    def _text(self, content: bytes) -> str | ChatFault:
        """The text of a chat completion."""
        try:
            choice = (read_object(content) or {})["choices"][0]
            text = _joined(choice["message"]["content"])
        except (LookupError, TypeError):
            return ChatFault(
                f"{self._model} returned an answer that is not a chat completion; check base_url",
                is_final=True,
            )
        if text.strip():
            return text
        why = "returned an answer without text"
        if choice.get("finish_reason") == "length":
            why = "ran out of tokens before answering"
        return ChatFault(f"{self._model} {why}; name another model with --model", is_final=False)


def _answer(asked: Asked, reply: UpstreamReply) -> bytes:
    """The answer as a chat completion; as it is, if it can't be read as an answer."""
    body = reply.body if isinstance(reply.body, bytes) else b""  # never a stream here
    try:
        return asked.answer(body)[0]
    except ValueError:
        return body


def _key_name(access_key: str | None) -> str:
    """How a key is configured; never the key itself."""
    key = access_key or ""
    names = " and ".join(f"${name}" for name in references(key))
    return names or (key if is_file(key) else "access_key of its entry")


def _joined(content: Json) -> str:
    """The text of a message, also where it consists of parts; empty where there is none."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""
