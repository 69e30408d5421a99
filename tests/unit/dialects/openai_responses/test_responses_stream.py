"""How far a stream of OpenAI responses has come."""

import json
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from serve_app.dialects.openai_responses.errors import ResponsesErrors
from serve_app.dialects.openai_responses.stream import ResponsesWatch
from serve_app.dialects.pipe import PassThrough
from serve_app.dialects.protocol import StreamState
from serve_app.dialects.sse import MAX_HELD_BYTES
from serve_app.domain import Json
from serve_app.errors import UpstreamTimeout
from tests.unit.dialects.streams import event_streams, json_values, named, unnamed, watch_stream
from tests.unit.fakes import pieces

PREAMBLE, SPEAKING = StreamState.PREAMBLE, StreamState.SPEAKING
COMPLETE, EMPTY, FAILED_END = StreamState.COMPLETE, StreamState.EMPTY, StreamState.FAILED
RESPONSE: Json = {"id": "resp_1", "output": [], "error": None}
CREATED = named("response.created", response=RESPONSE)
BEGUN = CREATED + named("response.in_progress", response=RESPONSE)
MESSAGE = {"type": "message", "role": "assistant", "content": []}
ITEM = named("response.output_item.added", item=MESSAGE)
PART = named("response.content_part.added", part={"type": "output_text", "text": ""})
SUMMARY = named("response.reasoning_summary_part.added", part={"type": "summary_text", "text": ""})
THOUGHT = named("response.output_item.added", item={"type": "reasoning", "encrypted_content": "x"})
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}
WORD = named("response.output_text.delta", delta="Hé")
QUOTED = named("response.output_text.delta", delta='response.completed "error" response.failed')
COMPLETED = named("response.completed", response=RESPONSE)
FAILURE = {**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "no"}}
FAILED = named("response.failed", response=FAILURE)
COMPLETED_BADLY = named("response.completed", response=FAILURE)
CANCELLED = named("response.incomplete", response={**RESPONSE, "status": "cancelled"})
QUOTING = {**RESPONSE, "status": "completed", "output": [{"type": "message", "status": "failed"}]}
ERROR = named("error", code="rate_limit_exceeded", message="slowly", param=None)
NESTED = named("error", error={"type": "invalid_request_error", "message": "nested"})
UNTYPED = 'data: {"error": {"message": "untyped", "code": 503}}\n\n'

