"""Calls of custom tools in answers and streams, as the client gets them."""

from dataclasses import replace
from itertools import combinations

import pytest

from serve_app.dialects import ir
from serve_app.dialects.client_tools import ClientTools
from tests.unit.dialects.tool_requests import LIMITS, answer_of, request_of, restored, streamed

CUSTOM_TOOLS = ClientTools.of(request_of(ir.Tool("patch", is_custom=True, namespace="fs")), LIMITS)
PATCH = ir.ToolCall("1", "fs__patch")

INPUTS = [
    ('{"input":"a\\nb"}', "a\nb"),
    ('{"input":"a\nb"}', "a\nb"),
    ('{"input":"x","more":1}', "x"),
    ('{"input":""}', ""),
    ('{"input":3}', '{"input":3}'),
    ('{"text":"x"}', '{"text":"x"}'),
    ('{"input":"torn', '{"input":"torn'),
    ('"text"', '"text"'),
    ("[]", "[]"),
    ("null", "null"),
    ("*** Begin Patch", "*** Begin Patch"),
    ("[" * 100_000, "[" * 100_000),
    ("9" * 10_000, "9" * 10_000),
    ("", ""),
]


@pytest.mark.parametrize(("arguments", "text"), INPUTS, ids=range(len(INPUTS)))
def test_custom_calls_are_restored(arguments: str, text: str) -> None:
    """The input is the field of that name, else what the model wrote; at every split of a stream."""
    call = restored(CUSTOM_TOOLS, replace(PATCH, arguments=arguments))
    restored_call = ir.ToolCall("1", "patch", text, is_custom=True, namespace="fs")
    assert call == restored_call
    size = min(len(arguments), 20)
    for first, second in combinations(range(size + 1), 2):
        deltas = arguments[:first], arguments[first:second], arguments[second:]
        out = streamed(CUSTOM_TOOLS, ir.PartStarted(PATCH), *map(ir.Delta, deltas), ir.PartEnded())
        assert out == [
            [ir.PartStarted(replace(restored_call, arguments=""))],
            [],
            [],
            [],
            [ir.Delta(text), ir.PartEnded()],
        ]


def test_stream_without_deltas_of_custom_call() -> None:
    """Arguments that come with the call's beginning are its input, too."""
    started = ir.PartStarted(replace(PATCH, arguments='{"input":"x"}'))
    (began,), ended = streamed(CUSTOM_TOOLS, started, ir.PartEnded())
    assert isinstance(began, ir.PartStarted)
    assert isinstance(began.part, ir.ToolCall)
    assert began.part.arguments == ""
    assert ended == [ir.Delta("x"), ir.PartEnded()]


def test_other_events_pass_at_once() -> None:
    """Only the deltas of custom calls are held, and only while their part is open."""
    usage = ir.Counted(ir.Usage(1))
    events: list[ir.Event] = [
        ir.Started("id", "m"),
        ir.PartStarted(ir.Text("")),
        ir.Delta("hi"),
        ir.Cited(ir.Citation("https://a.example")),
        ir.PartEnded(),
        ir.PartStarted(ir.ToolCall("1", "read")),
        ir.Delta("{}"),
        ir.PartEnded(),
    ]
    assert streamed(CUSTOM_TOOLS, *events) == [[event] for event in events]
    failed = ir.Failed("broken")
    assert streamed(CUSTOM_TOOLS, ir.PartStarted(PATCH), ir.Delta("{"), usage, failed)[1:] == [
        [],
        [usage],
        [failed],
    ]
    after = [
        ir.PartStarted(PATCH),
        ir.PartEnded(),
        *events,
        ir.Finished(ir.Finish.STOP),
        ir.Ended(),
    ]
    assert streamed(CUSTOM_TOOLS, *after)[2:] == [[event] for event in after[2:]]


def test_call_of_unknown_tool_passes() -> None:
    """The client gets a name that the model made up, as it is."""
    call = ir.ToolCall("1", "made_up", '{"input":"x"}')
    assert restored(CUSTOM_TOOLS, call) is call
    text = ir.Text("x")
    assert CUSTOM_TOOLS.restore(answer_of(text)).parts[0] is text
