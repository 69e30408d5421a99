"""The parts of Anthropic messages that the gateway depends on."""

import json

import pytest
from anthropic.types import Message, MessageTokensCount
from hypothesis import given

from serve_app.dialects.anthropic_messages.dialect import (
    CountTokensClient,
    CountTokensUpstream,
    MessagesClient,
    MessagesUpstream,
)
from serve_app.dialects.anthropic_messages.errors import check_answer
from serve_app.dialects.anthropic_messages.stream import MessagesWatch
from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import NO_QUIRK, Document, read_document
from serve_app.dialects.protocol import ClientDialect, StreamState, UpstreamDialect
from serve_app.dialects.sse import Framer, parse_event
from serve_app.domain import Json, Turn
from serve_app.errors import DuplicateKey, InvalidRequest
from serve_app.exchange import PATHS, Operation
from tests.unit.dialects.streams import json_values

CLIENTS: list[ClientDialect] = [MessagesClient(), CountTokensClient()]
UPSTREAMS: list[UpstreamDialect] = [MessagesUpstream(), CountTokensUpstream()]
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 1},
}


def document(body: Json, client: ClientDialect = CLIENTS[0]) -> Document:
    return read_document(json.dumps(body).encode(), unique=client.fields.read)


def test_messages_client_reads_what_it_is_asked_for() -> None:
    """Model, fall-backs and streaming are read; the number of answers is always one."""
    body = {"model": "a", "fallbacks": ["b"], "stream": True, "n": 3}
    assert MessagesClient().read_intent(document(body)) == Intent("a", ("b",), stream=True)
    assert MessagesClient().read_intent(document({})) == Intent()


def test_count_of_tokens_is_not_streamed() -> None:
    """A client that counts tokens never gets a stream."""
    body = {"model": "a", "fallbacks": ["b"], "stream": True}
    assert CountTokensClient().read_intent(document(body)) == Intent("a", ("b",))


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
@pytest.mark.parametrize("body", [{"model": 7}, {"model": "\n"}, {"fallbacks": "a"}])
def test_intent_of_malformed_fields_is_refused(client: ClientDialect, body: Json) -> None:
    """Fields of the wrong type are refused with their name."""
    with pytest.raises(InvalidRequest) as caught:
        client.read_intent(document(body))
    assert caught.value.param in body


def test_stream_must_be_a_boolean() -> None:
    """A stream flag of another type is refused."""
    with pytest.raises(InvalidRequest, match="stream"):
        MessagesClient().read_intent(document({"stream": "yes"}))


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_messages_are_required(client: ClientDialect) -> None:
    """A body without a list of messages is refused before anything is decided."""
    read = client.read_conversation(document({"messages": [{"role": "user", "content": "Hi"}]}))
    assert read.turns == (Turn("user", "Hi"),)
    for body in ({}, {"messages": "Hi"}, {"messages": None}):
        with pytest.raises(InvalidRequest) as caught:
            client.read_conversation(document(body))
        assert caught.value.param == "messages"


@pytest.mark.parametrize("key", ["system", "messages", "tools", "model", "stream", "metadata"])
def test_duplicates_of_read_fields_are_refused(key: str) -> None:
    """A provider could read another one of two than the gateway."""
    body = f'{{"{key}": null, "{key.upper()}": null}}'.encode()
    with pytest.raises(DuplicateKey):
        read_document(body, unique=MessagesClient().fields.read)


@pytest.mark.parametrize(
    ("dialect", "operation"),
    [
        (UPSTREAMS[0], Operation.MESSAGES),
        (UPSTREAMS[1], Operation.COUNT_TOKENS),
    ],
)
def test_body_is_passed_on_byte_by_byte(dialect: UpstreamDialect, operation: Operation) -> None:
    """Only the model and the gateway's own keys change; unknown fields are left as they are."""
    body = (
        b'{"model" :"a", "thinking":{"type":"adaptive"},\t"fallbacks": ["b"],'
        b'"metadata": {"user_id": "{\\"a\\": 1}", "plano_preference_config": 1}, "new": 1e3}'
    )
    read = read_document(body, unique=MessagesClient().fields.read)
    assert dialect.pass_on(read, MessagesClient().fields, "c", NO_QUIRK) == (
        b'{"model" :"c", "thinking":{"type":"adaptive"},'
        b'"metadata": {"user_id": "{\\"a\\": 1}"}, "new": 1e3}'
    )
    assert dialect.operation is operation
    assert dialect.address("c", stream=True) == PATHS[operation]


def test_names_and_paths_are_those_of_the_operations() -> None:
    """A client dialect has the name and the path of its operation."""
    assert [(client.name, client.path) for client in CLIENTS] == [
        ("messages", "/messages"),
        ("count_tokens", "/messages/count_tokens"),
    ]


