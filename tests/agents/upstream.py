"""The scripted model as a server on loopback, in three dialects by path."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple, Protocol, Self

from tests.agents import chat_model, messages_model, responses_model
from tests.agents.script import Asked, Said, decide


class Reader(Protocol):
    def __call__(self, body: dict[str, Any], *, is_strict: bool) -> Asked: ...


class Speech(NamedTuple):
    """How one dialect is read and written."""

    read: Reader
    answer: Callable[[Said, str], dict[str, Any]]
    events: Callable[[Said, str], Iterator[bytes]]


Script = Callable[[Asked, int], Said]
"""What the model says to a request with this number."""

SPEECHES: Final = {
    "/v1/chat/completions": Speech(chat_model.read, chat_model.answer, chat_model.events),
    "/v1/messages": Speech(messages_model.read, messages_model.answer, messages_model.events),
    "/v1/responses": Speech(responses_model.read, responses_model.answer, responses_model.events),
}
COUNT_TOKENS: Final = "/v1/messages/count_tokens"

REFUSAL: Final = "the scripted model refuses this request"
FAULTS: Final = ("overloaded", "cut", "refused")
"""What may befall requests with tools: the first gets an error that passes, or half a stream; each
gets an error that stays."""


@dataclass
class Received:
    """One request that came to the upstream."""

    path: str
    headers: dict[str, str]
    body: bytes
    number: int
    """Its answer has it in ``x-request-id``, and in the ids of its parts."""
    violations: list[str] = field(default_factory=list)
    step: str = ""
    """What was answered: ``text``, or the number of calls."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"
    number = 0

    def log_message(self, *_: Any) -> None:
        """Keeps standard error for the agents."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.partition("?")[0]
        received = Received(path, headers, body, next(self.server.numbers))
        self.number = received.number
        self.server.received.append(received)
        if path == COUNT_TOKENS:
            received.step = "count"
            self._whole(messages_model.count(json.loads(body)))
        elif path in SPEECHES:
            self._speak(SPEECHES[path], received)
        else:
            received.violations.append(f"the unknown path {self.path}")
            self._whole({"error": {"message": "unknown path", "type": "not_found"}}, 404)

    def _speak(self, speech: Speech, received: Received) -> None:
        asked = speech.read(json.loads(received.body), is_strict=self.server.is_strict)
        said = self.server.script(asked, received.number)
        received.violations += asked.violations
        received.step = f"{len(said.calls)} calls" if said.calls else "text"
        fault = self.server.next_fault() if asked.tools else ""
        if fault in {"overloaded", "refused"}:
            received.step = fault
            self._whole(_error(received.path, fault), 400 if fault == "refused" else 503)
            return
        if not asked.is_stream:
            self._whole(speech.answer(said, asked.model))
            return
        self.send_response(200)
        self.send_header("x-request-id", str(received.number))
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        events = list(speech.events(said, asked.model))
        if fault == "cut":
            received.step = fault
            self.close_connection = True
            del events[-4:]
        for event in events:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            self.wfile.flush()
        if fault != "cut":
            self.wfile.write(b"0\r\n\r\n")

    def _whole(self, answer: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("x-request-id", str(self.number))
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _error(path: str, fault: str) -> dict[str, Any]:
    message = REFUSAL if fault == "refused" else "the scripted model is overloaded"
    if path == "/v1/messages":
        kind = "invalid_request_error" if fault == "refused" else "overloaded_error"
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}
    kind = "invalid_request_error" if fault == "refused" else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    received: list[Received]
    numbers: Iterator[int]
    script: Script
    is_strict = False
    fault = ""

    def next_fault(self) -> str:
        """What befalls the next request; a fault that passes does so once."""
        fault = self.fault
        if fault != "refused":
            self.fault = ""
        return fault

    def handle_error(self, *_: Any) -> None:
        """A client that leaves is not an error."""


class Upstream:
    """The server, in a thread."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self.begin(is_strict=False)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def received(self) -> list[Received]:
        return self._server.received

    def begin(self, *, is_strict: bool, fault: str = "", script: Script = decide) -> None:
        """Forgets earlier requests; ``is_strict``: the gateway writes the next ones itself."""
        self._server.fault = fault
        self._server.script = script
        self._server.numbers = itertools.count(1)
        self._server.received = []
        self._server.is_strict = is_strict
