"""A relay in front of the gateway that records what agents ask and what they get."""

import contextlib
import http.client
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self
from urllib.parse import urlsplit

_OF_ONE_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "host"})
_PIECE_BYTES: Final = 65_536
_LIMIT_S: Final = 120.0


@dataclass
class Passed:
    """One request of a client, and the head of its answer."""

    method: str
    path: str
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes
    status: int = 0
    """0 until the answer begins."""
    answer: dict[str, str] = field(default_factory=dict)
    """The answer's headers, by lower-case name."""

    def __str__(self) -> str:
        return f"{self.method} {self.path.partition('?')[0]} {self.status}"


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, *_: object) -> None:
        """Keeps standard error for the agents."""

    def do_GET(self) -> None:
        self._relay()

    def do_HEAD(self) -> None:
        self._relay()

    def do_POST(self) -> None:
        self._relay()

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        passed = Passed(self.command, self.path, headers, body)
        self.server.passed.append(passed)
        sent = {name: value for name, value in headers.items() if name not in _OF_ONE_HOP}
        line = http.client.HTTPConnection(self.server.address, timeout=_LIMIT_S)
        with contextlib.closing(line):
            line.request(self.command, self.path, body or None, sent)
            answer = line.getresponse()
            pairs = [(name.lower(), value) for name, value in answer.getheaders()]
            passed.answer.update(pairs)
            passed.status = answer.status
            self._answer(answer, [pair for pair in pairs if pair[0] not in _OF_ONE_HOP])

    def _answer(self, answer: http.client.HTTPResponse, headers: list[tuple[str, str]]) -> None:
        self.send_response(answer.status)
        for name, value in headers:
            self.send_header(name, value)
        is_chunked = self.command != "HEAD" and answer.getheader("content-length") is None
        if is_chunked:
            self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while piece := answer.read1(_PIECE_BYTES):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            self.wfile.flush()
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    address: str
    passed: list[Passed]

    def handle_error(self, *_: object) -> None:
        """A client that leaves is not an error."""


class Tap:
    """The relay, in a thread. An answer that breaks off does so for the client, too."""

    def __init__(self, gateway: str) -> None:
        """``gateway`` is the address that requests go on to."""
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.address = urlsplit(gateway).netloc
        self._server.passed = []
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def passed(self) -> list[Passed]:
        """All requests, in the order in which they came."""
        return self._server.passed
