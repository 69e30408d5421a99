"""Streams of events for tests of watches, and what a watch makes of them."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from hypothesis import strategies as st

from serve_app.dialects.protocol import ErrorInfo, StreamState, StreamWatch
from serve_app.domain import Json

TEXT = st.sampled_from(["", "a", "é", "error", "message_stop", "response.completed", "\ud800"])


class Watched(NamedTuple):
    """What came out of a watch, and what it knows at the end."""

    passed: bytes
    state: StreamState
    error: ErrorInfo | None


def named(kind: str, **fields: Json) -> str:
    """An event whose name is its type."""
    return f"event: {kind}\n{unnamed(kind, **fields)}"


def unnamed(kind: str, **fields: Json) -> str:
    """An event that has its type in the data alone."""
    return f"data: {json.dumps({'type': kind, **fields})}\n\n"


def watch_stream(watch: StreamWatch, chunks: Iterable[bytes], *, torn: bool = False) -> Watched:
    """Feeds a whole stream to a watch."""
    passed = b"".join(map(watch.feed, chunks)) + watch.rest(torn=torn)
    return Watched(passed, watch.state, watch.error)


def json_values(keys: list[str], texts: list[str]) -> st.SearchStrategy[Json]:
    """Any JSON values, of objects with these keys and strings of these texts among others."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-2, 600)
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXT
    )
    return st.recursive(
        leaves | st.sampled_from(texts),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=5)
        ),
        max_leaves=8,
    )


@st.composite
def event_streams(draw: st.DrawFn, kinds: list[str], values: st.SearchStrategy[Json]) -> bytes:
    """Streams of a few events with any names and data, their lines ended in any way."""
    events = []
    for _ in range(draw(st.integers(0, 5))):
        lines = [": comment"] if draw(st.booleans()) else []
        if draw(st.booleans()):
            lines.append(f"event: {draw(st.sampled_from(kinds))}")
        data = draw(
            st.fixed_dictionaries({"type": st.sampled_from(kinds)}, optional={"error": values})
            | values
        )
        lines.append(f"data: {json.dumps(data)}")
        end = draw(st.sampled_from(["\n", "\r\n"]))
        events.append(end.join([*lines, "", ""]))
    torn = draw(st.sampled_from(["", "data: {", 'event: error\ndata: {"type": "error"}\n']))
    return ("".join(events) + torn).encode()
