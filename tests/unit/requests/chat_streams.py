"""Streams of OpenAI chat that tests of commit and relay share."""

from collections.abc import Sequence

from serve_app.dialects.fields import Intent
from serve_app.dialects.protocol import StreamPipe
from serve_app.dialects.registry import DEFAULT_DIALECT, pair

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
WORD = 'data: {"choices":[{"index":0,"delta":{"content":"Hé"}}]}\n\n'.encode()
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"


def new_pipe(choices: int = 1) -> StreamPipe:
    return pair(DEFAULT_DIALECT, ()).pipe(Intent(choices=choices))


def scripts_at_every_split(stream: bytes) -> Sequence[list[bytes]]:
    """The stream whole, cut in two everywhere, and byte by byte."""
    halves = [[stream[:at], stream[at:]] for at in range(1, len(stream))]
    return [[stream], *halves, [stream[at : at + 1] for at in range(len(stream))]]
