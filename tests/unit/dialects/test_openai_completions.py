"""The parts of OpenAI's legacy completions that the gateway depends on."""

import json
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion

from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import NO_QUIRK, Document, read_document
from serve_app.dialects.openai_completions import CompletionsClient, CompletionsUpstream
from serve_app.dialects.protocol import ClientDialect, StreamState, UpstreamDialect
from serve_app.domain import Json, Turn
from serve_app.errors import InvalidRequest, UpstreamFailed
from serve_app.exchange import Operation
from tests.unit.dialects.streams import event_streams, json_values, watch_stream
from tests.unit.fakes import pieces

CLIENT: ClientDialect = CompletionsClient()
UPSTREAM: UpstreamDialect = CompletionsUpstream()


def document(body: Json) -> Document:
    return read_document(json.dumps(body).encode(), unique=CLIENT.fields.read)


@pytest.mark.parametrize(
    ("prompt", "n", "text", "choices"),
    [
        ("Once", None, "Once", 1),
        ("Once", 3, "Once", 3),
        (["a", "b"], 2, "a\nb", 4),
        ([1, 2, 3], 2, "", 2),
        ([[1], [2]], None, "", 2),
        ([], None, "", 1),
        (None, "many", "", 1),
        ("", None, "", 1),
    ],
)
def test_prompts_are_one_turn_of_a_user(prompt: Json, n: Json, text: str, choices: int) -> None:
    """The texts are one turn; each prompt has as many answers as the client asks for."""
    body = document({"model": "a", "fallbacks": ["b"], "stream": True, "prompt": prompt, "n": n})
    assert CLIENT.read_intent(body) == Intent("a", ("b",), stream=True, choices=choices)
    read = CLIENT.read_conversation(body)
    assert read.turns == ((Turn("user", text),) if text else ())
    assert read.characters == len(body.text)


@pytest.mark.parametrize("prompt", [7, {}, True])
def test_malformed_prompt_is_refused(prompt: Json) -> None:
    """A prompt of another type is refused with the name of the field."""
    with pytest.raises(InvalidRequest) as caught:
        CLIENT.read_conversation(document({"prompt": prompt}))
    assert caught.value.param == "prompt"


def test_completions_body_is_passed_on() -> None:
    """All bytes but the model and the gateway's own keys are equal."""
    read = document({"model": "a", "models": [], "prompt": "x", "logprobs": 3})
    body = UPSTREAM.pass_on(read, CLIENT.fields, "b", NO_QUIRK)
    assert body == b'{"model": "b", "prompt": "x", "logprobs": 3}'
    assert UPSTREAM.operation is Operation.COMPLETIONS
    assert (CLIENT.name, CLIENT.path) == ("completions", UPSTREAM.address("b", stream=True))


def test_completions_errors_have_openai_shape() -> None:
    """Errors are rendered, and read, as those of OpenAI; so are events of a stream."""
    body = CLIENT.render_error(UpstreamFailed("no"))
    info = UPSTREAM.read_error(body)
    assert info is not None
    assert (info.message, info.body) == ("no", body)
    watch = UPSTREAM.watch(Intent())
    watch.feed(CLIENT.keep_alive + CLIENT.render_error_event(UpstreamFailed("no")))
    assert watch.error is not None
    assert watch.error.message == "no"


def test_check_answer_accepts_completions_only() -> None:
    """An answer with choices is accepted."""
    choice = {"index": 0, "text": "x", "finish_reason": "stop", "logprobs": None}
    answer = {
        "id": "1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }
    Completion.model_validate(answer)
    assert UPSTREAM.check_answer(json.dumps(answer).encode(), may_be_torn=True) is None
    assert UPSTREAM.check_answer(b'{"data": []}', may_be_torn=False) is not None


def chunk(text: str, finish: str | None = None, index: int = 0) -> str:
    choice = {"index": index, "text": text, "finish_reason": finish, "logprobs": None}
    return f"data: {json.dumps({'object': 'text_completion', 'choices': [choice]})}\n\n"


DONE = "data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("stream", "choices", "state"),
    [
        ("", 1, StreamState.PREAMBLE),
        (DONE, 1, StreamState.EMPTY),
        (chunk("Once"), 1, StreamState.SPEAKING),
        (chunk("[DONE]"), 1, StreamState.SPEAKING),
        (chunk("Once") + chunk("", "stop"), 1, StreamState.COMPLETE),
        (chunk("Once") + DONE, 1, StreamState.COMPLETE),
        (chunk("a") + chunk("b", None, 1) + chunk("", "stop"), 2, StreamState.SPEAKING),
        (chunk("a", "stop") + chunk("b", "length", 1), 2, StreamState.COMPLETE),
    ],
)
def test_stream_of_completions_is_complete_with_all_its_choices(
    stream: str, choices: int, state: StreamState
) -> None:
    """A stream is complete with [DONE], or with a finish reason for every choice."""
    sent = stream.encode()
    for cuts in combinations(range(0, len(sent) + 1, 5), 2):
        watch = UPSTREAM.watch(Intent(choices=choices))
        passed = b"" if state is StreamState.EMPTY else sent
        assert watch_stream(watch, pieces(sent, cuts)) == (passed, state, None)


VALUES = json_values(["choices", "text", "index", "finish_reason", "error"], ["stop"])


@given(event_streams(["message", ""], VALUES), st.lists(st.integers(0, 300), max_size=4))
def test_completions_watch_accepts_any_stream_at_any_split(stream: bytes, cuts: list[int]) -> None:
    """No JSON event raises, and neither bytes nor state nor error depend on the chunks."""
    whole = watch_stream(UPSTREAM.watch(Intent()), [stream])
    inside = [cut for cut in cuts if cut < len(stream)]
    assert watch_stream(UPSTREAM.watch(Intent()), pieces(stream, inside)) == whole
