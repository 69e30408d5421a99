"""Variants and loads of the overhead benchmark."""

import json
from dataclasses import dataclass
from typing import Final

from benchmarks.lib.loadgen import Load

CHAT_PATH: Final = "/v1/chat/completions"
CONTENT_EVENTS: Final = 50
"""A stream has one event before these and one after them: 52, and [DONE]."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A path and a model on one of the servers."""

    name: str
    server: str
    path: str = CHAT_PATH
    stream_path: str = CHAT_PATH
    model: str = "bench"


INLINE_MODEL: Final = "vllm/bench"
DEDICATED_MODEL: Final = "vllm/bench-dedicated"
DEDICATED: Final = Variant("fingerpost-dedicated", "serve", model=DEDICATED_MODEL)
VARIANTS: Final = (
    Variant("mock", "mock"),
    Variant("raw-inline", "serve", "/raw-inline/unary", "/raw-inline/stream"),
    Variant("raw-hop", "serve", "/raw-hop/unary", "/raw-hop/stream"),
    Variant("fingerpost-inline", "serve", model=INLINE_MODEL),
    Variant("other-inline", "other", model=INLINE_MODEL),
    DEDICATED,
    Variant("other-dedicated", "other", model=DEDICATED_MODEL),
    Variant("litellm", "litellm"),
)
"""The order of a turn: what is compared stands side by side."""
LOADS: Final = tuple((stream, clients) for stream in (False, True) for clients in (1, 8))


def load_of(variant: Variant, port: int, load: tuple[bool, int], seconds: float) -> Load:
    """Returns the load for a variant; ``load`` is one of LOADS."""
    stream, clients = load
    path = variant.stream_path if stream else variant.path
    return Load(port, path, _body(variant.model, stream=stream), clients, seconds, stream)


def _body(model: str, *, stream: bool) -> str:
    """Returns a request of about 0.8 kB."""
    question = "Which way is it to the station, and is there a way around the market? " * 8
    request = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You answer briefly, and say so when you don't know."},
            {"role": "user", "content": question},
        ],
        "temperature": 0.7,
        "max_tokens": CONTENT_EVENTS,
        "stream": stream,
    }
    return json.dumps(request)
