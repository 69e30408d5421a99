"""Streams and requests between two dialects, apart from what any codec does."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from serve_app.dialects import ir
from serve_app.dialects.client_tools import ClientTools
from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import NO_QUIRK, Quirk, read_document
from serve_app.dialects.protocol import ErrorInfo, StreamState, ToolLimits
from serve_app.dialects.registry import client_dialect, pair
from serve_app.dialects.sse import Event
from serve_app.dialects.translation import MAX_EVENT_BYTES, Translate
from serve_app.errors import GatewayError, InvalidRequest, UpstreamTimeout
from serve_app.exchange import Operation

STARTED = ir.Started("id", "m")
TEXT = ir.PartStarted(ir.Text(""))
CALL = ir.PartStarted(ir.ToolCall("c", "f"))
DONE: list[ir.Event] = [ir.PartEnded(), ir.Finished(ir.Finish.STOP), ir.Ended()]


@dataclass
class ScriptedReader:
    """Reads events by number."""

    script: dict[str, list[ir.Event]]
    last: list[ir.Event] = field(default_factory=list)

    def read(self, event: Event) -> Iterable[ir.Event]:
        return self.script[(event.data or b"").decode()]

    def end(self) -> Iterable[ir.Event]:
        return self.last


class NamingWriter:
    """Writes the class of each event."""

    def write(self, event: ir.Event) -> bytes:
        return f"{type(event).__name__}\n\n".encode()

    def fail(self, error: GatewayError) -> bytes:
        return f"error {error.code}: {error}\n\n".encode()


def translate(script: dict[str, list[ir.Event]], last: Iterable[ir.Event] = ()) -> Translate:
    tools = ClientTools.of(ir.Request("chat", ()), ToolLimits(64))
    return Translate(ScriptedReader(script, list(last)), NamingWriter(), tools)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([STARTED], StreamState.PREAMBLE),
        ([STARTED, TEXT], StreamState.PREAMBLE),
        ([STARTED, TEXT, ir.Delta("")], StreamState.PREAMBLE),
        ([STARTED, ir.Counted(ir.Usage())], StreamState.PREAMBLE),
        ([STARTED, TEXT, ir.Delta("a")], StreamState.SPEAKING),
        ([STARTED, CALL], StreamState.SPEAKING),
        ([STARTED, ir.Finished(ir.Finish.STOP)], StreamState.PREAMBLE),
        ([STARTED, TEXT, ir.Delta("a"), *DONE], StreamState.COMPLETE),
        ([STARTED, *DONE[1:]], StreamState.COMPLETE),
        ([ir.Ended()], StreamState.EMPTY),
        ([STARTED, TEXT, ir.PartEnded(), ir.Ended()], StreamState.EMPTY),
    ],
)
def test_state_follows_content(events: list[ir.Event], state: StreamState) -> None:
    """A stream commits with its first content, and may end after its end."""
    pipe = translate({"1": events})
    pipe.feed(b"data: 1\n\n")
    assert pipe.state is state


def test_error_before_content_is_a_failure() -> None:
    """Nothing of it is written, because another candidate may answer."""
    pipe = translate({"1": [STARTED, ir.Failed("busy", 529, "overloaded"), TEXT]})
    assert b"error" not in pipe.feed(b"data: 1\n\n")
    assert pipe.error == ErrorInfo("busy", 529, "overloaded")
    assert pipe.state is StreamState.FAILED


def test_error_before_content_keeps_its_words_in_a_stream() -> None:
    """Where the answer has begun for want of content, the client gets the error at its end."""
    pipe = translate({"1": [STARTED], "2": [ir.Failed("busy", 529, "overloaded")]})
    pipe.feed(b"data: 1\n\n")
    pipe.feed(b"data: 2\n\n")
    assert pipe.end(None) == b"error overloaded: busy\n\n"
    assert not pipe.state.may_end


def test_error_after_content_ends_the_stream() -> None:
    """The client gets it in its own dialect, and nothing after it."""
    pipe = translate({"1": [STARTED, TEXT, ir.Delta("a")], "2": [ir.Failed("busy", 529), *DONE]})
    pipe.feed(b"data: 1\n\n")
    assert pipe.feed(b"data: 2\n\n") == b"error upstream_error: busy\n\n"
    assert pipe.error is None
    assert (pipe.state, pipe.end(None)) == (StreamState.COMPLETE, b"")


@pytest.mark.parametrize("error", [None, UpstreamTimeout("late")])
def test_incomplete_stream_ends_with_an_error(error: GatewayError | None) -> None:
    """A stream that stops in its middle is never ended cleanly."""
    pipe = translate({"1": [STARTED, TEXT, ir.Delta("a")]})
    pipe.feed(b"data: 1\n\n")
    assert (b"late" if error else b"before it was complete") in pipe.end(error)


def test_last_event_needs_no_blank_line() -> None:
    """What the provider sent before it closed is read, and so is what its end means."""
    pipe = translate({"1": [STARTED, TEXT, ir.Delta("a")], "2": DONE[:2]}, DONE[2:])
    pipe.feed(b"data: 1\n\ndata: 2")
    assert pipe.end(None) == b"PartEnded\n\nFinished\n\nEnded\n\n"
    assert pipe.state is StreamState.COMPLETE


def test_comments_and_torn_events_say_nothing() -> None:
    """An event that broke off in its middle is left out."""
    pipe = translate({"1": [STARTED]})
    assert pipe.feed(b": comment\n\ndata: 1\n\ndata: torn") == b"Started\n\n"
    assert b"late" in pipe.end(UpstreamTimeout("late"))


def test_event_beyond_the_limit_fails_the_stream() -> None:
    """No provider can fill the memory with one event, nor can an answer end without it."""
    pipe = translate({"1": [STARTED, TEXT, ir.Delta("a")], "2": DONE})
    assert MAX_EVENT_BYTES <= 64 << 20
    assert pipe._framer._max_held_bytes == MAX_EVENT_BYTES
    pipe._framer._max_held_bytes = 100
    pipe.feed(b"data: 1\n\n")
    out = pipe.feed(b"data: " + b"x" * 100) + pipe.feed(b"x\n\ndata: 2\n\n") + pipe.end(None)
    assert out == b"error upstream_error: an event of the provider is larger than 64 MiB\n\n"
    assert pipe.state is StreamState.COMPLETE


def asked(client: str, upstream: Operation, body: dict[str, Any], quirk: Quirk = NO_QUIRK) -> Any:
    document = read_document(json.dumps(body).encode(), unique=frozenset())
    return pair(client_dialect(client), {upstream}).ask(document, Intent("m"), "m", quirk)


CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}


def test_own_fields_of_the_gateway_are_not_reported() -> None:
    """What only the gateway reads neither goes on nor counts as dropped."""
    metadata = {"archgw_preference_config": "x", "team": "a"}
    body = {**CHAT, "routing_preferences": [], "fallbacks": [], "metadata": metadata, "zzz": 1}
    request = asked("chat", Operation.RESPONSES, body)
    assert request.dropped == ("zzz",)
    assert json.loads(request.body)["metadata"] == {"team": "a"}


def test_quirk_applies_to_what_is_written() -> None:
    """A model's quirk changes the body that the gateway wrote."""
    quirk = Quirk(
        drop=frozenset({"stream_options"}),
        rename={"max_tokens": "max_completion_tokens"},
        values={"temperature": {1: 1}, "top_p": {0.5: 0.6}},
        add={"prompt_cache_key": "k", "stream": "not that"},
    )
    body = {"model": "m", "max_tokens": 9, "stream": True, "temperature": 0.5, "top_p": 0.5}
    body["messages"] = CHAT["messages"]
    sent = json.loads(asked("messages", Operation.CHAT, body, quirk).body)
    assert sent["max_completion_tokens"] == 9
    assert sent["top_p"] == 0.6
    assert (sent["prompt_cache_key"], sent["stream"]) == ("k", True)
    assert not {"max_tokens", "stream_options", "temperature"} & set(sent)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"{"])
def test_answer_that_is_not_an_object_is_refused(body: bytes) -> None:
    """The gateway then asks another candidate."""
    with pytest.raises(ValueError, match="JSON object"):
        asked("chat", Operation.MESSAGES, CHAT).answer(body)


def test_what_cannot_be_said_is_refused() -> None:
    """The error names the client's field."""
    with pytest.raises(InvalidRequest) as caught:
        asked("chat", Operation.MESSAGES, {**CHAT, "n": 2})
    assert caught.value.param == "n"


def test_error_keeps_the_providers_words() -> None:
    """Status, message and code are the provider's, the form is the client's."""
    body = asked("chat", Operation.MESSAGES, CHAT).error_body(
        413, ErrorInfo("prompt is too long: 9 tokens > 8 maximum", 413, "request_too_large")
    )
    error = json.loads(body)["error"]
    assert error["message"] == "prompt is too long: 9 tokens > 8 maximum"
    assert error["code"] == "request_too_large"
