"""The parts of OpenAI chat completions that the gateway depends on."""

import json
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.access_errors import InvalidClientKey
from serve_app.dialects.message_list import read_turns
from serve_app.dialects.openai_chat.dialect import ChatClient, ChatUpstream
from serve_app.dialects.openai_chat.errors import check_answer
from serve_app.dialects.openai_chat.stream import ChatWatch, is_preamble
from serve_app.dialects.openai_errors import event_error, read_error
from serve_app.dialects.protocol import StreamState
from serve_app.dialects.sse import Event, Framer
from serve_app.domain import Json, Turn
from serve_app.errors import (
    BodyTooLarge,
    GatewayError,
    InvalidRequest,
    NoModel,
    UnknownModel,
    UpstreamFailed,
    UpstreamTimeout,
)
from tests.unit.fakes import pieces


def choice(delta: Json, finish: str | None = None, index: int = 0) -> str:
    return json.dumps({"choices": [{"index": index, "delta": delta, "finish_reason": finish}]})


@pytest.mark.parametrize(
    ("data", "preamble"),
    [
        (None, True),
        (choice({"role": "assistant"}), True),
        (choice({"role": "assistant", "content": ""}), True),
        (choice({"role": "assistant", "content": None, "refusal": None}), True),
        (choice({}), True),
        (choice({"tool_calls": []}), True),
        ('{"choices": []}', True),
        ('{"choices": [], "prompt_filter_results": [{"a": 1}]}', True),
        ('{"choices": [], "usage": null}', True),
        ('{"choices": [{"index": 0, "delta": {}, "finish_reason": ""}]}', True),
        (choice({"content": "Hi"}), False),
        (choice({"content": " "}), False),
        (choice({"role": "assistant", "content": "Hi"}), False),
        (choice({"reasoning_content": "Hm"}), False),
        (choice({"tool_calls": [{"index": 0}]}), False),
        (choice({"refusal": "No"}), False),
        (choice({}, "stop"), False),
        ('{"choices": [{"delta": {}}, {"delta": {"content": "b"}}]}', False),
        ('{"choices": [{"text": "completions"}]}', False),
        ('{"choices": [{}]}', True),
        ('{"choices": [{"delta": {"role": "assistant"}}], "usage": {"total_tokens": 3}}', True),
        ('{"choices": [{"delta": {"content": "a"}}], "usage": {"total_tokens": 3}}', False),
        ('{"choices": [1]}', False),
        ('{"choices": [], "usage": {"total_tokens": 3}}', True),
        ('{"error": {"message": "no"}}', False),
        ('{"choices": [], "error": "no"}', False),
        ('{"choices": null}', True),
        ('{"id": "x"}', True),
        ('{"choices": [{"text": ""}]}', True),
        ("[DONE]", False),
        ("[1]", False),
        ("not json", False),
        ("", False),
        ("[" * 100_000, False),
    ],
)
def test_preamble_has_no_content(data: str | None, *, preamble: bool) -> None:
    """Comments, roles and empty deltas are preamble; text, tool calls, finish reasons and errors
    are not.
    """
    event = Event("", None if data is None else data.encode())
    assert is_preamble(event) is preamble


ROLE = f"data: {choice({'role': 'assistant'})}\n\n"
WORD = f"data: {choice({'content': 'Hé'})}\n\n"
STOP = f"data: {choice({}, 'stop')}\n\n"
TIGHT = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
LOOSE = 'data: {"choices": [{"index": 0, "finish_reason"  :\t"length"}]}\n\n'
OTHER = f"data: {choice({}, 'stop', 1)}\n\n"
TRAP = 'data: [DONE] "finish_reason": "stop" "error"'
QUOTED = f"data: {choice({'content': TRAP})}\n\n"
ERROR = 'data: {"error": {"message": "no"}}\n\n'

BOTH = 'data: {"choices": [{"finish_reason": "stop"}, {"index": 1, "finish_reason": %s}]}\n\n'

