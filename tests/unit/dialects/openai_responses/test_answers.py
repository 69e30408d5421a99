"""Complete answers of providers, and for clients that speak responses."""

import pytest
from hypothesis import given
from openai.types.responses import Response

from serve_app.dialects import ir
from serve_app.domain import Json
from tests.unit.dialects.openai_responses.samples import ANSWERS, CODEC, USAGE, read


def write(*parts: ir.AnswerPart, finish: ir.Finish = ir.Finish.STOP, **fields: Json) -> Response:
    """The answer for a client, valid by the official SDK's types."""
    answer = ir.Answer("msg_1", "m", parts, finish, **fields)
    return Response.model_validate(CODEC.write_answer(answer, read()).body, strict=True)


def texts(answer: ir.Answer) -> dict[str, str]:
    """All text of each kind, and the ids of the calls."""
    found: dict[str, str] = {}
    for part in answer.parts:
        kind = type(part).__name__
        if isinstance(part, ir.Text | ir.Thinking):
            found[kind] = found.get(kind, "") + part.text
        elif isinstance(part, ir.ToolCall):
            found[kind] = found.get(kind, "") + part.id
    return {kind: text for kind, text in found.items() if text}


@given(ANSWERS)
def test_answer_is_valid_and_reads_as_itself(answer: ir.Answer) -> None:
    """The official SDK's types accept each answer, and no text is lost on the way back."""
    body = CODEC.write_answer(answer, read()).body
    Response.model_validate(body, strict=True)
    back = CODEC.read_answer(body)
    assert texts(back) == texts(answer)
    assert back.usage == answer.usage


def test_answer_repeats_the_request() -> None:
    """Fields that the client sent come back, others with the API's defaults."""
    tools = [{"type": "function", "name": "find", "parameters": {}, "strict": True}]
    asked = read(
        instructions="Be brief",
        temperature=0.5,
        tools=tools,
        tool_choice="required",
        store=True,
        metadata={"a": "b"},
        reasoning={"effort": "low"},
        text={"verbosity": "low"},
    )
    answer = ir.Answer("1", "m", (), ir.Finish.STOP, usage=USAGE, created=7, service_tier="flex")
    body = CODEC.write_answer(answer, asked).body
    assert (body["id"], body["created_at"], body["service_tier"]) == ("resp_1", 7, "flex")
    assert (body["temperature"], body["top_p"], body["truncation"]) == (0.5, 1.0, "disabled")
    assert (body["tools"], body["tool_choice"], body["store"]) == (tools, "required", True)
    assert body["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert body["reasoning"] == {"effort": "low", "summary": None}
    assert body["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 17,
    }


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        (ir.Finish.STOP, "completed", None),
        (ir.Finish.STOP_SEQUENCE, "completed", None),
        (ir.Finish.TOOL_CALLS, "completed", None),
        (ir.Finish.REFUSED, "completed", None),
        (ir.Finish.LENGTH, "incomplete", "max_output_tokens"),
        (ir.Finish.CONTEXT_FULL, "incomplete", "max_output_tokens"),
        (ir.Finish.FILTERED, "incomplete", "content_filter"),
    ],
)
def test_finish_has_its_status(finish: ir.Finish, status: str, reason: str | None) -> None:
    """A client learns why an answer ended."""
    response = write(ir.Text("Hi"), finish=finish)
    assert response.status == status
    details = response.incomplete_details
    assert (details.reason if details else None) == reason


def test_refusal_keeps_its_words() -> None:
    """A refusal without words gets some; one with words keeps them."""
    worded = write(ir.Refusal("I can't"), finish=ir.Finish.REFUSED)
    bare = write(finish=ir.Finish.REFUSED)
    refusals = [response.to_dict()["output"] for response in (worded, bare)]
    assert "I can't" in str(refusals[0])
    assert "The model declined to answer." in str(refusals[1])


def test_foreign_parts_are_reported() -> None:
    """A provider-side search is not a call of the client's tools."""
    parts = (ir.Foreign("server_tool_use"), ir.Text("Hi"), ir.Foreign("server_tool_use"))
    answer = ir.Answer("1", "m", parts, ir.Finish.STOP, service_tier="standard")
    written = CODEC.write_answer(answer, read())
    assert written.dropped == ("server_tool_use",)
    assert [item["type"] for item in written.body["output"]] == ["message"]
    assert written.body["service_tier"] is None


