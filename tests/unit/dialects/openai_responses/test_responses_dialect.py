"""The parts of OpenAI responses that the gateway depends on."""

import json

import pytest
from hypothesis import given
from openai.types.responses import Response, ResponseFailedEvent

from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import NO_QUIRK, Document, read_document
from serve_app.dialects.openai_responses.dialect import ResponsesClient, ResponsesUpstream
from serve_app.dialects.openai_responses.errors import check_answer, render_failed
from serve_app.dialects.protocol import ClientDialect, ErrorInfo, StreamState, UpstreamDialect
from serve_app.dialects.sse import Framer, parse_event
from serve_app.domain import Json, Turn
from serve_app.errors import (
    DuplicateKey,
    GatewayError,
    InvalidRequest,
    ReportedError,
    UpstreamFailed,
    UpstreamTimeout,
)
from serve_app.exchange import Operation
from tests.unit.dialects.streams import json_values

CLIENT: ClientDialect = ResponsesClient()
UPSTREAM: UpstreamDialect = ResponsesUpstream()
ANSWER = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "error": None,
    "model": "m",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}


def document(body: Json) -> Document:
    return read_document(json.dumps(body).encode(), unique=CLIENT.fields.read)


def test_responses_client_reads_what_it_is_asked_for() -> None:
    """Model, fall-backs and streaming are read; the number of answers is always one."""
    body = {"model": "a", "fallbacks": ["b"], "stream": True, "n": 3}
    assert CLIENT.read_intent(document(body)) == Intent("a", ("b",), stream=True)
    with pytest.raises(InvalidRequest, match="stream"):
        CLIENT.read_intent(document({"stream": 1}))


@pytest.mark.parametrize(
    ("body", "turns"),
    [
        ({"input": "Hi"}, (Turn("user", "Hi"),)),
        ({"input": []}, ()),
        ({"prompt": {"id": "pmpt_1"}}, ()),
        ({"prompt": {"id": "pmpt_1"}, "input": "Hi"}, (Turn("user", "Hi"),)),
    ],
)
def test_conversation_is_in_input(body: Json, turns: tuple[Turn, ...]) -> None:
    """The input is a string or a list; with a template it may be left out."""
    assert CLIENT.read_conversation(document(body)).turns == turns


@pytest.mark.parametrize(
    "body", [{}, {"input": None}, {"input": 7}, {"prompt": None}, {"prompt": {}, "input": {}}]
)
def test_input_is_required(body: Json) -> None:
    """A body without a usable input is refused with the name of the field."""
    with pytest.raises(InvalidRequest, match="input is required") as caught:
        CLIENT.read_conversation(document(body))
    assert caught.value.param == "input"


@pytest.mark.parametrize("key", ["input", "instructions", "tools", "previous_response_id"])
def test_duplicates_of_read_fields_are_refused(key: str) -> None:
    """A provider could read another one of two than the gateway."""
    body = f'{{"{key}": null, "{key.title()}": null}}'.encode()
    with pytest.raises(DuplicateKey):
        read_document(body, unique=CLIENT.fields.read)


def test_responses_body_is_passed_on_byte_by_byte() -> None:
    """Only the model and the gateway's own keys change; unknown fields are left as they are."""
    body = b'{"model" :"a", "models": ["b"], "input":"x", "include" : ["y"], "new": 1e3}'
    read = read_document(body, unique=CLIENT.fields.read)
    assert UPSTREAM.pass_on(read, CLIENT.fields, "c", NO_QUIRK) == (
        b'{"model" :"c", "input":"x", "include" : ["y"], "new": 1e3}'
    )
    assert UPSTREAM.operation is Operation.RESPONSES
    assert (CLIENT.name, CLIENT.path) == ("responses", UPSTREAM.address("c", stream=True))


def test_responses_stream_is_kept_alive_by_a_comment() -> None:
    """A comment is an event that says nothing, to a client and to a watch."""
    assert Framer().feed(CLIENT.keep_alive) == CLIENT.keep_alive
    assert parse_event(CLIENT.keep_alive.strip()).data is None
    watch = UPSTREAM.watch(Intent(choices=2))
    watch.feed(CLIENT.keep_alive)
    assert watch.state is StreamState.PREAMBLE