ENDINGS: list[tuple[str, int, str, bool]] = [
    ("done", 1, ROLE + WORD + "data: [DONE]\n\n", True),
    ("done without space", 1, WORD + "data:[DONE]\n\n", True),
    ("done with returns", 1, WORD + "data: [DONE]\r\n\r\n", True),
    ("finish", 1, ROLE + WORD + STOP, True),
    ("tight finish", 1, ROLE + TIGHT, True),
    ("loose finish", 1, WORD + LOOSE, True),
    ("usage after finish", 1, STOP + 'data: {"choices": [], "usage": {"a": 1}}\n\n', True),
    ("error event", 1, WORD + ERROR, True),
    ("error then nothing", 2, ERROR, True),
    ("nothing", 1, "", False),
    ("role", 1, ROLE, False),
    ("words", 1, ROLE + WORD + WORD, False),
    ("comment", 1, ": [DONE]\n\n", False),
    ("quoted", 1, QUOTED, False),
    ("null error", 1, 'data: {"error": null, "choices": []}\n\n', False),
    ("two of two", 2, STOP + OTHER, True),
    ("two of two and words", 2, WORD + OTHER + STOP, True),
    ("one of two seen", 2, WORD + OTHER, False),
    ("two in one event", 2, BOTH % "null", False),
    ("both in one event", 2, BOTH % '"length"', True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("choices", "stream", "complete"),
    [case[1:] for case in ENDINGS],
    ids=[case[0] for case in ENDINGS],
)
def test_watch_detects_end_at_every_split(choices: int, stream: str, *, complete: bool) -> None:
    """The watch detects whether a stream is complete, wherever its chunks are cut."""
    sent = stream.encode()
    for cuts in combinations(range(0, len(sent) + 1, 1 if len(sent) < 120 else 3), 2):
        watch = ChatWatch(choices)
        passed = b"".join(watch.feed(chunk) for chunk in pieces(sent, cuts))
        assert passed == sent
        assert (watch.state is StreamState.COMPLETE) is complete


def test_watch_reports_completion_at_last_event() -> None:
    """The watch reports a stream as complete at its last event and not before."""
    watch, states = ChatWatch(), []
    for event in (ROLE, WORD, STOP, "data: [DONE]\n\n"):
        watch.feed(event.encode())
        states.append(watch.state.value)
    assert states == ["preamble", "speaking", "complete", "complete"]


CHUNK_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 600) | st.floats() | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "index", "delta", "finish_reason", "error", "role", "code"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"choices": CHUNK_VALUES | st.lists(CHUNK_VALUES)}, optional={"error": CHUNK_VALUES}
    ),
    st.integers(1, 2),
)
def test_chat_upstream_accepts_any_json_event(chunk: Json, choices: int) -> None:
    """Any JSON event of a provider is judged without an exception."""
    data = json.dumps(chunk).encode()
    event = Event("", data)
    is_preamble(event)
    for error in (event_error(event), read_error(data), check_answer(data, may_be_torn=False)):
        if error is not None:
            assert error.status is None or error.status in range(400, 600)
            assert isinstance(error.message, str)
    ChatWatch(choices).feed(b"data: " + data + b'\n\ndata: {"finish_reason": "x"}\n\n')


@pytest.mark.parametrize(
    ("chunk", "choices"),
    [
        ('{"choices": [{"index": [], "finish_reason": "stop"}]}', 1),
        ('{"choices": [{"index": {}, "finish_reason": "stop"}]}', 2),
        ('{"choices": 5, "finish_reason": "stop"}', 1),
        ('{"choices": true}', 2),
    ],
)
def test_watch_accepts_malformed_choices(chunk: str, choices: int) -> None:
    """An index of any type, or choices that are not a list, do not raise."""
    ChatWatch(choices).feed(f"data: {chunk}\n\n".encode())


NO_OBJECT, NO_CHOICES = "the answer is not a JSON object", "the answer holds no choices"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"choices": []}', (NO_CHOICES, None)),
        (b'{"choices":[{"message":{}}]} \n', None),
        (b'{"error": {"message": "no"}}', ("no", 502)),
        (b'{"error": "no"}', ("no", None)),
        (b'{"choices": null, "error": {"code": 500}}', ('{"code": 500}', 500)),
        (b'{"choices": [], "error": {"code": 500}}', ('{"code": 500}', 500)),
        (b'{"choices": [{"message": {}}], "error": null}', None),
        (b'{"choices": [{"message": {}}], "error": {"code": 1}}', None),
        (b"{}", (NO_CHOICES, None)),
        (b'{"error": null}', (NO_CHOICES, None)),
        (b'data: {"choices": []}', (NO_OBJECT, None)),
        (b'{"choices": [', (NO_OBJECT, None)),
        (b"[]", (NO_OBJECT, None)),
        (b"<html>", (NO_OBJECT, None)),
        (b"", (NO_OBJECT, None)),
    ],
)
@pytest.mark.parametrize("may_be_torn", [False, True])
def test_check_answer_reports_error(
    body: bytes, error: tuple[str, int | None] | None, *, may_be_torn: bool
) -> None:
    """A completion is accepted; an error has its status, and any other body only a message."""
    info = ChatUpstream().check_answer(body, may_be_torn=may_be_torn)
    assert (None if info is None else (info.message, info.status)) == error


