"""Every way in which a provider fails, and what a client may expect of it.

The name of a model is the name of its fault, and after an ``@`` whatever makes it distinct. Bodies
are those of the vendors: OpenAI API reference, "Error codes"; Anthropic API reference, "Errors";
vLLM, ``ErrorResponse``; Gemini API, "Troubleshooting".
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from tests.matrix.cases import Case
from tests.matrix.vendor import MODULES
from tests.scripts import OPEN_S, Headers, Line, Script

Play: TypeAlias = Callable[[Line, str], Coroutine[Any, Any, None]]
"""Answers on a connection, in the dialect that is named."""

BROKEN: Final = 200
"""Instead of the status of an error: the head and some content have arrived before it."""

_BEFORE: Final = {"chat": 1, "messages": 3, "responses": 4}
"""Events of a stream that come before its first content."""
_STREAM: Final = {"content-type": "text/event-stream; charset=utf-8"}
_JSON: Final = {"content-type": "application/json"}
_PAUSE_S: Final = 0.03
_EITHER, _WHOLE, _STREAMED = (False, True), (False,), (True,)


@dataclass(frozen=True)
class Fault:
    """A fault, and what comes of it."""

    name: str
    play: Play
    status: int
    """What the client gets where only this model can answer."""
    tries: int = 1
    """How often it is asked then."""
    is_saved: bool = True
    """Another model that can answer does."""
    first_tries: int = 1
    """How often it is asked if there is another model."""
    streams: tuple[bool, ...] = _EITHER
    """Whether requests ask for a stream."""
    within_s: float = 2.0
    """The longest time that the client waits for the end of its answer."""
    is_closed: bool = False
    """No process listens where the provider should be."""


def _events(dialect: str, *, content: bool) -> bytes:
    """The beginning of a stream up to its content, or with some of it."""
    if content:
        return b"".join(MODULES[dialect].events(Case.ERROR_DURING)[:-1])
    return b"".join(MODULES[dialect].events(Case.TEXT)[: _BEFORE[dialect]])


async def _hang(line: Line, dialect: str) -> None:
    await asyncio.sleep(OPEN_S)
    line.abort()


async def _reset(line: Line, dialect: str) -> None:
    line.reset()


async def _close(line: Line, dialect: str) -> None:
    line.abort()


async def _garbage(line: Line, dialect: str) -> None:
    line.raw(b"220 mail.example.org ESMTP\r\n\r\n")
    await asyncio.sleep(_PAUSE_S)
    line.abort()


async def _redirect(line: Line, dialect: str) -> None:
    line.whole(b"", 307, {"location": "/v1/elsewhere"})


async def _page(line: Line, dialect: str, status: int = 200) -> None:
    line.whole(b"<html><body>Welcome</body></html>", status, {"content-type": "text/html"})


async def _body(line: Line, dialect: str, body: bytes) -> None:
    line.whole(body)


async def _error_in_200(line: Line, dialect: str) -> None:
    line.whole(json.dumps(MODULES[dialect].ERROR).encode())


async def _torn_body(line: Line, dialect: str, how: str) -> None:
    """The first half of an answer whose length is known, or that comes in chunks."""
    body = json.dumps(MODULES[dialect].answer(Case.TEXT)).encode()
    half = body[: len(body) // 2]
    line.head(200, _JSON, None if how == "end" else len(body))
    (line.chunk if how == "end" else line.raw)(half)
    await asyncio.sleep(_PAUSE_S)
    await _ENDS[how](line, dialect)


async def _torn_stream(line: Line, dialect: str, how: str, *, content: bool) -> None:
    line.head(200, _STREAM, None)
    line.chunk(_events(dialect, content=content))
    await asyncio.sleep(_PAUSE_S)
    await _ENDS[how](line, dialect)


async def _torn_event(line: Line, dialect: str) -> None:
    """The stream ends in the middle of an event."""
    line.head(200, _STREAM, None)
    line.chunk(_events(dialect, content=True) + b'data: {"half": ')
    await asyncio.sleep(_PAUSE_S)
    line.end()


async def _error_event(line: Line, dialect: str, *, content: bool) -> None:
    module = MODULES[dialect]
    line.head(200, _STREAM, None)
    line.chunk(b"".join(module.events(Case.ERROR_DURING) if content else module.FIRST_ERROR))
    line.end()


async def _empty_stream(line: Line, dialect: str, data: bytes = b": no content\n\n") -> None:
    line.head(200, _STREAM, None)
    line.chunk(data)
    line.end()


async def _whole_for_stream(line: Line, dialect: str) -> None:
    line.whole(json.dumps(MODULES[dialect].answer(Case.TEXT)).encode())


async def _stream_for_whole(line: Line, dialect: str) -> None:
    line.head(200, _STREAM, None)
    line.chunk(b"".join(MODULES[dialect].events(Case.TEXT)))
    line.end()


async def _end(line: Line, dialect: str) -> None:
    line.end()


_ENDS: Final[dict[str, Play]] = {"reset": _reset, "close": _close, "end": _end, "hang": _hang}


async def _refuse(
    line: Line, dialect: str, error: "Error", status: int, headers: dict[str, str] | None = None
) -> None:
    kind, message, code = error
    if dialect == "messages":
        body: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": message}}
    else:
        body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    line.whole(json.dumps(body).encode(), status, headers)


Error: TypeAlias = tuple[str, str, str | None]
"""Type, message and code; Anthropic has no code."""


def _refusal(name: str, status: int, error: Error, **expected: Any) -> Fault:
    headers = expected.pop("headers", None)
    play = partial(_refuse, error=error, status=status, headers=headers)
    return Fault(name, play, expected.pop("seen", status), **expected)


_LATER: Final[dict[str, Any]] = {"tries": 2}
_FINAL: Final[dict[str, Any]] = {"is_saved": False}
_REFUSED: Final[Error] = ("invalid_request_error", "scripted: what is that?", None)
_TOO_MANY: Final[Error] = ("rate_limit_error", "Rate limit reached", "rate_limit_exceeded")
_TOO_LONG: Final = (
    "This model's maximum context length is 8192 tokens. However, your messages have 9000 tokens.",
    "prompt is too long: 215000 tokens > 200000 maximum",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048575).",
)

_REFUSALS: Final = (
    _refusal("400", 400, _REFUSED, **_FINAL),
    _refusal("401", 401, ("authentication_error", "invalid x-api-key", "invalid_api_key")),
    _refusal("402", 402, ("billing_error", "Insufficient Balance", None)),
    _refusal("403", 403, ("permission_error", "no access to this model", None)),
    _refusal("404", 404, ("not_found_error", "model: does not exist", "model_not_found")),
    _refusal("408", 408, ("timeout_error", "Request timed out", None)),
    _refusal("413", 413, ("request_too_large", "Request exceeds the maximum size", None)),
    _refusal("422", 422, ("invalid_request_error", "scripted: cannot be done", None), **_FINAL),
    _refusal("429", 429, _TOO_MANY, **_LATER),
    _refusal("429-wait", 429, _TOO_MANY, headers={"retry-after": "7"}),
    _refusal("429-soon", 429, _TOO_MANY, headers={"retry-after": "1"}, within_s=3.5, **_LATER),
    _refusal("500", 500, ("api_error", "Internal server error", None), **_LATER),
    _refusal("503", 503, ("api_error", "Service unavailable", None), **_LATER),
    _refusal("529", 529, ("overloaded_error", "Overloaded", None), **_LATER),
    *(
        _refusal(f"too-long-{at}", 400, ("invalid_request_error", message, None))
        for at, message in enumerate(_TOO_LONG)
    ),
    _refusal(
        "quota",
        429,
        ("rate_limit_error", "You exceeded your current quota", "insufficient_quota"),
    ),
    _refusal(
        "balance",
        400,
        ("invalid_request_error", "Your credit balance is too low to access the API.", None),
    ),
    _refusal(
        "filter",
        400,
        ("invalid_request_error", "The response was filtered", "content_filter"),
        **_FINAL,
    ),
)
_HUNG: Final[dict[str, Any]] = {"within_s": 4.0}
_AFTER_CONTENT: Final[dict[str, Any]] = {"is_saved": False, "streams": _STREAMED}

FAULTS: Final = (
    *_REFUSALS,
    Fault("refused", _hang, 502, tries=2, is_closed=True),
    Fault("reset-before-head", _reset, 502, tries=2, first_tries=2),
    Fault("close-before-head", _close, 502, tries=2, first_tries=2),
    Fault("hang-before-head", _hang, 504, **_HUNG),
    Fault("garbage", _garbage, 502),
    Fault("redirect", _redirect, 502),
    Fault("page", _page, 502),
    Fault("page-502", partial(_page, status=502), 502, tries=2),
    Fault("error-in-200", _error_in_200, 429, tries=2),
    Fault("empty-body", partial(_body, body=b""), 502),
    Fault("empty-object", partial(_body, body=b"{}"), 502),
    *(
        Fault(f"{how}-in-body", partial(_torn_body, how=how), 502, streams=_WHOLE)
        for how in ("reset", "close", "end")
    ),
    Fault("hang-in-body", partial(_torn_body, how="hang"), 504, streams=_WHOLE, **_HUNG),
    Fault("stream-for-whole", _stream_for_whole, 502, streams=_WHOLE),
    Fault("whole-for-stream", _whole_for_stream, 502, streams=_STREAMED),
    Fault("empty-stream", _empty_stream, 502, streams=_STREAMED),
    Fault("only-done", partial(_empty_stream, data=b"data: [DONE]\n\n"), 502, streams=_STREAMED),
    *(
        Fault(
            f"{how}-before-content",
            partial(_torn_stream, how=how, content=False),
            502,
            streams=_STREAMED,
        )
        for how in ("reset", "close", "end")
    ),
    Fault(
        "hang-before-content",
        partial(_torn_stream, how="hang", content=False),
        504,
        streams=_STREAMED,
        **_HUNG,
    ),
    Fault(
        "error-before-content",
        partial(_error_event, content=False),
        429,
        tries=2,
        streams=_STREAMED,
    ),
    *(
        Fault(
            f"{how}-after-content",
            partial(_torn_stream, how=how, content=True),
            BROKEN,
            within_s=4.0 if how == "hang" else 2.0,
            **_AFTER_CONTENT,
        )
        for how in ("reset", "close", "end", "hang")
    ),
    Fault("torn-event", _torn_event, BROKEN, **_AFTER_CONTENT),
    Fault("error-after-content", partial(_error_event, content=True), BROKEN, **_AFTER_CONTENT),
)
_BY_NAME: Final = {fault.name: fault for fault in FAULTS}


def script(model: str) -> Script:
    """The script of a model; the path says the dialect."""
    fault = _BY_NAME[model.partition("@")[0]]

    async def play(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
        path = exchange.path.partition("?")[0].rpartition("/v1/")[2]
        await fault.play(line, {"chat/completions": "chat"}.get(path, path))

    return play
