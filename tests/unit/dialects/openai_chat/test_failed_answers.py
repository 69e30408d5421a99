"""Chat completions that look whole and are not."""

import json
from itertools import combinations

import pytest

from serve_app.dialects import ir
from serve_app.dialects.openai_chat.errors import check_answer
from serve_app.dialects.openai_chat.stream import ChatWatch
from serve_app.dialects.openai_errors import OpenAIErrors
from serve_app.dialects.pipe import PassThrough
from serve_app.dialects.protocol import ErrorInfo, StreamState
from serve_app.domain import Json
from serve_app.errors import UpstreamTimeout
from tests.unit.dialects.openai_chat.chat_samples import CODEC, read_stream
from tests.unit.dialects.streams import watch_stream
from tests.unit.fakes import pieces

NO_CHOICES = "the answer holds no choices"
NO_MESSAGE = "the answer holds a choice without a message"
REPORT: Json = {"code": 429, "message": "try later", "metadata": {"provider": "x"}}
FAILED: Json = {"finish_reason": "error", "message": {"content": ""}}
UNEXPLAINED = "the provider ended its answer with finish_reason 'error'"
STARVED = "the provider ended its answer with finish_reason 'insufficient_system_resource'"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"id": "x", "choices": [], "usage": {}}, (NO_CHOICES, None)),
        ({"choices": None, "usage": {"a": 1}}, (NO_CHOICES, None)),
        ({"choices": [], "message": "busy"}, (f"{NO_CHOICES}: busy", None)),
        ({"choices": None, "base_resp": {"status_msg": "login fail"}}, (f"{NO_CHOICES}: login fail", None)),
        ({"choices": [{}]}, (NO_MESSAGE, None)),
        ({"choices": [None]}, (NO_MESSAGE, None)),
        ({"choices": [{"message": None, "finish_reason": "stop"}]}, (NO_MESSAGE, None)),
        ({"choices": [{**FAILED, "error": REPORT}]}, ("try later", 429)),
        ({"choices": [FAILED], "error": REPORT}, ("try later", 429)),
        ({"choices": [FAILED]}, (UNEXPLAINED, 502)),
        ({"choices": [{"message": {"content": "Hi"}}, {**FAILED, "error": "no"}]}, ("no", 502)),
        ({"choices": [{"message": {"content": "Hi"}, "error": REPORT}]}, ("try later", 429)),
        ({"choices": [{**FAILED, "finish_reason": "insufficient_system_resource"}]}, (STARVED, 503)),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}, None),
        ({"choices": [{"message": {"tool_calls": [{}]}, "finish_reason": "tool_calls"}]}, None),
        ({"choices": [{"text": "", "finish_reason": "stop", "error": None}]}, None),
        ({"choices": [{"message": {"content": '"finish_reason": "error"'}}]}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("may_be_torn", [False, True])
def test_check_answer_finds_failed_choices(
    answer: Json, error: tuple[str, int | None] | None, *, may_be_torn: bool
) -> None:
    """An answer without a choice, or whose choice failed, is an error in the provider's words."""
    for body in (json.dumps(answer), json.dumps(answer, separators=(",", ":"))):
        info = check_answer(body.encode(), may_be_torn=may_be_torn)
        assert (None if info is None else (info.message, info.status)) == error


@pytest.mark.parametrize("choice", [FAILED, {**FAILED, "error": REPORT}])
def test_failed_answer_cannot_be_read(choice: Json) -> None:
    """A translation refuses it, too."""
    with pytest.raises(ValueError, match=r"finish_reason|try later"):
        CODEC.read_answer({"choices": [choice]})


def chunk(delta: Json, **choice: Json) -> bytes:
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


ROLE, WORD = chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"})
STOP, DONE = chunk({}, finish_reason="stop"), b"data: [DONE]\n\n"
NOTHING = b'data: {"id": "", "choices": [], "prompt_filter_results": [{"a": 1}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'
FAILURE = chunk({"content": ""}, finish_reason="error", error=REPORT)
NO_WORDS = chunk({}, finish_reason="error")
STARVING = chunk({}, finish_reason="insufficient_system_resource")
BOTH = (
    b'data: {"error": {"message": "off"}, "choices": [{"delta": {}, "finish_reason": "error"}]}\n\n'
)
EMPTY, COMPLETE, SPEAKING = StreamState.EMPTY, StreamState.COMPLETE, StreamState.SPEAKING
LOST, PREAMBLE = StreamState.FAILED, StreamState.PREAMBLE

STREAMS: list[tuple[str, bytes, bytes, StreamState, str | None]] = [
    ("done alone", b"", DONE, EMPTY, None),
    ("nothing", NOTHING, b"", PREAMBLE, None),
    ("nothing and done", NOTHING, DONE, EMPTY, None),
    ("role and done twice", ROLE, DONE + DONE, EMPTY, None),
    ("usage and done", ROLE + USAGE, DONE + WORD, EMPTY, None),
    ("no choices", b'data: {"choices": null}\n\n', DONE, EMPTY, None),
    ("Azure's first chunk", NOTHING + ROLE + WORD + STOP + DONE, b"", COMPLETE, None),
    ("silent model", ROLE + STOP + USAGE + DONE, b"", COMPLETE, None),
    ("done twice", WORD + STOP + DONE + DONE, b"", COMPLETE, None),
    ("failure", b"", FAILURE + DONE, LOST, "try later"),
    ("failure after role", NOTHING + ROLE, FAILURE, LOST, "try later"),
    ("failure after word", ROLE + WORD, FAILURE + USAGE + DONE, LOST, "try later"),
    ("failure without words", WORD, NO_WORDS + DONE, LOST, UNEXPLAINED),
    ("no resources", WORD, STARVING, LOST, STARVED),
    ("error and failure", ROLE + WORD + BOTH + DONE, b"", COMPLETE, None),
    ("failure after the end", WORD + STOP + DONE + FAILURE, b"", COMPLETE, None),
    ("failure after the finish", WORD + STOP + FAILURE, b"", COMPLETE, None),
    ("quoted failure", chunk({"content": '"finish_reason": "error"'}), b"", SPEAKING, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("passed", "kept", "state", "message"),
    [case[1:] for case in STREAMS],
    ids=[case[0] for case in STREAMS],
)
@pytest.mark.parametrize("choices", [1, 2])
def test_watch_keeps_bad_end_back_at_every_split(
    passed: bytes, kept: bytes, state: StreamState, message: str | None, choices: int
) -> None:
    """What would pass for a good end does not go out, nor what follows it."""
    sent = passed + kept
    for cuts in combinations(range(0, len(sent) + 1, 1 + len(sent) // 20), 2):
        watched = watch_stream(ChatWatch(choices), pieces(sent, cuts))
        assert (watched.passed, watched.state) == (passed, state)
        assert (None if watched.error is None else watched.error.message) == message


@pytest.mark.parametrize("end", [DONE[:-2], FAILURE[:-2], FAILURE[:-1]])
def test_last_event_may_lack_its_blank_line(end: bytes) -> None:
    """It is kept back all the same."""
    watched = watch_stream(ChatWatch(), [ROLE + end])
    assert watched.passed == ROLE
    assert watched.state.is_lost


def test_failure_ends_the_stream_in_the_providers_words() -> None:
    """The client gets an error event in place of the end; also if the connection breaks then."""
    for broken in (None, UpstreamTimeout("late")):
        pipe = PassThrough(ChatWatch(), OpenAIErrors())
        assert pipe.feed(WORD + FAILURE) == WORD
        assert pipe.feed(DONE) == b""
        assert (pipe.state, pipe.error) == (LOST, ErrorInfo("try later", 429))
        event = pipe.end(broken)
        assert not pipe.state.may_end
        error = json.loads(event.removeprefix(b"data: "))["error"]
        assert (error["message"], error["type"]) == ("try later", "rate_limit_error")


def test_reader_tells_failure_of_choice() -> None:
    """Status and words are those of the error beside the finish reason."""
    report: Json = {"code": 429, "message": "try \ud800later"}
    choice: Json = {"index": 0, "delta": {}, "finish_reason": "error", "error": report}
    assert read_stream({"choices": [choice]}) == [ir.Failed("try ?later", 429)]
    choice = {"index": 0, "delta": {}, "finish_reason": "insufficient_system_resource"}
    assert read_stream({"choices": [choice]}) == [ir.Failed(STARVED, 503)]