def test_call_without_id_gets_one() -> None:
    """A client needs an id to answer a call."""
    (call,) = write(ir.ToolCall("", "find", " ")).output
    assert call.type == "function_call"
    assert call.call_id.startswith("call_")
    assert call.arguments.strip() == "{}"


@pytest.mark.parametrize(
    ("thinking", "origin"),
    [
        (ir.Thinking("Hm", "s", "messages"), "messages"),
        (ir.Thinking("", "s", "messages", is_redacted=True), "messages"),
        (ir.Thinking("Hm", "s", "chat"), "chat"),
        (ir.Thinking("Hm", '{"id": "rs_1", "encrypted_content": "abc"}', "responses"), "responses"),
    ],
)
def test_thoughts_come_back_as_they_were(thinking: ir.Thinking, origin: str) -> None:
    """What a client returns of an answer is what its provider needs."""
    (item,) = CODEC.write_answer(ir.Answer("1", "m", (thinking,), ir.Finish.STOP), read()).body[
        "output"
    ]
    (message,) = read(input=[item]).messages
    (back,) = message.parts
    assert isinstance(back, ir.Thinking)
    assert (back.text, back.origin, back.is_redacted) == (
        thinking.text,
        origin,
        thinking.is_redacted,
    )
    if origin == "responses":
        assert '"abc"' in (back.signature or "")
    else:
        assert back.signature == thinking.signature


def test_unreadable_proof_of_own_dialect_is_passed_on() -> None:
    """A proof in another form than the reader's own goes out as it is."""
    (item,) = write(ir.Thinking("Hm", "abc", "responses")).output
    assert item.type == "reasoning"
    assert item.encrypted_content == "abc"


def test_answer_of_a_provider() -> None:
    """Each item of an answer has its part."""
    answer = CODEC.read_answer(
        {
            "id": "resp_1",
            "model": "m",
            "created_at": 7.5,
            "status": "completed",
            "service_tier": "default",
            "output": [
                {"type": "reasoning", "summary": []},
                {
                    "type": "reasoning",
                    "content": [{"type": "reasoning_text", "text": "Hm"}],
                    "summary": [{"type": "summary_text", "text": "short"}],
                },
                {"type": "message", "content": "As a string"},
                {"type": "message", "content": [{"type": "output_audio"}, {"type": "refusal"}]},
                {"type": "web_search_call"},
                {"type": "function_call", "name": "find", "arguments": {"a": 1}},
                {"no": "type"},
                "no object",
            ],
            "usage": {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 5}},
        }
    )
    assert answer == ir.Answer(
        "resp_1",
        "m",
        (
            ir.Thinking("Hm", None, "responses"),
            ir.Text("As a string"),
            ir.Foreign("output_audio"),
            ir.Foreign("web_search_call"),
            ir.ToolCall("call_5", "find", '{"a":1}'),
        ),
        ir.Finish.TOOL_CALLS,
        usage=ir.Usage(0, 5, 0, 0),
        created=7,
        service_tier="default",
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, "the answer has no `output`"),
        ({"output": {}}, "the answer has no `output`"),
        ({"status": "queued", "output": []}, "the answer is queued"),
        ({"status": "failed", "output": [], "error": {"message": "busy"}}, "busy"),
        ({"output": [], "error": {"message": "busy"}}, "busy"),
    ],
)
def test_what_is_not_an_answer_is_an_error(answer: dict[str, Json], message: str) -> None:
    """An answer that failed or is not there raises ValueError."""
    with pytest.raises(ValueError, match=message):
        CODEC.read_answer(answer)


@pytest.mark.parametrize("usage", [None, [], {}, {"input_tokens": "3"}, {"output_tokens": True}])
def test_usage_without_counts_is_unknown(usage: Json) -> None:
    """A provider that does not count has no usage."""
    assert CODEC.read_answer({"output": [], "usage": usage}).usage is None
