"""Calls that a provider of chat completions signs, as Gemini does, and wants back so."""

import json
from collections.abc import Iterable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import NO_QUIRK, read_document
from serve_app.dialects.protocol import Asked
from serve_app.dialects.registry import client_dialect, pair
from serve_app.dialects.sse import parse_events
from serve_app.domain import Json
from serve_app.exchange import Operation
from tests.unit.dialects.openai_chat.chat_samples import (
    CODEC,
    check_order,
    chunk,
    completion,
    events_of,
    parts_of,
    read_stream,
    request,
    said,
    stream,
)
from tests.unit.dialects.openai_chat.chat_streams import DONE, HI, TEXT, tool, tools
from tests.unit.fakes import pieces

EXTRA: Final[dict[str, Json]] = {"google": {"thought_signature": "CiQB+é/=="}}
OTHER: Final[dict[str, Json]] = {"vertex": {"thought_signature": "b"}}
MODEL: Final = "gemini-3-pro-preview"
CALL: Final = ir.ToolCall("c1", "f", '{"a":1}')
SECOND: Final = ir.ToolCall("c2", "g", "{}")


def signed(call_id: str = "c1", extra: Json = None) -> ir.Thinking:
    """What stands before a call with this ``extra_content``."""
    signature = {"in": "tool_calls", "id": call_id, "extra_content": extra or EXTRA}
    text = json.dumps(signature, ensure_ascii=False, separators=(",", ":"))
    return ir.Thinking("", text, "chat", is_redacted=True)


def call(call_id: str, name: str, arguments: str, **fields: Json) -> dict[str, Json]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function, **fields}


def begun(index: Json = 0, extra: Json = None, **fields: Json) -> Json:
    return {**tool(index, **fields), "extra_content": extra or EXTRA}


FIRST: Final = begun(id="c1", name="f", arguments='{"a":1}')
BOTH: Final = [call("c1", "f", '{"a":1}', extra_content=EXTRA), call("c2", "g", "{}")]
"""Gemini signs the first of parallel calls."""


@pytest.mark.parametrize(
    ("calls", "parts"),
    [
        (BOTH, (signed(), CALL, SECOND)),
        (
            [call("c1", "f", '{"a":1}'), call("c2", "g", "{}", extra_content=OTHER)],
            (CALL, signed("c2", OTHER), SECOND),
        ),
        (
            [call("", "f", "", extra_content=EXTRA)],
            (signed("call_1_0"), ir.ToolCall("call_1_0", "f")),
        ),
        ([call("c1", "f", '{"a":1}', extra_content={})], (CALL,)),
        ([call("c1", "f", '{"a":1}', extra_content=["x"])], (CALL,)),
        ([call("c1", "", "", extra_content=EXTRA)], ()),
    ],
)
def test_answer_is_read(calls: list[Json], parts: tuple[ir.AnswerPart, ...]) -> None:
    """What a call is signed with stands right before it, and names it by its id."""
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    assert CODEC.read_answer(completion(message, "tool_calls")).parts == parts


STREAMS: Final[list[tuple[list[Json], list[ir.AnswerPart]]]] = [
    ([HI, tools(FIRST), DONE], [TEXT, signed(), CALL]),
    (
        [tools(FIRST), tools(tool(1, id="c2", name="g", arguments="{}")), DONE],
        [signed(), CALL, SECOND],
    ),
    ([tools(FIRST, tool(1, id="c2", name="g", arguments="{}")), DONE], [signed(), CALL, SECOND]),
    # the pieces of both calls come in turns, and both are signed
    (
        [
            tools(begun(id="c1", name="f", arguments='{"a"')),
            tools(begun(1, OTHER, id="c2", name="g", arguments="{")),
            tools(tool(1, arguments="}"), tool(0, arguments=":1}")),
            DONE,
        ],
        [signed(), CALL, signed("c2", OTHER), SECOND],
    ),
    # each piece is signed: once is enough
    (
        [tools(begun(id="c1", name="f", arguments='{"a"')), tools(begun(arguments=":1}")), DONE],
        [signed(), CALL],
    ),
    # before the call has a name, or after all of it
    ([tools(begun(id="c1")), tools(tool(name="f", arguments='{"a":1}')), DONE], [signed(), CALL]),
    (
        [
            tools(tool(id="c1", name="f", arguments='{"a":1}')),
            tools({"extra_content": EXTRA}),
            tools(tool(1, id="c2", name="g", arguments="{}")),
            DONE,
        ],
        [CALL, signed(), SECOND],
    ),
    (
        [
            chunk({"reasoning_content": "hm"}),
            chunk({"content": "\n"}),
            tools(begun(None, name="f", arguments='{"a":1}')),
            DONE,
        ],
        [
            ir.Thinking("hm", '{"in":"reasoning_content"}', "chat"),
            signed("call_1_0"),
            ir.ToolCall("call_1_0", "f", '{"a":1}'),
        ],
    ),
    ([tools(begun()), HI, DONE], [TEXT]),
    ([tools({**FIRST, "extra_content": "x"}), DONE], [CALL]),
]


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(("chunks", "parts"), STREAMS)
def test_stream_is_read(chunks: list[Json], parts: list[ir.AnswerPart], done: bool) -> None:
    """Whatever else comes in between, what a call is signed with is a part of its own."""
    events = read_stream(*chunks, done=done)
    check_order(events)
    assert parts_of(events) == parts
    assert events[-1] == ir.Ended()


