"""Server-sent events: framing and parsing."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects.sse import (
    MAX_HELD_BYTES,
    Event,
    Framer,
    events_from,
    parse_event,
    parse_events,
)
from tests.unit.fakes import pieces

# Each stream as its events; the last item is the text after the last event's end.
STREAMS: dict[str, tuple[bytes, ...]] = {
    "newlines": (b"data: a\n\n", b"data: b\n\n", b""),
    "returns and newlines": (b"data: a\r\n\r\n", b"data: b\r\n\r\n", b""),
    "returns": (b"data: a\r\r", b"data: b\r\r", b""),
    "comments": (b": hi\n\n", b":\n\n", b"data: a\n:b\n\n", b""),
    "names": (b"event: x\ndata: 1\n\n", b"event: y\r\ndata: 2\r\n\r\n", b""),
    "letters": ("data: é😀漢\n\n".encode(), "data: é\n\n".encode(), b""),
    "line separators": ("data: a\u2028b\u2029c\x85d\n\n".encode(), b"data: \x0b\x0c\n\n", b""),
    "torn": (b"data: a\n\n", b"data: b\n"),
    "torn return": (b"data: a\r\n\r\n", b"data: b\r\n\r"),
    "nothing whole": (b"data: a",),
    "several lines": (b"data: a\ndata: b\n\n", b"data\n\n", b""),
    "nothing": (b"",),
}


def run(chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    """The output of a framer after each chunk, and the rest."""
    framer = Framer()
    fed = [framer.feed(chunk) for chunk in chunks]
    return fed, framer.rest()


def event_ends(events: tuple[bytes, ...]) -> set[int]:
    ends, at = {0}, 0
    for event in events[:-1]:
        at += len(event)
        ends.add(at)
    return ends


@pytest.mark.parametrize("name", STREAMS)
def test_framer_emits_whole_events_at_every_split(name: str) -> None:
    """Wherever a stream is cut in three, the framer emits whole events at once, and no byte
    changes.
    """
    events = STREAMS[name]
    stream = b"".join(events)
    ends = event_ends(events)
    for cuts in combinations(range(len(stream) + 1), 2):
        chunks = pieces(stream, cuts)
        fed, rest = run(chunks)
        assert b"".join(fed) + rest == stream
        at = read = 0
        for chunk, ready in zip(chunks, fed, strict=True):
            at, read = at + len(ready), read + len(chunk)
            assert at in ends
            assert at == max(end for end in ends if end <= read)


@pytest.mark.parametrize("name", STREAMS)
def test_framer_accepts_single_bytes(name: str) -> None:
    """In a stream that arrives byte by byte, each event is emitted with its last byte."""
    events = STREAMS[name]
    stream = b"".join(events)
    fed, rest = run([stream[at : at + 1] for at in range(len(stream))])
    assert tuple(event for event in fed if event) == events[:-1]
    assert rest == events[-1]


@pytest.mark.parametrize("blank", [b"\n\r\n", b"\r\n\n"])
def test_framer_accepts_mixed_line_ends(blank: bytes) -> None:
    """The standard allows a different line end on each line, the blank one included."""
    stream = b"data: a" + blank + b"data: b"
    fed, rest = run([stream])
    assert (fed, rest) == ([b"data: a" + blank], b"data: b")


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\n\n", b"\r\n", b"data: x"]), max_size=30))
def test_framer_keeps_all_bytes(chunks: list[bytes]) -> None:
    """The framer does not lose, add or move a byte for any order of line ends."""
    fed, rest = run(chunks)
    assert b"".join(fed) + rest == b"".join(chunks)
    assert all(ready.endswith((b"\n", b"\r")) for ready in fed if ready)


def test_framer_passes_on_oversized_event() -> None:
    """An event above a mebibyte is passed on in pieces, and its end is still detected."""
    framer = Framer()
    piece = b"x" * (MAX_HELD_BYTES // 2)
    assert framer.feed(b"data: ") == b""
    assert framer.feed(piece) == b""
    assert framer.feed(piece) == b"data: " + piece + piece
    assert framer.feed(b"yy") == b""
    assert framer.feed(b"\n\nda") == b"yy\n\n"
    assert framer.rest() == b"da"


def test_framer_keeps_complete_long_event_whole() -> None:
    """A long event that ends within its chunk is emitted whole."""
    event = b"data: " + b"x" * (2 * MAX_HELD_BYTES) + b"\n\n"
    framer = Framer()
    assert framer.feed(event[:10]) + framer.feed(event[10:]) == event
    assert framer.rest() == b""


def test_framer_returns_rest_once() -> None:
    """The rest is returned once and is empty afterwards."""
    framer = Framer()
    framer.feed(b"data: a")
    assert (framer.rest(), framer.rest()) == (b"data: a", b"")


@pytest.mark.parametrize(
    ("block", "event"),
    [
        (b"data: a", Event("", b"a")),
        (b"data:a", Event("", b"a")),
        (b"data:  a", Event("", b" a")),
        (b"data:", Event("", b"")),
        (b"data", Event("", b"")),
        (b"data: a:b", Event("", b"a:b")),
        (b"data: a\ndata: b", Event("", b"a\nb")),
        (b"data: a\r\ndata: b\rdata:c", Event("", b"a\nb\nc")),
        (b"event: ping", Event("ping", None)),
        (b"event: x\ndata: {}", Event("x", b"{}")),
        (b"event: x\nevent: y\ndata: {}", Event("y", b"{}")),
        (b"data: {}\nevent:x", Event("x", b"{}")),
        (b": a comment", Event("", None)),
        (b":data: a", Event("", None)),
        (b"id: 1\nretry: 5\ndata: a", Event("", b"a")),
        (b"DATA: a\n data: b\ndatas: c", Event("", None)),
        ("data: a\u2028b\x85".encode(), Event("", "a\u2028b\x85".encode())),
        (b"event: \xff\ndata: \xff", Event("\ufffd", b"\xff")),
        (b"", Event("", None)),
    ],
)
def test_parse_event_reads_name_and_data(block: bytes, event: Event) -> None:
    """Data lines are joined and lose one leading space; other fields and comments are ignored."""
    assert parse_event(block) == event


def test_parse_events_splits_at_blank_lines() -> None:
    """Every form of a blank line separates events; empty blocks are not events."""
    stream = b"data: a\n\n\n\ndata: b\r\n\r\n: c\n\ndata: d\r\revent: e\ndata: f\n\n"
    assert parse_events(stream) == [
        Event("", b"a"),
        Event("", b"b"),
        Event("", None),
        Event("", b"d"),
        Event("e", b"f"),
    ]


@pytest.mark.parametrize("empty", [b"", b"\n", b"\n\n", b"\r\n\r\n\r\n"])
def test_parse_events_ignores_blank_lines(empty: bytes) -> None:
    """Keep-alive newlines are not events."""
    assert parse_events(empty) == []


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_events_from_begin_with_the_event_of_a_position(end: bytes) -> None:
    """Whatever ends events: the event in which the position lies, and all that follow it."""
    events = [b"data: a", b"data: b", b"data: c"]
    whole = b"".join(event + end for event in events)
    assert events_from(whole, whole.index(b"a")) == whole
    assert events_from(whole, whole.index(b"b")) == b"".join(event + end for event in events[1:])
    assert events_from(whole, whole.index(b"c")) == b"data: c" + end
