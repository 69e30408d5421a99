"""Complete answers that a chat client gets."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from serve_app.dialects import ir, signatures
from serve_app.domain import Json
from tests.unit.dialects.openai_chat.chat_samples import (
    ANNOTATION,
    CHAT,
    CITATION,
    CODEC,
    HIDDEN,
    LEGACY,
    LOGPROB,
    USAGE,
    USAGE_BODY,
    answer,
    request,
    thinking,
)


def calls(*entries: Json) -> Json:
    return {"content": None, "tool_calls": list(entries)}


def call(name: str, arguments: Json, **fields: Json) -> Json:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **fields}


@pytest.mark.parametrize(
    ("whole", "message", "finish"),
    [
        (answer(ir.Text("a"), ir.Text("b")), {"content": "ab"}, "stop"),
        (answer(), {"content": ""}, "stop"),
        (
            answer(ir.Text("a", (CITATION,)), ir.Foreign("x"), ir.Text("bcd", (CITATION,))),
            {
                "content": "a\n\nbcd",
                "annotations": [
                    ANNOTATION,
                    {
                        "type": "url_citation",
                        "url_citation": {
                            "url": "https://a.example",
                            "title": "A",
                            "start_index": 3,
                            "end_index": 5,
                        },
                    },
                ],
            },
            "stop",
        ),
        (
            answer(ir.ToolCall("c", "f"), finish=ir.Finish.TOOL_CALLS),
            calls(call("f", "{}", id="c")),
            "tool_calls",
        ),
        (
            answer(ir.ToolCall("c", "g", "x", is_custom=True), finish=ir.Finish.TOOL_CALLS),
            calls({"id": "c", "type": "custom", "custom": {"name": "g", "input": "x"}}),
            "tool_calls",
        ),
        (
            answer(ir.Refusal("no"), finish=ir.Finish.REFUSED),
            {"content": None, "refusal": "no"},
            "stop",
        ),
        (answer(ir.Text("a"), finish=ir.Finish.REFUSED), {"content": "a"}, "content_filter"),
        (answer(ir.Text("a"), finish=ir.Finish.STOP_SEQUENCE), {"content": "a"}, "stop"),
        (answer(ir.Text("a"), finish=ir.Finish.LENGTH), {"content": "a"}, "length"),
        (answer(ir.Text("a"), finish=ir.Finish.CONTEXT_FULL), {"content": "a"}, "length"),
        (answer(ir.Text("a"), finish=ir.Finish.PAUSED), {"content": "a"}, "length"),
        (answer(ir.Text("a"), finish=ir.Finish.FILTERED), {"content": "a"}, "content_filter"),
        (
            answer(ir.Thinking("hm"), ir.Thinking("so"), ir.Text("a")),
            {"content": "a", "reasoning_content": "hm\n\nso"},
            "stop",
        ),
        (
            answer(
                ir.Thinking("hm", "s", "messages"),
                ir.Thinking("", "d", "messages", is_redacted=True),
                ir.Thinking("so", "r", "responses"),
            ),
            {
                "content": "",
                "reasoning_content": "hm\n\nso",
                "reasoning_details": [
                    {
                        "type": "reasoning.text",
                        "text": "hm",
                        "format": "anthropic-claude-v1",
                        "signature": signatures.wrap("messages", "s"),
                        "index": 0,
                    },
                    {
                        "type": "reasoning.encrypted",
                        "format": "anthropic-claude-v1",
                        "data": signatures.wrap("messages", "d"),
                        "index": 1,
                    },
                    {
                        "type": "reasoning.text",
                        "text": "so",
                        "format": "openai-responses-v1",
                        "signature": signatures.wrap("responses", "r"),
                        "index": 2,
                    },
                ],
            },
            "stop",
        ),
        (
            answer(thinking("hm", **{"in": "reasoning"}), ir.Text("a")),
            {"content": "a", "reasoning_content": "hm"},
            "stop",
        ),
    ],
)
def test_answer_is_written(whole: ir.Answer, message: Json, finish: str) -> None:
    """A client gets one choice with one message."""
    (choice,) = CODEC.write_answer(whole, CHAT).body["choices"]
    assert choice["message"] == {"role": "assistant", "refusal": None, **message}
    assert choice["finish_reason"] == finish


def test_answer_has_all_fields_of_the_api() -> None:
    """In OpenAI's form, whoever answered."""
    whole = ir.Answer(
        "msg_1", "m", (ir.Text("é", logprobs=(LOGPROB,)),), ir.Finish.STOP, None, USAGE, 5, "flex"
    )
    assert CODEC.write_answer(whole, CHAT).body == {
        "id": "chatcmpl-msg_1",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "é", "refusal": None},
                "logprobs": {"content": [LOGPROB], "refusal": None},
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE_BODY,
        "service_tier": "flex",
    }


