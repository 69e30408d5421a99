"""Variants and loads of the overhead benchmark."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from benchmarks.lib.loadgen import COUNTER, Load

CHAT_PATH: Final = "/v1/chat/completions"
MESSAGES_PATH: Final = "/v1/messages"
CONTENT_EVENTS: Final = 50
"""A stream has one event before these and one after them: 52, and [DONE]."""
SYSTEM: Final = "You answer briefly, and say so when you don't know."
QUESTION: Final = "Which way is it to the station, and is there a way around the market? " * 8
_PROMPT_BYTES: Final = 64 << 10


class Workload(NamedTuple):
    """What each client sends, and how many clients there are."""

    name: str
    """One of KINDS."""
    clients: int

    @property
    def label(self) -> str:
        """How reports name it."""
        return f"{self.name} c={self.clients}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request."""

    stream: bool
    body: Callable[[str], dict[str, Any]]
    """The request for a model."""
    path: str = CHAT_PATH
    expected: bytes = b'"choices"'
    """In each correct answer."""
    is_tool: bool = False
    """The model answers with the call of a tool."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A path and a model on one of the servers."""

    name: str
    server: str
    path: str = ""
    """Of complete answers; empty for the path of the kind."""
    stream_path: str = ""
    model: str = "bench"
    tool_model: str = "tool-stream"
    """Empty if it serves no model that answers so."""
    most_clients: int = 64
    kinds: tuple[str, ...] = ()
    """The kinds of requests that it takes; empty for all that it can take."""
    is_unique: bool = False
    """No two requests have the same text."""
    headers: str = ""
    """Further lines of the request's head."""
    translates: bool = False
    """It takes requests in another dialect than the provider's."""

    def takes(self, workload: Workload) -> bool:
        """Tells whether this variant can be measured with a load."""
        kind = KINDS[workload.name]
        has_path = self.translates or kind.path == CHAT_PATH
        has_model = bool(self.tool_model) or not kind.is_tool
        is_wanted = not self.kinds or workload.name in self.kinds
        return has_path and has_model and is_wanted and workload.clients <= self.most_clients


INLINE_MODEL: Final = "vllm/bench"
DEDICATED_MODEL: Final = "vllm/bench-dedicated"
_TOOL_MODELS: Final = ("vllm/tool-stream", "vllm/tool-stream@dedicated")
MODELS: Final = {
    INLINE_MODEL: "inline",
    _TOOL_MODELS[0]: "inline",
    DEDICATED_MODEL: "dedicated",
    _TOOL_MODELS[1]: "dedicated",
}
"""The models of a Fingerpost application, each with its data path."""


def _ours(name: str, server: str, *, dedicated: bool) -> Variant:
    model = DEDICATED_MODEL if dedicated else INLINE_MODEL
    tool_model = _TOOL_MODELS[dedicated]
    return Variant(name, server, model=model, tool_model=tool_model, translates=True)


def _routed(how: str, *, is_unique: bool = False, headers: str = "") -> Variant:
    """A variant whose requests leave the model open."""
    return Variant(
        f"routed-{how}",
        "serve",
        model="auto",
        kinds=("unary",),
        is_unique=is_unique,
        headers=headers,
        most_clients=8,
    )


ROUTES: Final = (
    {"name": "way", "description": "questions about the way to a place", "models": [INLINE_MODEL]},
    {"name": "code", "description": "writing and explaining code", "models": [INLINE_MODEL]},
    {"name": "mail", "description": "drafting letters and mail", "models": [INLINE_MODEL]},
)
"""The routes of a Fingerpost application; all lead to one model, so that only deciding differs."""
DEDICATED: Final = _ours("fingerpost-dedicated", "serve", dedicated=True)
VARIANTS: Final = (
    Variant("mock", "mock"),
    Variant("raw-inline", "serve", "/raw-inline/unary", "/raw-inline/stream"),
    Variant("raw-hop", "serve", "/raw-hop/unary", "/raw-hop/stream"),
    _ours("fingerpost-inline", "serve", dedicated=False),
    _ours("other-inline", "other", dedicated=False),
    DEDICATED,
    _ours("other-dedicated", "other", dedicated=True),
    _routed("pinned", headers="x-model-affinity: benchmark\r\n"),
    _routed("cached"),
    _routed("embedded", is_unique=True),
    Variant("envoy", "envoy"),
    Variant("ferrogw", "ferrogw", model="gpt-4o", tool_model=""),
    Variant("litellm", "litellm", most_clients=8),
)
"""The order of a turn: what is compared stands side by side."""


def _question(model: str, *, stream: bool, text: str = "") -> dict[str, Any]:
    """Returns a request of about 0.8 kB, and of more with a ``text``."""
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"{QUESTION}{text}"},
        ],
        "temperature": 0.7,
        "max_tokens": CONTENT_EVENTS,
        "stream": stream,
    }


def _long_question(model: str) -> dict[str, Any]:
    line = 'The market is "closed" on Sundays; take the second street on the left.\n'
    return _question(model, stream=False, text=line * (_PROMPT_BYTES // len(line)))


def _tool_question(model: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}}
    find = {"name": "find", "description": "Finds a way.", "parameters": parameters}
    tools = [{"type": "function", "function": find}]
    return {**_question(model, stream=True), "tools": tools}


_DONE: Final = b"data: [DONE]"
KINDS: Final = {
    "unary": Kind(stream=False, body=lambda model: _question(model, stream=False)),
    "stream": Kind(stream=True, body=lambda model: _question(model, stream=True), expected=_DONE),
    "prompt": Kind(stream=False, body=_long_question),
    "tools": Kind(stream=True, body=_tool_question, expected=_DONE, is_tool=True),
    "translated": Kind(
        stream=True,
        body=lambda model: _question(model, stream=True),
        path=MESSAGES_PATH,
        expected=b"message_stop",
    ),
}
"""Complete answers, streams of 52 events, prompts of 64 KB, streamed calls of a tool, and streams
for a client of messages whose provider speaks chat.
"""
LOADS: Final = (
    *(Workload("unary", clients) for clients in (1, 8, 64)),
    *(Workload("stream", clients) for clients in (1, 8, 64)),
    Workload("prompt", 8),
    Workload("tools", 8),
    Workload("translated", 8),
)


def load_of(variant: Variant, port: int, workload: Workload, seconds: float) -> Load:
    """Returns the load for a variant."""
    kind = KINDS[workload.name]
    path = (variant.stream_path if kind.stream else variant.path) or kind.path
    body = kind.body(variant.tool_model if kind.is_tool else variant.model)
    if kind.path == MESSAGES_PATH:  # its system prompt stands beside the messages
        body["system"] = body["messages"].pop(0)["content"]
    if variant.is_unique:
        body["messages"][-1]["content"] += f" ({COUNTER})"
    expected = kind.expected.decode()
    text = json.dumps(body)
    return Load(port, path, text, workload.clients, seconds, expected, variant.headers)
