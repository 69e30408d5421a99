"""Complete answers of Anthropic, and how the official SDK reads what is written."""

from typing import get_args

import pytest
from anthropic.types import Message, StopReason, Usage
from hypothesis import given

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.codec import MessagesCodec
from serve_app.dialects.signatures import unwrap, wrap
from serve_app.domain import Json
from tests.unit.dialects.streams import json_values

CODEC = MessagesCodec()
REQUEST = ir.Request("messages", ())
USAGE = {
    "input_tokens": 3,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 5,
    "cache_creation": {"ephemeral_1h_input_tokens": 2, "ephemeral_5m_input_tokens": 3},
    "output_tokens": 7,
    "output_tokens_details": {"thinking_tokens": 6},
    "service_tier": "priority",
}
READ_USAGE = ir.Usage(3, 4, 5, 7, 6, 2)


def read(*content: Json, **fields: Json) -> ir.Answer:
    return CODEC.read_answer({"id": "msg_1", "model": "m", "content": list(content), **fields})


def write(*parts: ir.AnswerPart, request: ir.Request = REQUEST, **fields: Json) -> dict[str, Json]:
    answer = ir.Answer("1", "m", parts, **{"finish": ir.Finish.STOP, **fields})
    body = CODEC.write_answer(answer, request).body
    Message.model_validate(body, strict=True)
    assert body.keys() == Message.model_fields.keys() - {"diagnostics"}
    return body


def test_every_block_is_read() -> None:
    """Blocks of the provider's own tools never become calls of the client's."""
    source = {"type": "web_search_result_location", "url": "u", "title": None, "cited_text": "c"}
    answer = read(
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "server_tool_use", "id": "i", "name": "web_search", "input": {"q": 1}},
        {"type": "web_search_tool_result", "tool_use_id": "i", "content": []},
        {"type": "text", "text": "a", "citations": [source, {"type": "char_location"}]},
        {"type": "tool_use", "id": "i", "name": "n", "input": {"a": 1}},
        {"type": "tool_use", "name": "n", "input": {}},
        {"type": "tool_use", "name": "n", "input": '{"b":2}'},
        "torn",
        stop_reason="tool_use",
        usage=USAGE,
    )
    assert answer == ir.Answer(
        "msg_1",
        "m",
        (
            ir.Thinking("t", "s", "messages"),
            ir.Thinking("", "d", "messages", is_redacted=True),
            ir.Foreign("server_tool_use"),
            ir.Foreign("web_search_tool_result"),
            ir.Text("a", (ir.Citation("u", cited="c"),)),
            ir.ToolCall("i", "n", '{"a":1}'),
            ir.ToolCall("toolu_1_6", "n"),
            ir.ToolCall("toolu_1_7", "n", '{"b":2}'),
            ir.Foreign("unknown"),
        ),
        ir.Finish.TOOL_CALLS,
        usage=READ_USAGE,
        service_tier="priority",
    )


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", ir.Finish.STOP),
        ("stop_sequence", ir.Finish.STOP_SEQUENCE),
        ("max_tokens", ir.Finish.LENGTH),
        ("tool_use", ir.Finish.TOOL_CALLS),
        ("pause_turn", ir.Finish.PAUSED),
        ("refusal", ir.Finish.REFUSED),
        ("model_context_window_exceeded", ir.Finish.CONTEXT_FULL),
        ("compaction", ir.Finish.PAUSED),
        ("of_tomorrow", ir.Finish.STOP),
        (None, ir.Finish.STOP),
    ],
)
def test_stop_reasons_are_read(reason: Json, finish: ir.Finish) -> None:
    """Unknown reasons count as a stop."""
    assert read(stop_reason=reason).finish is finish


def test_calls_finish_an_answer_whose_server_forgets_it() -> None:
    """Clients run tools only if the reason says so."""
    call = {"type": "tool_use", "id": "i", "name": "n", "input": {}}
    assert read(call, stop_reason="end_turn").finish is ir.Finish.TOOL_CALLS
    assert read(call, stop_reason="max_tokens").finish is ir.Finish.LENGTH


def test_explanation_of_a_refusal_is_read() -> None:
    """It is all that the client learns."""
    details = {"type": "refusal", "explanation": "no"}
    answer = read(stop_reason="refusal", stop_details=details)
    assert answer.parts == (ir.Refusal("no"),)
    assert read(stop_reason="end_turn", stop_details=details).parts == ()


@pytest.mark.parametrize(
    ("usage", "read_usage"),
    [
        (None, None),
        ({}, None),
        ({"output_tokens": "many"}, None),
        ({"output_tokens": 7.0}, ir.Usage(output=7)),
        ({"input_tokens": -1, "output_tokens": True}, None),
        (
            {"input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 4}},
            ir.Usage(1, cache_write=4),
        ),
    ],
)
def test_usage_is_read(usage: Json, read_usage: ir.Usage | None) -> None:
    """Counts of another type count as absent."""
    assert read(usage=usage).usage == read_usage


@pytest.mark.parametrize("answer", [{}, {"content": "x"}, {"content": {}}])
def test_other_objects_are_not_answers(answer: dict[str, Json]) -> None:
    """An object without content is an error of the provider."""
    with pytest.raises(ValueError, match="content"):
        CODEC.read_answer(answer)


def test_deep_nesting_is_not_an_answer() -> None:
    """Arguments that are nested too deeply cannot be written as text."""
    deep: Json = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="deeply"):
        read({"type": "tool_use", "id": "i", "name": "n", "input": deep})