STREAMS: list[tuple[str, str, StreamState, str | None]] = [
    ("whole", BEGUN + ITEM + PART + WORD + COMPLETED, COMPLETE, None),
    ("nothing", "", PREAMBLE, None),
    ("created", CREATED, PREAMBLE, None),
    ("queued", CREATED + named("response.queued"), PREAMBLE, None),
    ("preamble", ": hi\n\n" + BEGUN + ITEM + PART, PREAMBLE, None),
    ("keepalive", BEGUN + named("keepalive", sequence_number=2), PREAMBLE, None),
    ("reasoning", BEGUN + THOUGHT + SUMMARY, PREAMBLE, None),
    ("call", BEGUN + named("response.output_item.added", item=CALL), PREAMBLE, None),
    ("not json", BEGUN + "data: <html>\n\n", PREAMBLE, None),
    ("done alone", "data: [DONE]\n\n", PREAMBLE, None),
    ("chat", 'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n', PREAMBLE, None),
    ("word", BEGUN + ITEM + WORD, SPEAKING, None),
    ("quoted", WORD + QUOTED, SPEAKING, None),
    ("unnamed word", unnamed("response.output_text.delta", delta="a"), SPEAKING, None),
    ("whole call", named("response.output_item.added", item={**CALL, "arguments": "{}"}), SPEAKING, None),
    ("whole part", named("response.content_part.added", part={"text": "Hi"}), SPEAKING, None),
    ("item done", BEGUN + named("response.output_item.done", item=MESSAGE), SPEAKING, None),
    ("item of text", named("response.output_item.added", item="x"), SPEAKING, None),
    ("torn part", "event: response.content_part.added\ndata: {\n\n", SPEAKING, None),
    ("unknown", BEGUN + named("response.new"), SPEAKING, None),
    ("completed", BEGUN + COMPLETED, COMPLETE, None),
    ("completed alone", COMPLETED, COMPLETE, None),
    ("incomplete", BEGUN + named("response.incomplete", response=RESPONSE), COMPLETE, None),
    ("unnamed", unnamed("response.created") + unnamed("response.completed"), COMPLETE, None),
    ("done after the end", WORD + COMPLETED + "data: [DONE]\n\n", COMPLETE, None),
    ("failed after word", BEGUN + WORD + FAILED, COMPLETE, None),
    ("error after word", BEGUN + WORD + ERROR, COMPLETE, None),
    ("untyped error after word", BEGUN + WORD + UNTYPED, COMPLETE, None),
    ("end without response", unnamed("response.completed"), EMPTY, None),
    ("end of nothing", named("response.incomplete", response="x") + WORD, EMPTY, None),
    ("failed", BEGUN + FAILED + WORD, COMPLETE, "no"),
    ("error", ERROR, COMPLETE, "slowly"),
    ("unnamed error", BEGUN + unnamed("error", message="no"), COMPLETE, "no"),
    ("nested error", BEGUN + NESTED, COMPLETE, "nested"),
    ("untyped error", UNTYPED, COMPLETE, "untyped"),
    ("error of text", "event: error\ndata: no\n\n", COMPLETE, "no"),
    ("completed but failed", BEGUN + COMPLETED_BADLY + WORD, FAILED_END, "no"),
    ("word, completed but failed", BEGUN + WORD + COMPLETED_BADLY + WORD, FAILED_END, "no"),
    ("word, cancelled", BEGUN + WORD + CANCELLED, FAILED_END, "the provider reports an error"),
    ("words of failure", BEGUN + WORD + named("response.completed", response=QUOTING), COMPLETE, None),
]  # fmt: skip


def _before_loss(sent: bytes, state: StreamState) -> bytes:
    """What a client gets of a stream: nothing from an end on that must not look like a good one."""
    ends = (b"event: response.completed", b"event: response.incomplete", b"data: ")
    is_lost = state in {EMPTY, FAILED_END}
    return next(sent[: sent.find(end)] for end in ends if end in sent) if is_lost else sent


