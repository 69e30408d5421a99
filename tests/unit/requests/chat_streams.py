"""Streams of OpenAI chat events for the tests of commit and relay."""

from collections.abc import Sequence

from serve_app.dialects.fields import Intent
from serve_app.dialects.pipe import SameDialect
from serve_app.dialects.protocol import StreamPipe
from serve_app.dialects.registry import DEFAULT_DIALECT, UPSTREAM_DIALECTS

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
WORD = 'data: {"choices":[{"index":0,"delta":{"content":"Hé"}}]}\n\n'.encode()
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"


def new_pipe(choices: int = 1) -> StreamPipe:
    return SameDialect(DEFAULT_DIALECT, UPSTREAM_DIALECTS[DEFAULT_DIALECT.name]).pipe(
        Intent(choices=choices)
    )


def scripts_at_every_split(stream: bytes) -> Sequence[list[bytes]]:
    """The stream in one chunk, cut in two at every offset, and byte by byte."""
    halves = [[stream[:at], stream[at:]] for at in range(1, len(stream))]
    return [[stream], *halves, [stream[at : at + 1] for at in range(len(stream))]]
