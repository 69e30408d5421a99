"""Streams that a chat client gets."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from serve_app.dialects import ir, signatures
from serve_app.dialects.openai_errors import render_error
from serve_app.domain import Json
from serve_app.errors import UpstreamFailed
from tests.unit.dialects.openai_chat.chat_samples import (
    CHAT,
    CITATION,
    CODEC,
    COUNTING,
    HIDDEN,
    LEGACY,
    LOGPROB,
    USAGE,
    USAGE_BODY,
    answer,
    chunks_of,
    events_of,
    parts_of,
    to_events,
    write_stream,
)


def deltas(whole: ir.Answer, asked: ir.Request = CHAT) -> list[Json]:
    """The deltas between the first chunk, which has the role, and the last one."""
    first, *middle, last = [only(sent) for sent in chunks_of(write_stream(to_events(whole), asked))]
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert last["delta"] == {}
    return [choice["delta"] for choice in middle]


def only(sent: Json) -> Json:
    (choice,) = sent["choices"]
    return choice


def joined(whole: ir.Answer, key: str) -> str:
    return "".join(delta.get(key) or "" for delta in deltas(whole))


def test_stream_has_the_form_of_the_api() -> None:
    """Role first, then content, the finish reason, and ``[DONE]``; no usage unless asked for."""
    data = write_stream(to_events(answer(ir.Text("é", logprobs=(LOGPROB,)), usage=USAGE)), CHAT)
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt"}
    rest = {"index": 0, "logprobs": None, "finish_reason": None}
    logprobs = {"content": [LOGPROB], "refusal": None}
    assert chunks_of(data) == [
        {**head, "choices": [{**rest, "delta": {"role": "assistant", "content": ""}}]},
        {**head, "choices": [{**rest, "delta": {"content": "é"}, "logprobs": logprobs}]},
        {**head, "choices": [{**rest, "delta": {}, "finish_reason": "stop"}]},
    ]
    assert "é".encode() in data


def test_usage_is_in_a_chunk_of_its_own() -> None:
    """The other chunks have null then, as OpenAI sends it."""
    *others, last = chunks_of(write_stream(to_events(answer(ir.Text("a"), usage=USAGE)), COUNTING))
    assert all(sent["usage"] is None for sent in others)
    assert last["choices"] == []
    assert last["usage"] == USAGE_BODY
    uncounted = chunks_of(write_stream(to_events(answer(ir.Text("a"))), COUNTING))
    assert uncounted[-1]["choices"][0]["finish_reason"] == "stop"


def test_usage_known_at_the_start_counts_until_there_is_more() -> None:
    """A provider may count the prompt alone."""
    events: list[ir.Event] = [
        ir.Started("a", "m", 1, USAGE),
        ir.Finished(ir.Finish.STOP),
        ir.Ended(),
    ]
    assert chunks_of(write_stream(events, COUNTING))[-1]["usage"] == USAGE_BODY


def test_calls_are_numbered_and_named_once() -> None:
    """Id and name are in the first piece only; a call without arguments gets an empty object."""
    whole = answer(ir.Text("a"), ir.ToolCall("c1", "f", "{}"), ir.ToolCall("c2", "g"))
    assert deltas(whole)[1:] == [
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "c2",
                    "type": "function",
                    "function": {"name": "g", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
    ]


def test_custom_calls_have_input() -> None:
    """Any text, also none."""
    whole = answer(
        ir.ToolCall("c", "g", "x", is_custom=True), ir.ToolCall("d", "g", is_custom=True)
    )
    assert [delta["tool_calls"][0] for delta in deltas(whole)] == [
        {"index": 0, "id": "c", "type": "custom", "custom": {"name": "g", "input": ""}},
        {"index": 0, "custom": {"input": "x"}},
        {"index": 1, "id": "d", "type": "custom", "custom": {"name": "g", "input": ""}},
    ]


def test_client_of_functions_gets_one_function_call() -> None:
    """It does not know ``tool_calls``."""
    whole = answer(ir.ToolCall("c", "f"), ir.ToolCall("d", "g", "{}"), finish=ir.Finish.TOOL_CALLS)
    assert deltas(whole, LEGACY) == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
    ]
    last = chunks_of(write_stream(to_events(whole), LEGACY))[-1]
    assert only(last)["finish_reason"] == "function_call"


def test_thoughts_of_other_dialects_are_signed_at_their_end() -> None:
    """Each piece is in both fields, as OpenRouter streams it; the proof has an entry of its own."""
    whole = answer(ir.Thinking("hm", "s", "messages"), ir.Thinking("so", None, "messages"))
    entry = {"type": "reasoning.text", "format": "anthropic-claude-v1"}
    assert deltas(whole) == [
        {
            "reasoning_content": "hm",
            "reasoning_details": [{**entry, "text": "hm", "index": 0}],
        },
        {
            "reasoning_details": [
                {
                    **entry,
                    "text": "",
                    "signature": signatures.wrap("messages", "s"),
                    "index": 0,
                }
            ]
        },
        {
            "reasoning_content": "\n\nso",
            "reasoning_details": [{**entry, "text": "so", "index": 1}],
        },
    ]


def test_redacted_thoughts_are_encrypted() -> None:
    """There is nothing to read in them, but their provider wants them back."""
    (delta,) = deltas(answer(ir.Thinking("", "d", "messages", is_redacted=True)))
    (entry,) = delta["reasoning_details"]
    assert entry["type"] == "reasoning.encrypted"
    assert entry["data"] == signatures.wrap("messages", "d")


def test_thoughts_of_chat_are_text_alone() -> None:
    """Their signature only tells the gateway which field they were in."""
    whole = answer(ir.Thinking("hm", '{"in":"reasoning"}', "chat"))
    assert deltas(whole) == [{"reasoning_content": "hm"}]


def test_thoughts_are_hidden_where_the_client_excludes_them() -> None:
    """OpenRouter's clients say so with ``exclude``."""
    whole = answer(ir.Thinking("hm", "s", "messages"), ir.Text("a"))
    assert deltas(whole, HIDDEN) == [{"content": "a"}]


