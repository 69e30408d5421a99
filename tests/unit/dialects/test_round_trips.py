"""Requests and answers through another dialect and back keep what both can express."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.codec import MessagesCodec
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.openai_chat.codec import ChatCodec
from serve_app.dialects.openai_responses.codec import ResponsesCodec
from serve_app.dialects.protocol import Codec

CODECS: dict[str, Codec] = {
    "chat": ChatCodec(),
    "messages": MessagesCodec(),
    "responses": ResponsesCodec(),
}
WAYS = [
    ("chat", "messages"),
    ("chat", "responses"),
    ("messages", "chat"),
    ("messages", "responses"),
    ("responses", "chat"),
    ("responses", "messages"),
]
MODEL = "claude-sonnet-4-5"

words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=8
)
names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
arguments = st.dictionaries(
    names, st.one_of(words, st.integers(-9, 9), st.booleans(), st.none()), max_size=3
)


@st.composite
def conversations(draw: st.DrawFn, offered: list[str]) -> tuple[ir.Message, ...]:
    """A user, an assistant that speaks and calls tools, their results, and the user again."""
    most = 2 if offered else 0
    messages = [ir.Message(ir.Role.SYSTEM, (ir.Text(draw(words)),))] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        messages.append(ir.Message(ir.Role.USER, (ir.Text(draw(words)),)))
        calls = tuple(
            ir.ToolCall(
                f"call_{turn}_{number}", draw(st.sampled_from(offered)), json.dumps(draw(arguments))
            )
            for number in range(draw(st.integers(0, most)))
        )
        spoken = (ir.Text(draw(words)),) if not calls or draw(st.booleans()) else ()
        messages.append(ir.Message(ir.Role.ASSISTANT, (*spoken, *calls)))
        if calls:
            results = tuple(ir.ToolResult(call.id, (ir.Text(draw(words)),)) for call in calls)
            messages.append(ir.Message(ir.Role.USER, results))
    return (*messages, ir.Message(ir.Role.USER, (ir.Text(draw(words)),)))


@st.composite
def requests(draw: st.DrawFn) -> ir.Request:
    """What all three dialects can say."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    offered = draw(st.lists(names, unique=True, max_size=3))
    modes = [ir.ToolMode.AUTO, ir.ToolMode.REQUIRED, ir.ToolMode.NONE]
    return ir.Request(
        dialect="chat",
        messages=draw(conversations(offered)),
        tools=tuple(ir.Tool(name, draw(words), schema) for name in offered),
        tool_choice=ir.ToolChoice(draw(st.sampled_from(modes))) if offered else None,
        max_output_tokens=draw(st.integers(16, 4096)),
        sampling=ir.Sampling(temperature=draw(st.sampled_from([None, 0.0, 0.5, 1.0]))),
        stream=draw(st.booleans()),
    )


def said(messages: tuple[ir.Message, ...]) -> Iterator[tuple[Any, ...]]:
    """What was said, whatever messages it is spread over."""
    for message in messages:
        for part in message.parts:
            match part:
                case ir.Text():
                    role = "system" if message.role is ir.Role.DEVELOPER else message.role.value
                    yield role, part.text
                case ir.ToolCall():
                    yield "call", part.id, part.name, json.loads(part.arguments or "{}")
                case ir.ToolResult():
                    yield (
                        "result",
                        part.call_id,
                        "".join(own.text for own in part.parts if isinstance(own, ir.Text)),
                    )
                case _:
                    yield (type(part).__name__,)


def essence(request: ir.Request) -> dict[str, Any]:
    """What has to survive."""
    choice = request.tool_choice
    mode = None if choice is None or choice.mode is ir.ToolMode.AUTO else choice.mode
    return {
        "said": list(said(request.messages)),
        "tools": [(tool.name, tool.description, tool.schema) for tool in request.tools],
        "mode": mode,
        "limit": request.max_output_tokens,
        "temperature": request.sampling.temperature,
        "stream": request.stream,
    }


def reread(codec: Codec, request: ir.Request) -> ir.Request:
    body = json.dumps(codec.write_request(request, MODEL).body).encode()
    return codec.read_request(read_document(body, unique=frozenset()))


@pytest.mark.parametrize(("client", "upstream"), WAYS)
@settings(max_examples=40)
@given(request_sent=requests())
def test_request_survives(client: str, upstream: str, request_sent: ir.Request) -> None:
    """Conversation, tools, limit and sampling come back from the other dialect as they were."""
    sent = reread(CODECS[client], request_sent)
    there = reread(CODECS[upstream], sent)
    back = reread(CODECS[client], there)
    assert essence(back) == essence(sent) == essence(there)


@st.composite
def answers(draw: st.DrawFn) -> ir.Answer:
    """What all three dialects can say."""
    calls = [
        ir.ToolCall(f"call_{number}", draw(names), json.dumps(draw(arguments)))
        for number in range(draw(st.integers(0, 2)))
    ]
    text = [ir.Text(draw(words))] if not calls or draw(st.booleans()) else []
    ends = [ir.Finish.TOOL_CALLS] if calls else [ir.Finish.STOP, ir.Finish.LENGTH]
    count = st.integers(0, 999)
    usage = ir.Usage(draw(count), draw(count), 0, draw(count))
    return ir.Answer("x1", "m", (*text, *calls), draw(st.sampled_from(ends)), None, usage, 1)


@pytest.mark.parametrize(("client", "upstream"), WAYS)
@settings(max_examples=40)
@given(answer=answers())
def test_answer_survives(client: str, upstream: str, answer: ir.Answer) -> None:
    """Text, calls, the reason of the end and the usage come back as they were."""
    asked = ir.Request("chat", ())
    there = CODECS[upstream].read_answer(CODECS[upstream].write_answer(answer, asked).body)
    back = CODECS[client].read_answer(CODECS[client].write_answer(there, asked).body)
    for read in (there, back):
        message = ir.Message(ir.Role.ASSISTANT, read.parts)
        assert list(said((message,))) == list(said((ir.Message(ir.Role.ASSISTANT, answer.parts),)))
        assert (read.finish, read.usage) == (
            answer.finish,
            read.usage and ir.Usage(**{**vars_of(answer.usage), "reasoning": read.usage.reasoning}),
        )


def vars_of(usage: ir.Usage | None) -> dict[str, Any]:
    """The fields of a usage."""
    return {name: getattr(usage, name) for name in ir.Usage.__slots__}
