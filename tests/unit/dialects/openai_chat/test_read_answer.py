"""Complete answers of providers of chat completions."""

import pytest
from hypothesis import given

from serve_app.dialects import ir
from serve_app.domain import Json
from tests.unit.dialects.openai_chat.chat_samples import (
    ANNOTATION,
    CITATION,
    CODEC,
    LOGPROB,
    USAGE,
    USAGE_BODY,
    completion,
    thinking,
)
from tests.unit.dialects.streams import json_values


def calls(*entries: Json) -> Json:
    return {"content": None, "tool_calls": list(entries)}


def call(name: str, arguments: Json, **fields: Json) -> Json:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **fields}


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": "a"}, (ir.Text("a"),)),
        ({"content": None}, ()),
        ({"content": "\n"}, (ir.Text("\n"),)),
        ({"content": "a", "annotations": [ANNOTATION]}, (ir.Text("a", (CITATION,)),)),
        (
            {
                "content": "a",
                "annotations": [
                    {"url": "https://a.example", "content": "says"},
                    {"type": "file_citation"},
                    {"url_citation": {}},
                    1,
                ],
            },
            (ir.Text("a", (ir.Citation("https://a.example", cited="says"),)),),
        ),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "a"},
                    {"type": "reference"},
                    {"type": "refusal", "refusal": "no"},
                    {"type": "text", "text": "b"},
                ]
            },
            (
                thinking("hm", **{"in": "thinking"}),
                ir.Text("a"),
                ir.Refusal("no"),
                ir.Text("b"),
            ),
        ),
        (
            {"content": [{"type": "thinking", "thinking": "hm"}]},
            (thinking("hm", **{"in": "thinking"}),),
        ),
        ({"content": None, "refusal": "no"}, (ir.Refusal("no"),)),
        (
            {"content": "a", "reasoning_content": "hm", "reasoning": "hm"},
            (thinking("hm", **{"in": "reasoning_content"}), ir.Text("a")),
        ),
        (
            {"content": "a", "reasoning": "hm"},
            (thinking("hm", **{"in": "reasoning"}), ir.Text("a")),
        ),
        (
            {
                "content": "a",
                "reasoning": "hm",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "f"}
                ],
            },
            (
                thinking("hm", **{"in": "reasoning.text", "format": "f", "signature": "s"}),
                ir.Text("a"),
            ),
        ),
        (
            {
                "content": "a",
                "reasoning": "hm",
                "reasoning_details": [{"type": "reasoning.encrypted", "data": "d"}],
            },
            (
                thinking("hm", **{"in": "reasoning"}),
                thinking("", **{"in": "reasoning.encrypted", "data": "d"}),
                ir.Text("a"),
            ),
        ),
        (calls(call("f", '{"a":1}', id="c1")), (ir.ToolCall("c1", "f", '{"a":1}'),)),
        (
            {**calls(call("f", {"a": 1}), call("g", None, id=""), call("", "")), "content": "\n\n"},
            (ir.ToolCall("call_1_0", "f", '{"a":1}'), ir.ToolCall("call_1_1", "g")),
        ),
        (
            calls(call("f", "{}", id="c"), call("f", "{}", id="c")),
            (ir.ToolCall("c", "f", "{}"), ir.ToolCall("call_1_1", "f", "{}")),
        ),
        (
            calls({"id": "c", "type": "custom", "custom": {"name": "g", "input": "x"}}),
            (ir.ToolCall("c", "g", "x", is_custom=True),),
        ),
        (
            {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
            (ir.ToolCall("call_1_0", "f", "{}"),),
        ),
        ({"content": "a", "audio": {"id": "x"}}, (ir.Text("a"), ir.Foreign("audio"))),
    ],
)
def test_message_is_read(message: Json, parts: tuple[ir.AnswerPart, ...]) -> None:
    """Whichever field a provider uses, the parts are the same."""
    assert CODEC.read_answer(completion(message)).parts == parts


