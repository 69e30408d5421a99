"""The parts of OpenAI embeddings that the gateway depends on."""

import json

import pytest
from hypothesis import given
from openai.types import CreateEmbeddingResponse

from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import NO_QUIRK, Document, read_document
from serve_app.dialects.openai_embeddings import EmbeddingsClient, EmbeddingsUpstream
from serve_app.dialects.protocol import ClientDialect, StreamState, UpstreamDialect
from serve_app.domain import Json, Turn
from serve_app.errors import InvalidRequest, UpstreamFailed
from serve_app.exchange import Operation
from tests.unit.dialects.streams import json_values, watch_stream

CLIENT: ClientDialect = EmbeddingsClient()
UPSTREAM: UpstreamDialect = EmbeddingsUpstream()
ANSWER = {
    "object": "list",
    "model": "m",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
    "usage": {"prompt_tokens": 1, "total_tokens": 1},
}


def document(body: Json) -> Document:
    return read_document(json.dumps(body).encode(), unique=CLIENT.fields.read)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Hello", "Hello"),
        (["a", "b"], "a\nb"),
        (["", "a", ""], "a"),
        ("x" * 3000, "x" * 2000),
        (["x" * 1500] * 1000, f"{'x' * 1500}\n{'x' * 499}"),
        ([1, 2, 3], ""),
        ([[1, 2], [3]], ""),
        ([], ""),
        ("", ""),
        (["a", 1, None, {}, "b"], "a\nb"),
    ],
)
def test_input_is_one_turn_of_a_user(value: Json, text: str) -> None:
    """The texts are one turn, cut where they are long; lists of tokens are not text."""
    body = document({"input": value})
    read = CLIENT.read_conversation(body)
    assert read.turns == ((Turn("user", text),) if text else ())
    assert read.first_user_text == (text or None)
    assert read.user_spoke_last is bool(text)
    assert (read.system_text, read.tool_names) == ("", ())
    assert not read.has_open_tool_loop
    assert not read.has_provider_state
    assert read.characters == len(body.text)


@pytest.mark.parametrize("body", [{}, {"input": None}, {"input": 7}, {"input": {}}])
def test_input_is_required(body: Json) -> None:
    """A body without an input is refused with the name of the field."""
    with pytest.raises(InvalidRequest) as caught:
        CLIENT.read_conversation(document(body))
    assert caught.value.param == "input"


def test_embeddings_are_not_streamed() -> None:
    """The field of other dialects is not read, and any stream is without content."""
    body = {"model": "a", "fallbacks": ["b"], "stream": True, "n": 3}
    assert CLIENT.read_intent(document(body)) == Intent("a", ("b",))
    stream = [b'data: {"data": []}\n\n', b"event: error\ndata: {}\n\ndata: [DONE]\n\n"]
    watched = watch_stream(UPSTREAM.watch(Intent()), stream)
    assert watched == (b"".join(stream), StreamState.PREAMBLE, None)
    assert CLIENT.keep_alive == b""


def test_embeddings_body_is_passed_on() -> None:
    """All bytes but the model and the gateway's own keys are equal."""
    read = document({"model": "a", "models": [], "input": "x", "encoding_format": "base64"})
    body = UPSTREAM.pass_on(read, CLIENT.fields, "b", NO_QUIRK)
    assert body == b'{"model": "b", "input": "x", "encoding_format": "base64"}'
    assert UPSTREAM.operation is Operation.EMBEDDINGS
    assert (CLIENT.name, CLIENT.path) == ("embeddings", UPSTREAM.address("b", stream=False))


NO_OBJECT, NO_DATA = "the answer is not a JSON object", "the answer holds no list `data`"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ANSWER, None),
        ({**ANSWER, "error": None}, None),
        ({"error": {"message": "no", "type": "rate_limit_error"}}, ("no", 429)),
        ({"data": None, "error": {"message": "no"}}, ("no", 502)),
        ({"error": "no"}, ("no", None)),
        ({**ANSWER, "data": []}, ("the answer holds no embeddings", None)),
        ({"data": [], "error": {"message": "no"}}, ("no", 502)),
        ({}, (NO_DATA, None)),
        ([], (NO_OBJECT, None)),
    ],
)
@pytest.mark.parametrize("may_be_torn", [False, True])
def test_check_answer_accepts_embeddings_only(
    answer: Json, error: tuple[str, int | None] | None, *, may_be_torn: bool
) -> None:
    """A list of embeddings is accepted; an error has its status, other bodies only a message."""
    info = UPSTREAM.check_answer(json.dumps(answer).encode(), may_be_torn=may_be_torn)
    assert (None if info is None else (info.message, info.status)) == error
    if error is None:
        CreateEmbeddingResponse.model_validate(answer)


def test_embeddings_errors_have_openai_shape() -> None:
    """Errors are rendered and read as those of OpenAI."""
    body = CLIENT.render_error(UpstreamFailed("no"))
    assert json.loads(body)["error"]["message"] == "no"
    info = UPSTREAM.read_error(body)
    assert info is not None
    assert info.body == body
    assert UPSTREAM.read_error(b"{}") is None


@given(json_values(["data", "error", "message", "code", "status", "type"], ["server_error"]))
def test_embeddings_upstream_accepts_any_json(answer: Json) -> None:
    """Any JSON body of a provider is judged without an exception."""
    body = json.dumps(answer).encode()
    for may_be_torn in (False, True):
        error = UPSTREAM.check_answer(body, may_be_torn=may_be_torn)
        assert error is None or isinstance(error.message, str)
