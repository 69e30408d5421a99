"""A hub on a loopback port that does what a test scripts for each path."""

import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Scripted:
    """An answer; a Range is honoured unless ``ignores_range``."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    breaks_after: int | None = None
    """Bytes after which the connection is closed."""
    ignores_range: bool = False
    has_length: bool = True


class Hub:
    """Answers by path; the last answer of a path is repeated."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: defaultdict[str, deque[Scripted]] = defaultdict(deque)
        self.requests: list[tuple[str, dict[str, str]]] = []

    def script(self, path: str, *answers: Scripted) -> None:
        self.answers[path].extend(answers)

    def ranges(self) -> list[str | None]:
        return [headers.get("range") for _, headers in self.requests]

    def next(self, path: str) -> Scripted:
        queue = self.answers[path]
        if not queue:
            return Scripted(status=404)
        return queue.popleft() if len(queue) > 1 else queue[0]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub, until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            hub.requests.append((self.path, headers))
            _answer(self, hub.next(self.path), headers.get("range", ""))

        def log_message(self, *_arguments: object) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join(10)


def _answer(handler: BaseHTTPRequestHandler, answer: Scripted, asked: str) -> None:
    start = 0
    status = answer.status
    if asked and status == 200 and not answer.ignores_range:
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        status = 206
    body = answer.body[start:]
    handler.send_response(status)
    for name, value in answer.headers.items():
        handler.send_header(name, value)
    if status == 206:
        handler.send_header("Content-Range", f"bytes {start}-{len(answer.body) - 1}/*")
    if answer.has_length:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body if answer.breaks_after is None else body[: answer.breaks_after])
