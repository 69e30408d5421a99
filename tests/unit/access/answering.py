"""A provider for the tests of keys and limits, that answers at once and counts."""

import asyncio
import json
from typing import Any

from serve_app.exchange import FaultKind, UpstreamFault, UpstreamReply, UpstreamRequest
from tests.unit.access.api_rig import ApiRig, Got
from tests.unit.fakes import FakeChunks, reply

ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 200},
}
MESSAGE = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1000, "output_tokens": 200},
}
RESPONSE = {
    "id": "r1",
    "object": "response",
    "status": "completed",
    "model": "m",
    "output": [
        {
            "id": "i1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200},
}
EMBEDDING = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
    "model": "m",
    "usage": {"prompt_tokens": 1000, "total_tokens": 1000},
}
BODIES = {"/chat": ANSWER, "/messages": MESSAGE, "/responses": RESPONSE, "/embeddings": EMBEDDING}
GPT_4O_USD = (1000 * 2.5 + 200 * 10.0) / 1e6
"""The cost of one of these answers."""


class Provider:
    """Answers every request at once, unless its model fails."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing: set[str] = set()
        self.status = 200
        self.running = 0
        self.most = 0
        self.pause_s = 0.0
        self.headers = (("x-ratelimit-limit-requests", "9"), ("anthropic-ratelimit-x", "9"))

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        self.asked.append(str(request.model))
        if str(request.model) in self.failing:
            return UpstreamFault(FaultKind.CONNECT, "cannot connect")
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.pause_s)
        finally:
            self.running -= 1
        body = next((body for end, body in BODIES.items() if end in request.path), ANSWER)
        if "count_tokens" in request.path:
            body = {"input_tokens": 9}
        return reply(self.status, json.dumps(body).encode(), self.headers)


def keyed(fields: str) -> str:
    return (
        f"client_keys:\n  - {{key: $IDE, name: ide, {fields}}}\n  - {{key: $BATCH, name: batch}}\n"
    )


def used(rig: ApiRig) -> dict[str, int]:
    """What each counter of a rig in memory has used."""
    store: Any = rig.assembly.gateway.admission.limiter.store
    return {name: counter.used for name, counter in store._counters.items()}


def error_of(got: Got) -> tuple[int, str, str]:
    error = got.json["error"]
    return got.status, error["type"], error.get("code", "")


STREAM = [
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"t"},"finish_reason":null}]}\n\n'
] * 40
END = (
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":%d,"completion_tokens":40}}\n\ndata: [DONE]\n\n'
)


class Tokens(FakeChunks):
    """A stream of forty tokens that pauses after each, and counts those that were read."""

    def __init__(self, prompt_tokens: int) -> None:
        super().__init__(*(item for event in STREAM for item in (event, 0.0)), END % prompt_tokens)
        self.sent = 0

    async def __anext__(self) -> bytes:
        event = await super().__anext__()
        self.sent += event is STREAM[0]
        return event


class StreamingProvider(Provider):
    """Streams, and counts what it has read and sent."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0
        self.streams: list[Tokens] = []

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        prompt_tokens = len(request.body) // 4
        self.read += prompt_tokens
        self.streams.append(Tokens(prompt_tokens))
        return reply(200, self.streams[-1], (("content-type", "text/event-stream"),))

    @property
    def usage(self) -> int:
        """What the provider itself would bill: prompts, and each token that it sent."""
        return self.read + sum(stream.sent for stream in self.streams)
