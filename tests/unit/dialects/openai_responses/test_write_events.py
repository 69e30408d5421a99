"""Streams for clients of responses: strict, complete, and equal to complete answers."""

import time

import pytest
from hypothesis import given

from serve_app.dialects import ir
from serve_app.errors import (
    BodyTooLarge,
    GatewayError,
    ReportedError,
    UpstreamFailed,
    UpstreamTimeout,
)
from tests.unit.dialects.openai_responses.samples import (
    ANSWERS,
    CODEC,
    LOGPROB,
    USAGE,
    accumulated,
    deltas,
    events_of,
    read,
    sent,
)


def write(*events: ir.Event) -> bytes:
    writer = CODEC.writer(read())
    return b"".join(writer.write(event) for event in events)


def types(out: bytes) -> list[str]:
    return [event["type"].removeprefix("response.") for event in sent(out)]


@given(ANSWERS)
def test_stream_ends_with_complete_answer(answer: ir.Answer) -> None:
    """The official SDK accepts the stream, and its last event holds the complete answer."""
    out = write(*events_of(answer))
    written = CODEC.write_answer(answer, read())
    last = sent(out)[-1]
    assert last["response"] == written.body
    assert last["type"] == f"response.{written.body['status']}"
    response = accumulated(out)
    assert response.id.startswith("resp_")
    ids = [getattr(item, "id", None) for item in response.output]
    assert len(set(ids)) == len(ids)


@given(ANSWERS)
def test_texts_of_deltas_are_those_of_items(answer: ir.Answer) -> None:
    """The pieces of each item are the same text as the item that is done."""
    texts: dict[tuple[str, int], str] = {}
    for event in sent(write(*events_of(answer))):
        kind = event["type"].removeprefix("response.")
        key = (event.get("item_id", ""), event.get("content_index", 0))
        if kind.endswith(".delta"):
            texts[key] = texts.get(key, "") + event["delta"]
        elif kind.endswith(".done") and "item_id" in event and "part" not in event:
            names = ("text", "refusal", "arguments", "input")
            (whole,) = (event[name] for name in names if name in event)
            assert texts.pop(key, "") == whole
    assert not texts


def test_text_has_every_event() -> None:
    """A text has all the events that the official SDKs know of one."""
    out = write(
        ir.Started("chatcmpl-1", "m", 7),
        ir.PartStarted(ir.Text("")),
        *deltas("Hello", 3),
        ir.PartEnded(),
        ir.Counted(USAGE),
        ir.Finished(ir.Finish.STOP),
        ir.Ended(),
    )
    assert types(out) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    created, *_, delta, _, _, _, completed = sent(out)
    assert created["response"]["status"] == "in_progress"
    assert delta["logprobs"] == []
    assert delta["item_id"].startswith("msg_")
    assert completed["response"]["created_at"] == 7
    assert completed["response"]["usage"]["input_tokens"] == 10


def test_thoughts_and_call_have_every_event() -> None:
    """Thoughts get their proof with their end; a call without arguments gets an empty object."""
    out = write(
        ir.Started("1", "m"),
        ir.PartStarted(ir.Thinking("", origin="messages")),
        ir.Delta("Hm"),
        ir.Delta(""),
        ir.Signed("proof"),
        ir.PartEnded(),
        ir.PartStarted(ir.ToolCall("call_1", "find")),
        ir.PartEnded(),
        ir.Finished(ir.Finish.TOOL_CALLS),
        ir.Ended(),
    )
    assert types(out)[2:-1] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    thinking, call = accumulated(out).output
    assert thinking.type == "reasoning"
    assert thinking.summary[0].text == "Hm"
    assert (thinking.encrypted_content or "").startswith("fingerpost.messages.")
    assert call.type == "function_call"
    assert (call.call_id, call.arguments) == ("call_1", "{}")


def test_custom_call_streams_its_input() -> None:
    """A custom tool gets any text."""
    call = ir.ToolCall("c", "patch", is_custom=True)
    parts = (ir.PartStarted(call), ir.Delta("*** Begin"), ir.PartEnded())
    out = write(ir.Started("1", "m"), *parts, ir.Finished(ir.Finish.TOOL_CALLS), ir.Ended())
    assert types(out)[3:5] == ["custom_tool_call_input.delta", "custom_tool_call_input.done"]
    (item,) = accumulated(out).output
    assert item.type == "custom_tool_call"
    assert item.input == "*** Begin"


def test_parts_of_other_dialects_are_left_out() -> None:
    """A provider-side search between two texts leaves them one message."""
    text = (ir.PartStarted(ir.Text("")), ir.Delta("a"), ir.PartEnded())
    search = (
        ir.PartStarted(ir.Foreign("server_tool_use")),
        ir.Delta("{}"),
        ir.Cited(ir.Citation("https://a.example")),
        ir.PartEnded(),
    )
    out = write(*text, *search, *text, ir.Finished(ir.Finish.STOP), ir.Ended())
    (item,) = accumulated(out).output
    assert item.type == "message"
    assert len(item.content) == 2