def test_keep_alive_is_one_ping() -> None:
    """A silent stream is kept alive by an event that all clients of the dialect skip."""
    ping = MessagesClient().keep_alive
    assert Framer().feed(ping) == ping
    event = parse_event(ping.strip())
    assert (event.name, json.loads(event.data or b"")) == ("ping", {"type": "ping"})
    watch = MessagesWatch()
    watch.feed(ping)
    assert watch.state is StreamState.PREAMBLE
    assert CountTokensClient().keep_alive == b""


def test_messages_upstream_watches_streams() -> None:
    """Each stream has a watch of its own."""
    watch = MessagesUpstream().watch(Intent(choices=2))
    watch.feed(b'event: message_stop\ndata: {"type": "message_stop"}\n\n')
    assert watch.state is StreamState.EMPTY
    assert MessagesUpstream().watch(Intent()).state is StreamState.PREAMBLE


OWN_ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
NOTHING = "the answer holds neither content nor a stop reason"
NO_OBJECT, NO_MESSAGE = "the answer is not a JSON object", "the answer is not a message"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ANSWER, None),
        ({**ANSWER, "content": []}, None),
        ({**ANSWER, "error": None}, None),
        ({**ANSWER, "content": [], "stop_reason": "max_tokens"}, None),
        ({**ANSWER, "content": [], "stop_reason": "refusal", "stop_details": None}, None),
        ({**ANSWER, "content": [], "stop_reason": None}, (NOTHING, None)),
        ({"type": "message", "role": "assistant", "content": []}, (NOTHING, None)),
        ({"type": "message", "content": [], "error": {"message": "no", "code": 429}}, ("no", 429)),
        ({"type": "message", "content": [], "error": "no"}, ("no", None)),
        (
            {**ANSWER, "stop_reason": "error"},
            ("the provider ended its answer with stop_reason 'error'", 502),
        ),
        ({**ANSWER, "stop_reason": "error", "error": {"code": 503, "message": "no"}}, ("no", 503)),
        ({**ANSWER, "content": [{"type": "text", "text": '"error" "choices"'}]}, None),
        ({**ANSWER, "content": None, "error": 1}, ("the answer holds no list `content`", None)),
        (OWN_ERROR, ("Overloaded", 529)),
        ({"error": {"message": "no", "code": 429}}, ("no", 429)),
        ({"error": "no"}, ("no", None)),
        ({"choices": [{"message": {"content": "Hi"}}]}, (NO_MESSAGE, None)),
        ({}, (NO_MESSAGE, None)),
        ([], (NO_OBJECT, None)),
    ],
)
@pytest.mark.parametrize("may_be_torn", [False, True])
def test_check_answer_accepts_messages_only(
    answer: Json, error: tuple[str, int | None] | None, *, may_be_torn: bool
) -> None:
    """A message is accepted; an error has its status, and any other body only a message."""
    body = json.dumps(answer).encode()
    info = MessagesUpstream().check_answer(body, may_be_torn=may_be_torn)
    assert (None if info is None else (info.message, info.status)) == error
    if error is None:
        Message.model_validate(answer)


def test_check_answer_parses_body_that_may_be_torn() -> None:
    """Without a length a body may end early, and still end with a brace."""
    torn = json.dumps(ANSWER).encode()[:-1]
    assert torn.endswith(b"}")
    assert check_answer(torn, may_be_torn=False) is None
    assert check_answer(torn, may_be_torn=True) is not None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"input_tokens": 3}, None),
        ({"input_tokens": 0, "context_management": {}}, None),
        ({"input_tokens": "3"}, ("the answer holds no number `input_tokens`", None)),
        (ANSWER, ("the answer holds no number `input_tokens`", None)),
        (OWN_ERROR, ("Overloaded", 529)),
        ([], (NO_OBJECT, None)),
    ],
)
def test_check_answer_accepts_counts_of_tokens_only(
    answer: Json, error: tuple[str, int | None] | None
) -> None:
    """A count is accepted; an error has its status, and any other body only a message."""
    info = CountTokensUpstream().check_answer(json.dumps(answer).encode(), may_be_torn=False)
    assert (None if info is None else (info.message, info.status)) == error
    if error is None:
        MessageTokensCount.model_validate(answer)


KEYS = ["type", "error", "message", "details", "error_code", "content", "code", "status"]


@given(json_values(KEYS, ["message", "error", "api_error"]))
def test_messages_upstream_accepts_any_json(answer: Json) -> None:
    """Any JSON body of a provider is judged without an exception."""
    body = json.dumps(answer).encode()
    for dialect in UPSTREAMS:
        for may_be_torn in (False, True):
            for error in (
                dialect.read_error(body),
                dialect.check_answer(body, may_be_torn=may_be_torn),
            ):
                if error is not None:
                    assert error.status is None or error.status in range(400, 600)
                    assert isinstance(error.message, str)
                    assert error.body in (b"", body)