@pytest.mark.parametrize(
    ("stream", "state", "message"),
    [case[1:] for case in STREAMS],
    ids=[case[0] for case in STREAMS],
)
def test_responses_watch_knows_state_at_every_split(
    stream: str, state: StreamState, message: str | None
) -> None:
    """State and error are the same wherever the chunks are cut, and all bytes go through."""
    sent = stream.encode()
    for cuts in combinations(range(0, len(sent) + 1, 1 + len(sent) // 25), 2):
        watched = watch_stream(ResponsesWatch(), pieces(sent, cuts))
        assert watched.passed == _before_loss(sent, state)
        assert watched.state is state
        assert (None if watched.error is None else watched.error.message) == message


def failed(code: Json) -> str:
    error = {"code": code, "message": "no"}
    return named("response.failed", response={**RESPONSE, "error": error})


@pytest.mark.parametrize(
    ("event", "status", "code", "own"),
    [
        (failed("server_error"), 500, "server_error", False),
        (failed("rate_limit_exceeded"), 429, "rate_limit_exceeded", False),
        (failed("insufficient_quota"), 429, "insufficient_quota", False),
        (failed("invalid_prompt"), 400, "invalid_prompt", False),
        (failed("context_length_exceeded"), 400, "context_length_exceeded", False),
        (failed("invalid_base64_image"), 400, "invalid_base64_image", False),
        (failed("something_new"), 502, "something_new", False),
        (failed(None), 502, None, False),
        (named("response.failed", response=None), 502, None, False),
        ("event: response.failed\ndata: no\n\n", 502, None, False),
        (named("error", message="no", code="rate_limit_exceeded"), 429, "rate_limit_exceeded", False),
        (NESTED, 400, "invalid_request_error", True),
        (UNTYPED, 503, None, True),
    ],
)  # fmt: skip
def test_failure_before_content_has_status(
    event: str, status: int, code: str | None, *, own: bool
) -> None:
    """A failure has its status by its code; it can go to a client as it is in OpenAI's form."""
    error = watch_stream(ResponsesWatch(), [BEGUN.encode(), event.encode()]).error
    assert error is not None
    assert (error.status, error.code) == (status, code)
    data = event.partition("data: ")[2].strip().encode()
    assert error.body == (data if own else b"")


@pytest.mark.parametrize("event", [named, unnamed], ids=["named", "unnamed"])
def test_large_response_is_complete_at_its_end(event: Json) -> None:
    """The last event holds the whole response and may be too large to be held."""
    output = [{"type": "image_generation_call", "result": "a" * MAX_HELD_BYTES}]
    last = event("response.completed", response={**RESPONSE, "output": output}).encode()
    watch = ResponsesWatch()
    watch.feed(WORD.encode())
    assert watch.feed(last[:-40]) == last[:-40]
    assert watch.state is SPEAKING
    assert watch.feed(last[-40:]) == last[-40:]
    assert watch.state is COMPLETE


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_incomplete_stream_ends_with_failed_response(size: int) -> None:
    """Its last event is a failure of the response that began, with the number that follows.

    The official SDK raises an error of its own at a response of another id.
    """
    begun = {**RESPONSE, "id": "resp_9", "model": "gpt-5", "created_at": 7, "metadata": {"a": "b"}}
    quoted = 'a "sequence_number": 50'
    sent = (
        ": hi\n\n"
        + named("response.created", sequence_number=0, response=begun)
        + ITEM
        + named("response.output_text.delta", sequence_number=3, delta=quoted)
        + ": hi\n\n"
    ).encode()
    pipe = PassThrough(ResponsesWatch(), ResponsesErrors())
    for at in range(0, len(sent), size):
        pipe.feed(sent[at : at + size])
    name, _, data = pipe.end(UpstreamTimeout("late")).partition(b"\ndata: ")
    assert name == b"event: response.failed"
    event = json.loads(data)
    assert (event["type"], event["sequence_number"]) == ("response.failed", 4)
    response = Response.model_validate(event["response"])
    assert (response.id, response.model, response.created_at) == ("resp_9", "gpt-5", 7)
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.message == "late"


@pytest.mark.parametrize("begun", ["", ITEM + WORD, named("response.created", response="x")])
def test_failure_of_unknown_response(begun: str) -> None:
    """Where nothing is known of the response, the failure says nothing of it."""
    pipe = PassThrough(ResponsesWatch(), ResponsesErrors())
    pipe.feed(begun.encode())
    end = pipe.end(UpstreamTimeout("late"))
    assert end.endswith(ResponsesErrors().render_error_event(UpstreamTimeout("late")))


KINDS = [
    "response.created", "response.completed", "response.failed", "response.output_item.added",
    "response.output_text.delta", "error", "keepalive", "message", "new", "",
]  # fmt: skip
VALUES = json_values(["type", "error", "response", "item", "message", "code", "content"], KINDS)


@given(event_streams(KINDS, VALUES), st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_responses_watch_accepts_any_stream_at_any_split(
    stream: bytes, cuts: list[int], torn: bool
) -> None:
    """No JSON event raises, and neither bytes nor state nor error depend on the chunks."""
    watch = ResponsesWatch()
    whole = watch_stream(watch, [stream], torn=torn)
    assert isinstance(watch.fail(UpstreamTimeout("late")), bytes)
    inside = [cut for cut in cuts if cut < len(stream)]
    assert watch_stream(ResponsesWatch(), pieces(stream, inside), torn=torn) == whole
    assert stream.startswith(whole.passed)
    if whole.error is not None:
        assert whole.error.status in range(400, 600)
        json.dumps(whole.error.message)