@given(st.sampled_from([chunks for chunks, _ in STREAMS]), st.data())
def test_cuts_of_a_stream_do_not_matter(chunks: list[Json], data: st.DataObject) -> None:
    """The same events come of it in any pieces."""
    whole = stream(*chunks)
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=8))
    assert events_of(pieces(whole, cuts)) == events_of([whole])


def test_what_cannot_be_written_is_left_out() -> None:
    """An object may be nested more deeply than JSON text is written."""
    deep: Json = {}
    for _ in range(100_000):
        deep = {"a": deep}
    message = {"content": None, "tool_calls": [call("c1", "f", '{"a":1}', extra_content=deep)]}
    assert CODEC.read_answer(completion(message)).parts == (CALL,)


def answered(*parts: ir.Part) -> ir.Request:
    return request(said(ir.Text("Hi")), said(*parts, role=ir.Role.ASSISTANT))


@pytest.mark.parametrize(
    ("parts", "calls"),
    [
        ((signed(), CALL, SECOND), BOTH),
        ((CALL, SECOND, signed()), BOTH),
        ((signed("c3"), CALL), [call("c1", "f", '{"a":1}')]),
        (
            (ir.Thinking("", '{"in":"tool_calls"}', "chat", is_redacted=True), CALL),
            [call("c1", "f", '{"a":1}')],
        ),
    ],
)
def test_call_gets_back_what_it_had(parts: tuple[ir.Part, ...], calls: Json) -> None:
    """The call of the id alone, and nothing else of the message changes."""
    body, dropped = CODEC.write_request(answered(*parts), MODEL)
    assert body["messages"][1:] == [{"role": "assistant", "content": None, "tool_calls": calls}]
    assert dropped == ()


def test_other_message_gets_nothing() -> None:
    """Ids are unique in one message only; a message of nothing else is left out."""
    history = request(
        said(signed(), role=ir.Role.ASSISTANT),
        said(ir.Text("Hi")),
        said(CALL, role=ir.Role.ASSISTANT),
    )
    body, _ = CODEC.write_request(history, MODEL)
    user, assistant = body["messages"]
    assert user["role"] == "user"
    assert assistant["tool_calls"] == [call("c1", "f", '{"a":1}')]


def test_thoughts_stay_beside_it() -> None:
    """Other thoughts of the same message go where they belong."""
    thought = ir.Thinking("hm", '{"in":"reasoning_content"}', "chat")
    body, _ = CODEC.write_request(answered(thought, signed(), CALL), MODEL)
    assert body["messages"][1] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": BOTH[:1],
    }


@pytest.mark.parametrize("model", ["mistral-large-latest", "google/gemma-3-27b-it"])
def test_model_that_refuses_it_gets_none(model: str) -> None:
    """A session may go on with a model whose server refuses unknown fields."""
    body, dropped = CODEC.write_request(answered(signed(), CALL), model)
    assert body["messages"][1]["tool_calls"] == [call("c1", "f", '{"a":1}')]
    assert dropped == ("thinking",)


MESSAGES: Final[dict[str, Any]] = {
    "model": "m",
    "max_tokens": 99,
    "messages": [{"role": "user", "content": "Hi"}],
}
RESPONSES: Final[dict[str, Any]] = {
    "model": "m",
    "input": [{"role": "user", "content": "Hi"}],
}
ANSWER: Final = completion({"role": "assistant", "content": None, "tool_calls": BOTH}, "tool_calls")
STREAM: Final = stream(
    tools(begun(id="c1", name="f", arguments="")),
    tools(tool(arguments='{"a":1}')),
    tools(tool(1, id="c2", name="g", arguments="{}")),
    chunk({}, "tool_calls"),
)
RESULTS: Final = [
    {"role": "tool", "tool_call_id": "c1", "content": "r1"},
    {"role": "tool", "tool_call_id": "c2", "content": "r2"},
]