def test_texts_with_something_between_are_set_apart() -> None:
    """As in a complete answer, and sources point into the whole text."""
    whole = answer(
        ir.Text("a"), ir.Text("b"), ir.Foreign("search"), ir.Text("cde", (CITATION,)), ir.Text("")
    )
    assert joined(whole, "content") == "ab\n\ncde"
    (annotation,) = deltas(whole)[-1]["annotations"]
    written = CODEC.write_answer(whole, CHAT).body["choices"][0]["message"]
    assert [annotation] == written["annotations"]
    unplaced = answer(ir.Text("abc", (ir.Citation("https://a.example"),)))
    (annotation,) = deltas(unplaced)[-1]["annotations"]
    cited = annotation["url_citation"]
    assert (cited["start_index"], cited["end_index"]) == (0, 3)


@pytest.mark.parametrize(
    ("parts", "finish", "reason"),
    [
        ((ir.Refusal("no"),), ir.Finish.REFUSED, "stop"),
        ((ir.Text("a"),), ir.Finish.REFUSED, "content_filter"),
        ((ir.Text("a"),), ir.Finish.LENGTH, "length"),
        ((ir.ToolCall("c", "f"),), ir.Finish.TOOL_CALLS, "tool_calls"),
    ],
)
def test_finish_is_written(
    parts: tuple[ir.AnswerPart, ...], finish: ir.Finish, reason: str
) -> None:
    """In the last chunk with a choice."""
    data = write_stream(to_events(answer(*parts, finish=finish)), CHAT)
    assert only(chunks_of(data)[-1])["finish_reason"] == reason


def test_refusal_is_streamed_in_its_field() -> None:
    """So that no client takes it for the answer."""
    whole = answer(ir.Refusal("no"), finish=ir.Finish.REFUSED)
    assert deltas(whole) == [{"refusal": "no"}]


def test_part_that_begins_with_text_loses_nothing() -> None:
    """A reader may know some of a part at its beginning."""
    parts: list[ir.AnswerPart] = [
        ir.Text("a"),
        ir.Thinking("b"),
        ir.Refusal("c"),
        ir.ToolCall("d", "f", "{}"),
    ]
    events: list[ir.Event] = [ir.Started("a", "m", 1)]
    for part in parts:
        events += [ir.PartStarted(part), ir.PartEnded()]
    data = write_stream([*events, ir.Finished(ir.Finish.TOOL_CALLS), ir.Ended()], CHAT)
    message = accumulated(data).choices[0].message
    assert (message.content, message.refusal) == ("a", "c")
    assert message.tool_calls is not None
    assert _function(message.tool_calls[0].to_dict()) == {"name": "f", "arguments": "{}"}


def test_time_is_now_where_the_provider_has_none() -> None:
    """Each chunk has the same."""
    before = int(time.time())
    events: list[ir.Event] = [ir.Started("", "m"), ir.Finished(ir.Finish.STOP), ir.Ended()]
    first, last = chunks_of(write_stream(events, CHAT))
    assert before <= first["created"] <= time.time()
    assert first["id"] == last["id"] == f"chatcmpl-{first['created']}"


