"""A reader of Anthropic streams takes any events."""

import json

from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.domain import Json
from tests.unit.dialects.anthropic_messages.test_read_events import read, read_chunks
from tests.unit.dialects.streams import event_streams, json_values
from tests.unit.fakes import pieces

KINDS = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "error",
    "ping",
]
KEYS = ["type", "index", "content_block", "delta", "message", "usage", "text", "stop_reason"]
TEXTS = ["text", "tool_use", "thinking", "text_delta", "input_json_delta", "end_turn", *KINDS]
VALUES = json_values(KEYS, TEXTS)
OBJECTS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional=dict.fromkeys(("index", "content_block", "delta", "message", "usage"), VALUES),
)


def check_order(events: list[ir.Event]) -> None:
    """Asserts the order that ``ir`` promises."""
    for position, event in enumerate(events):
        if not isinstance(event, ir.Failed):
            assert isinstance(event, ir.Started) is (position == 0)
    is_open = False
    for event in events:
        if isinstance(event, ir.PartStarted | ir.PartEnded):
            assert is_open is isinstance(event, ir.PartEnded)
            is_open = not is_open
        elif isinstance(event, ir.Delta | ir.Signed | ir.Cited):
            assert is_open
        elif isinstance(event, ir.Finished | ir.Ended):
            assert not is_open
    for kind in (ir.Finished, ir.Ended, ir.Failed):
        assert sum(isinstance(event, kind) for event in events) <= 1
    if any(isinstance(event, ir.Failed | ir.Ended) for event in events):
        assert isinstance(events[-1], ir.Failed | ir.Ended)


@given(event_streams(KINDS, VALUES), st.lists(st.integers(0, 300)))
def test_any_bytes_are_read(stream: bytes, cuts: list[int]) -> None:
    """Nothing raises, whatever the events hold."""
    check_order(read_chunks([stream]))
    read_chunks(pieces(stream, [cut for cut in cuts if cut < len(stream)]))


@given(st.lists(OBJECTS, max_size=8))
def test_any_events_are_read_in_order(objects: list[dict[str, Json]]) -> None:
    """The events come out in the order that the common form promises."""
    check_order(read(*(f"data: {json.dumps(each)}\n\n" for each in objects)))