def ask(client: str, body: dict[str, Any], upstream: Operation = Operation.CHAT) -> Asked:
    document = read_document(json.dumps(body).encode(), unique=frozenset())
    return pair(client_dialect(client), {upstream}).ask(document, Intent("m"), MODEL, NO_QUIRK)


def streamed(asked: Asked, chunks: Iterable[bytes]) -> list[dict[str, Json]]:
    """The events that a client gets."""
    pipe = asked.pipe()
    out = b"".join([*map(pipe.feed, chunks), pipe.end(None)])
    return [json.loads(event.data or b"") for event in parse_events(out)]


def blocks_of(events: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """The content that a client of messages makes of a stream."""
    blocks: list[dict[str, Json]] = []
    texts: list[str] = []
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
            texts = []
        elif event["type"] == "content_block_delta":
            texts.append(event["delta"]["partial_json"])
        elif event["type"] == "content_block_stop" and texts:
            blocks[-1]["input"] = json.loads("".join(texts))
    return blocks


def go_on_messages(content: list[dict[str, Json]]) -> dict[str, Any]:
    """The next request, with a result for each call."""
    assert [block["type"] for block in content] == ["redacted_thinking", "tool_use", "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": f"c{number}", "content": f"r{number}"}
        for number in (1, 2)
    ]
    turn = [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
    return {**MESSAGES, "messages": [*MESSAGES["messages"], *turn]}


def go_on_responses(output: list[dict[str, Json]]) -> dict[str, Any]:
    """The next request, with a result for each call."""
    assert [item["type"] for item in output] == ["reasoning", "function_call", "function_call"]
    assert output[0]["summary"] == []
    results = [
        {"type": "function_call_output", "call_id": f"c{number}", "output": f"r{number}"}
        for number in (1, 2)
    ]
    return {**RESPONSES, "input": [*RESPONSES["input"], *output, *results]}


def check_history(body: bytes) -> None:
    """Fails unless the provider gets its calls as it made them, and the results."""
    calls = [{**each} for each in json.loads(body)["messages"][1]["tool_calls"]]
    assert [json.loads(each["function"].pop("arguments")) for each in calls] == [{"a": 1}, {}]
    assert [each.get("extra_content") for each in calls] == [EXTRA, None]
    assert [each["id"] for each in calls] == ["c1", "c2"]
    assert json.loads(body)["messages"][2:] == RESULTS


def test_round_trip_through_messages() -> None:
    """It is hidden thoughts to a client, which sends them back."""
    body, dropped = ask("messages", MESSAGES).answer(json.dumps(ANSWER).encode())
    assert dropped == ()
    asked = ask("messages", go_on_messages(json.loads(body)["content"]))
    check_history(asked.body)
    assert asked.dropped == ()


def test_round_trip_through_responses() -> None:
    """It is encrypted reasoning to a client, which sends it back."""
    body, dropped = ask("responses", RESPONSES).answer(json.dumps(ANSWER).encode())
    assert dropped == ()
    asked = ask("responses", go_on_responses(json.loads(body)["output"]))
    check_history(asked.body)
    assert asked.dropped == ()


CUTS: Final = st.lists(st.integers(0, len(STREAM)), max_size=8)


@given(CUTS)
def test_stream_goes_round_through_messages(cuts: list[int]) -> None:
    """In whatever pieces the provider's stream comes."""
    events = streamed(ask("messages", {**MESSAGES, "stream": True}), pieces(STREAM, cuts))
    check_history(ask("messages", go_on_messages(blocks_of(events))).body)


@given(CUTS)
def test_stream_goes_round_through_responses(cuts: list[int]) -> None:
    """In whatever pieces the provider's stream comes."""
    events = streamed(ask("responses", {**RESPONSES, "stream": True}), pieces(STREAM, cuts))
    assert events[-1]["type"] == "response.completed"
    check_history(ask("responses", go_on_responses(events[-1]["response"]["output"])).body)


def test_provider_of_the_clients_dialect_gets_none() -> None:
    """The session goes on with another provider, which would refuse proofs that aren't its own."""
    body, _ = ask("messages", MESSAGES).answer(json.dumps(ANSWER).encode())
    more = go_on_messages(json.loads(body)["content"])
    sent = json.loads(ask("messages", more, Operation.MESSAGES).body)
    kinds = [block["type"] for block in sent["messages"][1]["content"]]
    assert kinds == ["tool_use", "tool_use"]
    translated = ask("messages", more, Operation.RESPONSES)
    assert "reasoning" not in [item.get("type") for item in json.loads(translated.body)["input"]]
    assert translated.dropped == ("thinking",)