def test_every_part_is_written() -> None:
    """The official SDK reads it; what has no block is reported."""
    answer = ir.Answer(
        "chatcmpl-1",
        "m",
        (
            ir.Thinking("t", "s", "messages"),
            ir.Thinking("t", "s", "chat"),
            ir.Thinking("t", None, "chat"),
            ir.Thinking("", None, "chat"),
            ir.Thinking("", "d", "responses", is_redacted=True),
            ir.Thinking("", None, "responses", is_redacted=True),
            ir.Text(" "),
            ir.Text("a", (ir.Citation("u"),)),
            ir.ToolCall("call_1", "n", '{"a":1}'),
            ir.ToolCall("", "n", ""),
            ir.ToolCall("call_2", "n", "{torn"),
            ir.Foreign("web_search_call"),
        ),
        ir.Finish.TOOL_CALLS,
        usage=READ_USAGE,
        service_tier="default",
    )
    body, dropped = CODEC.write_answer(answer, REQUEST)
    Message.model_validate(body, strict=True)
    assert body["id"] == "msg_chatcmpl-1"
    assert body["content"] == [
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "thinking", "thinking": "t", "signature": wrap("chat", "s")},
        {"type": "thinking", "thinking": "t", "signature": ""},
        {"type": "redacted_thinking", "data": wrap("responses", "d")},
        {"type": "text", "text": "a", "citations": None},
        {"type": "tool_use", "id": "call_1", "name": "n", "input": {"a": 1}},
        {"type": "tool_use", "id": "toolu_chatcmpl-1_9", "name": "n", "input": {}},
        {"type": "tool_use", "id": "call_2", "name": "n", "input": {"raw_arguments": "{torn"}},
    ]
    assert dropped == ("citations", "web_search_call")
    assert unwrap(body["content"][1]["signature"]) == ("chat", "s")


@pytest.mark.parametrize("finish", ir.Finish)
def test_every_finish_has_a_stop_reason_of_the_sdk(finish: ir.Finish) -> None:
    """Clients match the reasons that they know."""
    assert write(ir.Text("a"), finish=finish)["stop_reason"] in get_args(StopReason)


def test_stop_sequence() -> None:
    """It is told if the provider says it, or there is only one."""
    one = ir.Request("messages", (), stop=("x",))
    two = ir.Request("messages", (), stop=("x", "y"))
    stopped = ir.Finish.STOP_SEQUENCE
    assert write(finish=stopped, stop_sequence="y", request=two)["stop_sequence"] == "y"
    assert write(finish=stopped, request=one)["stop_sequence"] == "x"
    assert write(finish=stopped, request=two)["stop_sequence"] is None
    assert write(finish=ir.Finish.STOP, stop_sequence="x", request=one)["stop_sequence"] is None


def test_refusal_is_a_text_with_its_reason() -> None:
    """OpenAI says `stop` to a refusal; Anthropic's clients look at the reason."""
    body = write(ir.Refusal("no"))
    assert body["content"] == [{"type": "text", "text": "no", "citations": None}]
    assert body["stop_reason"] == "refusal"
    assert body["stop_details"] == {"type": "refusal", "category": None, "explanation": "no"}
    assert write(finish=ir.Finish.FILTERED)["stop_details"]["explanation"] is None


def test_usage_is_written_in_full() -> None:
    """Every count has its field; without counts they are zero."""
    usage = write(usage=READ_USAGE, service_tier="priority")["usage"]
    assert usage == {**USAGE, "server_tool_use": None}
    assert usage.keys() == Usage.model_fields.keys() - {"inference_geo", "speed"}
    empty = write()["usage"]
    assert (empty["input_tokens"], empty["output_tokens"], empty["service_tier"]) == (0, 0, None)


def test_answer_survives_the_way_through_both() -> None:
    """What is written reads as the same answer."""
    parts = (
        ir.Thinking("t", "s", "messages"),
        ir.Text("é"),
        ir.ToolCall("toolu_1", "n", '{"a":"\\ud800"}'),
    )
    answer = ir.Answer("msg_1", "m", parts, ir.Finish.TOOL_CALLS, usage=READ_USAGE)
    read_again = CODEC.read_answer(CODEC.write_answer(answer, REQUEST).body)
    assert read_again.parts[:2] == parts[:2]
    assert read_again.usage == answer.usage
    assert read_again.finish is answer.finish


KEYS = ["type", "text", "thinking", "signature", "id", "name", "input", "citations", "url"]
TEXTS = ["text", "thinking", "tool_use", "redacted_thinking", "refusal", "stop_sequence"]
VALUES = json_values(KEYS, TEXTS)


@given(VALUES, VALUES, VALUES)
def test_any_answer_is_read_and_written(content: Json, reason: Json, usage: Json) -> None:
    """Only a content that is not a list is refused, and the SDK reads what is written."""
    answer = {"content": content, "stop_reason": reason, "usage": usage, "stop_details": usage}
    try:
        read_answer = CODEC.read_answer(answer)
    except ValueError:
        assert not isinstance(content, list)
        return
    Message.model_validate(CODEC.write_answer(read_answer, REQUEST).body)