def failed_event(event: bytes) -> ResponseFailedEvent:
    """The event as the official SDK reads it; its name is its type."""
    assert Framer().feed(event) == event
    parsed = parse_event(event.strip())
    assert parsed.name == "response.failed"
    return ResponseFailedEvent.model_validate_json(parsed.data or b"")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamFailed("no"), "server_error"),
        (UpstreamTimeout("late"), "server_error"),
        (GatewayError(), "server_error"),
        (InvalidRequest("no"), "invalid_prompt"),
        (ReportedError("slowly", "rate_limit_exceeded"), "rate_limit_exceeded"),
        (ReportedError("a\n\nb\rdata: \ud800", "odd"), "server_error"),
    ],
)
def test_failure_of_a_stream_is_its_last_event(error: GatewayError, code: str) -> None:
    """The official SDK reads a failed response with the error's text, and a code that it knows."""
    read = failed_event(CLIENT.render_error_event(error))
    text = str(error).replace("\ud800", "?")
    assert read.response.status == "failed"
    assert read.response.error is not None
    assert (read.response.error.code, read.response.error.message) == (code, text)
    assert read.sequence_number == 0


def test_failure_keeps_what_the_client_has_seen() -> None:
    """The response goes on with its id and the number of its events."""
    seen = {"id": "resp_7", "model": "m", "created_at": 5, "status": "in_progress"}
    event = render_failed(UpstreamFailed("no"), sequence_number=9, response=seen)
    read = failed_event(event)
    assert (read.sequence_number, read.response.id, read.response.model) == (9, "resp_7", "m")
    assert read.response.status == "failed"


def test_responses_errors_have_openai_shape() -> None:
    """Errors outside streams are rendered and read as those of OpenAI."""
    body = CLIENT.render_error(UpstreamFailed("no"), status=429)
    assert json.loads(body)["error"]["type"] == "rate_limit_error"
    info = UPSTREAM.read_error(body)
    assert info is not None
    assert (info.status, info.body) == (429, body)
    assert UPSTREAM.read_error(json.dumps(ANSWER).encode()) is None


FAILURE = {"code": "server_error", "message": "no"}
NO_STATUS = "the answer holds neither output nor a status"
NO_OBJECT, NO_OUTPUT = "the answer is not a JSON object", "the answer holds no list `output`"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ANSWER, None),
        ({**ANSWER, "status": "queued"}, None),
        ({**ANSWER, "output": [], "status": "completed"}, None),
        ({**ANSWER, "output": [], "status": "queued"}, None),
        ({**ANSWER, "output": [{"type": "function_call", "status": "failed"}]}, None),
        ({**ANSWER, "output": [{"type": "mcp_call", "error": None}]}, None),
        ({**ANSWER, "metadata": {"error": "x", "a": '"error": 1'}}, None),
        ({**ANSWER, "status": "failed", "error": FAILURE}, ("no", 500)),
        ({**ANSWER, "status": "failed", "error": 1}, ...),
        ({**ANSWER, "status": "failed"}, ...),
        ({**ANSWER, "status": "cancelled"}, ...),
        ({"output": []}, (NO_STATUS, None)),
        ({"output": [], "status": None, "error": None}, (NO_STATUS, None)),
        ({"output": [], "status": "completed", "error": FAILURE}, ("no", 500)),
        ({"output": [], "status": "completed", "error": "no"}, ("no", None)),
        ({"error": {"message": "no", "code": "rate_limit_exceeded"}}, ("no", 429)),
        ({"error": "no"}, ("no", None)),
        ({}, (NO_OUTPUT, None)),
        ([], (NO_OBJECT, None)),
    ],
)
@pytest.mark.parametrize("may_be_torn", [False, True])
def test_check_answer_accepts_responses_only(
    answer: Json, error: Json, *, may_be_torn: bool
) -> None:
    """A response is accepted; a failed one and an error have their status, other bodies do not."""
    info = UPSTREAM.check_answer(json.dumps(answer).encode(), may_be_torn=may_be_torn)
    if error is ...:
        assert info is not None
        assert info.status == 502
    else:
        assert (None if info is None else (info.message, info.status)) == error


def test_check_answer_parses_body_that_may_be_torn() -> None:
    """Without a length a body may end early, and still end with a brace."""
    torn = json.dumps({"output": [{"type": "message"}], "usage": {}}).encode()[:-1]
    Response.model_validate(ANSWER)
    assert check_answer(b'{"output": null}', may_be_torn=True) == ErrorInfo(NO_OUTPUT)
    assert check_answer(torn, may_be_torn=False) is None
    assert check_answer(torn, may_be_torn=True) is not None


KEYS = ["output", "error", "status", "message", "code", "type", "response"]


@given(json_values(KEYS, ["failed", "server_error"]))
def test_responses_upstream_accepts_any_json(answer: Json) -> None:
    """Any JSON body of a provider is judged without an exception."""
    body = json.dumps(answer).encode()
    for may_be_torn in (False, True):
        for error in (
            UPSTREAM.read_error(body),
            UPSTREAM.check_answer(body, may_be_torn=may_be_torn),
        ):
            if error is not None:
                assert error.status is None or error.status in range(400, 600)
                assert error.body in (b"", body)