def test_check_answer_parses_body_without_length() -> None:
    """A body without a content length is parsed, because a truncated one may end with a brace."""
    torn = b'{"choices": [{"message": {}}'
    assert check_answer(torn, may_be_torn=False) is None
    assert check_answer(torn, may_be_torn=True) is not None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"error": {"message": "no"}}', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"error": null}', None),
        (b'{"error": {}}', None),
        (b'{"choices": []}', None),
        (b'["error"]', None),
        (b'{"error": ', None),
        (None, None),
    ],
)
def test_event_error_reads_error_events(data: bytes | None, message: str | None) -> None:
    """Only an object with a non-empty error is an error event."""
    info = event_error(Event("error", data))
    assert (None if info is None else info.message) == message
    assert info is None or info.body == data


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"status": 429}, 429),
        ({"code": 400}, 400),
        ({"code": 503, "type": "rate_limit_error"}, 503),
        ({"status": 200, "code": 404}, 404),
        ({"code": 200}, 502),
        ({"code": 600}, 502),
        ({"code": True}, 502),
        ({"type": "invalid_request_error"}, 400),
        ({"type": "authentication_error"}, 401),
        ({"type": "permission_error"}, 403),
        ({"type": "insufficient_quota"}, 429),
        ({"type": "rate_limit_error"}, 429),
        ({"type": "x", "code": "rate_limit_exceeded"}, 429),
        ({"type": ["x"]}, 502),
        ({"message": "no"}, 502),
        ("no", 502),
        (5, 502),
    ],
)
def test_event_error_derives_status(error: Json, status: int) -> None:
    """The status comes from numbers first, then from types and codes, and is 502 by default."""
    info = event_error(Event("", json.dumps({"error": error}).encode()))
    assert info is not None
    assert info.status == status


@pytest.mark.parametrize(
    ("error", "text"),
    [({"message": "nö"}, "nö"), ("no", "no"), ({"a": "ö"}, '{"a": "ö"}'), ({"message": 1}, '{"message": 1}')],
)  # fmt: skip
def test_event_error_has_text(error: Json, text: str) -> None:
    """The text is the error's message, or else the whole object."""
    info = event_error(Event("", json.dumps({"error": error}).encode()))
    assert info is not None
    assert info.message == text


@pytest.mark.parametrize(
    ("body", "is_error"),
    [
        (b'{"error": {"message": "no"}}', True),
        (b'{"error": {}}', True),
        (b'{"error": "no"}', False),
        (b'{"detail": "no"}', False),
        (b"[]", False),
        (b"no", False),
        (b"", False),
    ],
)
def test_read_error_accepts_error_objects_only(body: bytes, *, is_error: bool) -> None:
    """Only an error object is passed to clients unchanged."""
    info = ChatUpstream().read_error(body)
    assert (info is not None) is is_error
    assert info is None or info.body == body


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "param"),
    [
        (
            InvalidRequest("no", "stream"),
            None,
            "invalid_request_error",
            "invalid_request",
            "stream",
        ),
        (NoModel(), None, "invalid_request_error", "no_model", "model"),
        (InvalidClientKey(), None, "authentication_error", "invalid_api_key", None),
        (UnknownModel("x"), None, "invalid_request_error", "model_not_found", "model"),
        (BodyTooLarge(1), None, "invalid_request_error", "body_too_large", None),
        (GatewayError(), None, "server_error", "internal_error", None),
        (UpstreamTimeout("late"), None, "server_error", "upstream_timeout", None),
        (UpstreamFailed("no"), 429, "rate_limit_error", "upstream_error", None),
        (UpstreamFailed("no"), 403, "permission_error", "upstream_error", None),
        (UpstreamFailed("é"), 418, "invalid_request_error", "upstream_error", None),
    ],
)
def test_chat_error_has_openai_shape(
    error: GatewayError, status: int | None, kind: str, code: str, param: str | None
) -> None:
    """An error has exactly the message, type, param and code that the official SDKs read."""
    expected = {"message": str(error), "type": kind, "param": param, "code": code}
    assert json.loads(ChatClient().render_error(error, status=status)) == {"error": expected}


def test_chat_error_event_is_a_single_event() -> None:
    """An error in a stream is one whole event, whatever its text contains."""
    event = ChatClient().render_error_event(UpstreamFailed('a\n\n"b\r\rdata: c'))
    framer = Framer()
    assert framer.feed(event) == event
    assert event.count(b"\n") == 2
    assert json.loads(event.removeprefix(b"data: "))["error"]["message"] == 'a\n\n"b\r\rdata: c'


def test_read_turns_keeps_user_and_assistant_text() -> None:
    """Turns are the texts of user and assistant; text parts are joined, and other roles, other
    parts and empty texts are left out.
    """
    messages: Json = [
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": [{"type": "text", "text": "Hi"}, {"text": "there"}]},
        {"role": "user", "content": [{"type": "image_url"}, {"text": 1}, "x", {"text": "Look"}]},
        {"role": "user", "content": ""},
        {"role": ["user"], "content": "odd"},
        {"content": "nobody"},
    ]
    assert read_turns(messages) == (
        Turn("user", "Hello"),
        Turn("assistant", "Hi\nthere"),
        Turn("user", "Look"),
    )


@pytest.mark.parametrize(
    ("messages", "param"),
    [(None, "messages"), ("Hello", "messages"), ({}, "messages"), ([{}, "x"], "messages[1]")],
)
def test_read_turns_rejects_malformed_messages(messages: Json, param: str) -> None:
    """Malformed messages are rejected with their position."""
    with pytest.raises(InvalidRequest) as caught:
        read_turns(messages)
    assert caught.value.param == param