@pytest.mark.parametrize(
    ("message", "finish", "read_finish"),
    [
        ({"content": "a"}, "stop", ir.Finish.STOP),
        ({"content": "a"}, None, ir.Finish.STOP),
        ({"content": "a"}, "eos", ir.Finish.STOP),
        ({"content": "a"}, ["stop"], ir.Finish.STOP),
        ({"content": "a"}, "tool_calls", ir.Finish.STOP),
        ({"content": "a"}, "length", ir.Finish.LENGTH),
        ({"content": "a"}, "model_length", ir.Finish.CONTEXT_FULL),
        ({"content": "a"}, "content_filter", ir.Finish.FILTERED),
        ({"refusal": "no"}, "stop", ir.Finish.REFUSED),
        (calls(call("f", "")), "stop", ir.Finish.TOOL_CALLS),
        (calls(call("f", "")), "tool_calls", ir.Finish.TOOL_CALLS),
        (calls(call("f", "")), "length", ir.Finish.LENGTH),
        ({"function_call": {"name": "f"}}, "function_call", ir.Finish.TOOL_CALLS),
    ],
)
def test_finish_is_read(message: Json, finish: Json, read_finish: ir.Finish) -> None:
    """An unknown reason counts as a normal end, and calls count more than the reason."""
    assert CODEC.read_answer(completion(message, finish)).finish is read_finish


def test_stop_sequence_of_vllm_is_read() -> None:
    """It is in ``stop_reason``, which holds the number of a token otherwise."""
    body = completion({"content": "a"})
    body["choices"][0]["stop_reason"] = "END"
    whole = CODEC.read_answer(body)
    assert (whole.finish, whole.stop_sequence) == (ir.Finish.STOP_SEQUENCE, "END")
    body["choices"][0]["stop_reason"] = 7
    assert CODEC.read_answer(body).finish is ir.Finish.STOP


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (USAGE_BODY, USAGE),
        (None, None),
        ({}, None),
        ({"prompt_tokens": "many"}, None),
        ({"prompt_tokens": 4}, ir.Usage(uncached_input=4)),
        ({"completion_tokens": 4.0}, ir.Usage(output=4)),
        ({"prompt_tokens": -1, "completion_tokens": 1.5}, None),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 5},
            ir.Usage(4, 5, output=1),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "cached_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 0},
            },
            ir.Usage(4, 5, output=1),
        ),
        ({"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 5}}, ir.Usage(0, 5)),
    ],
)
def test_usage_is_read(body: Json, usage: ir.Usage | None) -> None:
    """The prompt's tokens hold the cached ones; the one form keeps them apart."""
    assert CODEC.read_answer(completion({"content": "a"}, usage=body)).usage == usage


def test_other_fields_are_read() -> None:
    """Sloppy servers leave most of them out."""
    whole = CODEC.read_answer(
        {
            "choices": [
                {"index": 1, "message": {"content": "b"}},
                {
                    "message": {"content": "a"},
                    "logprobs": {
                        "content": [
                            {**LOGPROB, "top_logprobs": [{"token": "e", "logprob": -1}, {}]},
                            {"token": "f"},
                        ]
                    },
                },
            ],
            "created": 7,
            "service_tier": "flex",
        }
    )
    other = {"token": "e", "logprob": -1, "bytes": None}
    assert whole.parts == (ir.Text("a", logprobs=({**LOGPROB, "top_logprobs": [other]},)),)
    assert (whole.id, whole.model, whole.created, whole.service_tier) == ("7", "", 7, "flex")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": [1]},
        {"choices": [{"index": 0}]},
        completion({"content": ""}, "error"),
        completion({"content": ""}, "insufficient_system_resource"),
    ],
)
def test_answer_without_message_is_an_error(body: Json) -> None:
    """Another candidate may be asked then."""
    with pytest.raises(ValueError, match=r"message|finish_reason"):
        CODEC.read_answer(body)


@given(json_values([*completion({}), "message", "content", "tool_calls"], ["stop"]))
def test_any_answer_is_read_or_refused(value: Json) -> None:
    """Nothing but ValueError comes of an answer of any shape."""
    for body in (value, {"choices": value}, {"choices": [{"message": value}]}):
        try:
            CODEC.read_answer(body if isinstance(body, dict) else {})
        except ValueError:
            continue


def test_arguments_that_cannot_be_written_are_left_out() -> None:
    """An object may be nested more deeply than JSON text is written."""
    deep: Json = {}
    for _ in range(100_000):
        deep = {"a": deep}
    (read_call,) = CODEC.read_answer(completion(calls(call("f", deep, id="c")))).parts
    assert read_call == ir.ToolCall("c", "f")