def test_refusal_without_words_gets_some() -> None:
    """A client sees that the model declined, though the provider sent no refusal."""
    out = write(ir.Started("1", "m"), ir.Finished(ir.Finish.REFUSED), ir.Ended())
    (item,) = accumulated(out).output
    assert item.type == "message"
    assert item.content[0].type == "refusal"


def test_stream_without_head_or_finish_is_whole() -> None:
    """The writer adds what a careless reader leaves out."""
    out = write(ir.Counted(USAGE), ir.PartStarted(ir.Text("")), ir.Delta("a"), ir.Ended())
    response = accumulated(out)
    assert response.output_text == "a"
    assert abs(response.created_at - time.time()) < 60
    assert response.id != accumulated(write(ir.Ended())).id


def test_events_outside_of_parts_are_left_out() -> None:
    """Pieces without a part, and what follows the end, give no event."""
    writer = CODEC.writer(read())
    writer.write(ir.Started("1", "m"))
    stray: list[ir.Event] = [
        ir.Delta("x"),
        ir.Signed("x"),
        ir.Cited(ir.Citation("u")),
        ir.PartEnded(),
    ]
    assert not b"".join(writer.write(event) for event in stray)
    assert not writer.write(ir.Failed("no"))
    assert writer.write(ir.Ended())
    assert not writer.write(ir.Ended())
    assert not writer.fail(UpstreamFailed("late"))


def test_probabilities_are_complete() -> None:
    """Tokens get the fields that the API promises, and no number that JSON has not."""
    partial = {"token": "é", "logprob": float("-inf"), "top_logprobs": [{"token": "e"}, 1]}
    parts = (ir.PartStarted(ir.Text("")), ir.Delta("é", (partial, 1)), ir.PartEnded())
    out = write(*parts, ir.Finished(ir.Finish.STOP), ir.Ended())
    (item,) = accumulated(out).output
    assert item.type == "message"
    content = item.content[0]
    assert content.type == "output_text"
    (token,) = content.logprobs or []
    assert (token.bytes, token.logprob) == (LOGPROB["bytes"], -9999.0)
    assert [top.bytes for top in token.top_logprobs] == [[101]]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamFailed("gone"), "server_error"),
        (UpstreamTimeout("late"), "server_error"),
        (BodyTooLarge(3), "invalid_prompt"),
        (ReportedError("slow down", "rate_limit_error"), "rate_limit_exceeded"),
        (ReportedError("no", "invalid_request_error"), "invalid_prompt"),
        (ReportedError("no", "server_error"), "server_error"),
    ],
)
def test_failure_has_code_of_the_api(error: GatewayError, code: str) -> None:
    """A stream that breaks ends with an error that the official SDKs can type."""
    heads: list[tuple[ir.Event, ...]] = [
        (),
        (ir.Started("1", "m"), ir.PartStarted(ir.Text("")), ir.Delta("a")),
    ]
    for before in heads:
        writer = CODEC.writer(read())
        out = b"".join(writer.write(event) for event in before) + writer.fail(error)
        failed = accumulated(out)
        assert failed.status == "failed"
        assert failed.error is not None
        assert (failed.error.code, failed.error.message) == (code, str(error))
        assert types(out)[:2] == ["created", "in_progress"]
        assert not writer.fail(error)


@pytest.mark.parametrize("code", ["context_length_exceeded", "insufficient_quota"])
def test_failure_keeps_codes_that_codex_acts_on(code: str) -> None:
    """Codes that Codex knows, though the SDK does not list them, stay as they are."""
    out = CODEC.writer(read()).fail(ReportedError("no", code))
    assert sent(out)[-1]["response"]["error"]["code"] == code


def test_halves_of_surrogate_pairs_do_not_go_out() -> None:
    """UTF-8 cannot hold half a surrogate pair, and strict parsers refuse one that is escaped."""
    out = write(ir.PartStarted(ir.Text("")), ir.Delta("a\ud83d"), ir.PartEnded())
    assert [event["delta"] for event in sent(out) if "delta" in event] == ["a?"]


def test_long_stream_takes_linear_time() -> None:
    """2 MB in one piece and 10,000 small pieces are written at once."""
    started = time.monotonic()
    pieces = [ir.Delta("x" * (2 << 20)), *deltas("y" * 30_000)]
    out = write(ir.PartStarted(ir.Text("")), *pieces, ir.Finished(ir.Finish.STOP), ir.Ended())
    assert len(sent(out)[-1]["response"]["output"][0]["content"][0]["text"]) == (2 << 20) + 30_000
    assert time.monotonic() - started < 20