def test_time_and_id_are_made_up_where_the_provider_has_none() -> None:
    """Clients require both."""
    before = int(time.time())
    body = CODEC.write_answer(ir.Answer("", "m", (), ir.Finish.STOP, service_tier="x"), CHAT).body
    assert before <= body["created"] <= time.time()
    assert body["id"] == f"chatcmpl-{body['created']}"
    assert not {"usage", "service_tier"} & set(body)


def test_parts_of_other_dialects_are_reported() -> None:
    """Each kind once."""
    whole = answer(ir.Foreign("a"), ir.Foreign("b"), ir.Foreign("a"))
    assert CODEC.write_answer(whole, CHAT).dropped == ("a", "b")


def test_client_of_functions_gets_one_function_call() -> None:
    """It does not know ``tool_calls``."""
    two = answer(ir.ToolCall("c", "f", "{}"), ir.ToolCall("d", "g"), finish=ir.Finish.TOOL_CALLS)
    body, dropped = CODEC.write_answer(two, LEGACY)
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert "tool_calls" not in choice["message"]
    assert dropped == ("tool_calls",)


def test_thoughts_are_hidden_where_the_client_excludes_them() -> None:
    """OpenRouter's clients say so with ``exclude``."""
    body = CODEC.write_answer(answer(ir.Thinking("hm", "s", "messages")), HIDDEN).body
    message = body["choices"][0]["message"]
    assert not {"reasoning_content", "reasoning_details"} & set(message)


TEXTS = st.text(min_size=1)
ANSWER_PARTS = st.lists(
    st.one_of(
        st.builds(ir.Text, TEXTS, st.sampled_from([(), (CITATION,)])),
        st.builds(ir.ToolCall, TEXTS, TEXTS, TEXTS, is_custom=st.booleans()),
        st.builds(
            ir.Thinking, st.text(), st.none() | TEXTS, st.sampled_from(["messages", "responses"])
        ),
        st.builds(ir.Refusal, TEXTS),
        st.builds(ir.Foreign, TEXTS),
    )
).map(tuple)
ANSWERS = st.builds(
    ir.Answer,
    st.text(),
    st.text(),
    ANSWER_PARTS,
    st.sampled_from(ir.Finish),
    st.none(),
    st.none() | st.just(USAGE),
    st.none() | st.integers(0, 9),
)


@given(ANSWERS, st.sampled_from([CHAT, LEGACY, HIDDEN]))
def test_any_answer_is_what_the_official_sdk_reads(whole: ir.Answer, asked: ir.Request) -> None:
    """All required fields are there, and of the right type."""
    body = json.loads(json.dumps(CODEC.write_answer(whole, asked).body))
    ChatCompletion.model_validate(body, strict=True)


@given(
    st.text(min_size=1).filter(str.strip),
    st.lists(st.builds(ir.ToolCall, TEXTS, TEXTS, TEXTS), unique_by=lambda made: made.id),
    st.booleans(),
)
def test_answer_survives_the_way_through_chat(
    text: str, made: list[ir.ToolCall], has_usage: bool
) -> None:
    """What both forms can say is the same after writing and reading."""
    whole = ir.Answer(
        "chatcmpl-1",
        "m",
        (ir.Text(text, (CITATION,)), *made),
        ir.Finish.TOOL_CALLS if made else ir.Finish.STOP,
        usage=USAGE if has_usage else None,
        created=3,
    )
    assert CODEC.read_answer(CODEC.write_answer(whole, request()).body) == whole
