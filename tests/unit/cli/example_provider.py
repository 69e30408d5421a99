"""A provider on loopback that writes examples, as an OpenAI-compatible server."""

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self


class Reply(NamedTuple):
    """A status and the text of an answer, or a whole body; status 0 closes the connection."""

    status: int
    content: str | bytes | dict[str, Any]


Script = Callable[[str], Reply]
"""What is answered to a prompt."""

_NUMBERS = re.compile(r'^- ("(?:[^"\\]|\\.)*"): (\d+) messages', re.MULTILINE)


def wanted_of(prompt: str) -> dict[str, int]:
    """The lists that a prompt asks for, each with its number of messages."""
    return {json.loads(name): int(count) for name, count in _NUMBERS.findall(prompt)}


def says(content: str) -> Script:
    return lambda prompt: Reply(200, content)


def fails(status: int, body: Any = None) -> Script:
    return lambda prompt: Reply(status, json.dumps(body).encode())


def writes(
    examples: Mapping[str, list[str]] | None = None, form: str = "{}", *, least: int = 0
) -> Script:
    """Writes these examples, and others where there are none; ``least`` fewer than asked for."""

    def answer(prompt: str) -> Reply:
        lists = {}
        for name, count in wanted_of(prompt).items():
            own = (examples or {}).get(name, [])
            more = [f"{name} case {number}" for number in range(count - least)]
            lists[name] = (own or more)[: count or None]
        return Reply(200, form.replace("{}", json.dumps(lists, ensure_ascii=False)))

    return answer


class _Server(ThreadingHTTPServer):
    def handle_error(self, *args: Any) -> None:
        """Prints nothing."""


class ExampleProvider:
    """Answers one request after the other by its scripts; the last script stays."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = deque(scripts or (writes(),))
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                status, content = provider.answer(
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    json.loads(self.rfile.read(length)),
                )
                if not status:
                    return  # and closes the connection
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                """Prints nothing."""

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, bytes]:
        self.paths.append(path)
        self.headers.append(headers)
        self.bodies.append(body)
        script = self.scripts.popleft() if len(self.scripts) > 1 else self.scripts[0]
        status, content = script(body["messages"][0]["content"])
        if isinstance(content, str):
            message = {"role": "assistant", "content": content}
            content = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        if isinstance(content, dict):
            content = json.dumps(content).encode()
        return status, content

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Suggest(Protocol):
    """Runs the command: the exit status, and what it wrote to both outputs."""

    def __call__(self, *options: str, scripts: tuple[Script, ...] = ()) -> tuple[int, str, str]: ...


def edit(file: Path, old: str, new: str) -> None:
    """Replaces a part of a file, which must be there."""
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