def test_error_is_the_last_event() -> None:
    """Neither a finish reason nor ``[DONE]`` follows."""
    error = UpstreamFailed("gone")
    assert CODEC.writer(CHAT).fail(error) == b"data: " + render_error(error) + b"\n\n"
    assert CODEC.writer(CHAT).write(ir.Failed("gone")) == b""


def test_many_pieces_are_written_in_linear_time() -> None:
    """Ten thousand of them, and one of two megabytes."""
    events: list[ir.Event] = [
        ir.Started("a", "m", 1),
        ir.PartStarted(ir.Text("")),
        *[ir.Delta("word ")] * 10_000,
        ir.Delta("x" * (2 << 20)),
        ir.PartEnded(),
    ]
    start = time.process_time()
    write_stream(events, CHAT)
    assert time.process_time() - start < 5


def accumulated(data: bytes) -> ChatCompletion:
    """What the official SDK makes of a stream."""
    state = ChatCompletionStreamState(input_tools=omit, response_format=omit)
    for sent in chunks_of(data):
        state.handle_chunk(ChatCompletionChunk.model_validate(sent, strict=True))
    return state.get_final_completion()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
PARTS: st.SearchStrategy[tuple[ir.AnswerPart, ...]] = st.lists(
    st.one_of(
        st.builds(ir.Text, TEXTS),
        st.builds(ir.ToolCall, TEXTS, TEXTS, st.sampled_from(["", '{"a": [1, "é"]}'])),
        st.builds(
            ir.Thinking,
            st.text(),
            st.none() | TEXTS,
            st.sampled_from(["messages", "responses"]),
        ),
        st.builds(ir.Refusal, TEXTS),
        st.builds(ir.Foreign, TEXTS),
    ),
    max_size=6,
).map(tuple)


@given(PARTS, st.sampled_from([CHAT, COUNTING, HIDDEN]))
def test_official_sdk_reads_the_stream_as_the_answer(
    parts: tuple[ir.AnswerPart, ...], asked: ir.Request
) -> None:
    """What it adds up is what a complete answer holds."""
    calls = any(isinstance(part, ir.ToolCall) for part in parts)
    finish = ir.Finish.TOOL_CALLS if calls else ir.Finish.STOP
    whole = answer(*parts, finish=finish, usage=USAGE)
    read_back = accumulated(write_stream(to_events(whole), asked)).choices[0]
    message: dict[str, Json] = read_back.message.to_dict()
    expected = CODEC.write_answer(whole, asked).body["choices"][0]["message"]
    assert (message.get("content") or "") == (expected["content"] or "")
    assert message.get("reasoning_content") == expected.get("reasoning_content")
    made = [call["function"] for call in expected.get("tool_calls", [])]
    assert [_function(call) for call in message.get("tool_calls") or []] == made


def _function(call: Json) -> Json:
    return {key: call["function"][key] for key in ("name", "arguments")}


@given(st.lists(st.builds(ir.Text, TEXTS.filter(str.strip)), max_size=1), st.booleans(), st.data())
def test_stream_survives_the_way_through_chat(
    texts: list[ir.Text], has_call: bool, data: st.DataObject
) -> None:
    """A gateway behind a gateway reads what this one writes."""
    thoughts = data.draw(st.lists(st.builds(ir.Thinking, TEXTS, TEXTS, st.just("messages"))))
    calls = [ir.ToolCall("c1", "f", '{"a":1}')] if has_call else []
    finish = ir.Finish.TOOL_CALLS if has_call else ir.Finish.STOP
    whole = answer(*thoughts, *texts, *calls, finish=finish, usage=USAGE)
    events = events_of([write_stream(to_events(whole), COUNTING)])
    read_parts = parts_of(events)
    assert [part for part in read_parts if not isinstance(part, ir.Thinking)] == [*texts, *calls]
    read_thoughts = [part for part in read_parts if isinstance(part, ir.Thinking)]
    assert [part.text for part in read_thoughts] == [part.text for part in thoughts]
    for part, sent in zip(read_thoughts, thoughts, strict=True):
        envelope = json.loads(part.signature or "")["signature"]
        assert signatures.unwrap(envelope) == ("messages", sent.signature)
    assert ir.Counted(USAGE) in events
    assert events[-2:] == [ir.Finished(finish), ir.Ended()]
