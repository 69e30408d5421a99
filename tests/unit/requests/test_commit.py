"""The commit point of a stream: which bytes are held back, and which faults are failures."""

import asyncio
import json

import pytest

from serve_app.exchange import FaultKind
from serve_app.requests import commit
from serve_app.requests.commit import Held, hold
from serve_app.requests.failures import Failure
from serve_app.requests.verdict import Action
from tests.unit.fakes import FOREVER, FakeChunks, broken, reply
from tests.unit.requests.chat_streams import (
    COMMENT,
    DONE,
    ROLE,
    STOP,
    WORD,
    new_pipe,
    scripts_at_every_split,
)

NOTHING = b'data: {"choices":[]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"total_tokens":1}}\n\n'


async def held_of(body: FakeChunks) -> Held:
    held = await hold(reply(200, body, (("x", "y"),)), body, new_pipe())
    assert isinstance(held, Held)
    return held


async def failure_of(body: FakeChunks) -> Failure:
    failure = await hold(reply(200, body), body, new_pipe())
    assert isinstance(failure, Failure)
    assert body.closed == 1
    return failure


@pytest.mark.parametrize(
    ("chunks", "ready"),
    [
        ([WORD], WORD),
        ([ROLE, COMMENT, WORD, WORD], ROLE + COMMENT + WORD),
        ([ROLE + WORD + WORD[:9]], ROLE + WORD),
        ([ROLE[:20], ROLE[20:] + WORD[:5], WORD[5:]], ROLE + WORD),
        ([COMMENT, STOP], COMMENT + STOP),
        ([ROLE, STOP, DONE], ROLE + STOP),
        ([b"data: what is this\n\n"], b"data: what is this\n\n"),
        ([USAGE + WORD], USAGE + WORD),
    ],
)  # fmt: skip
async def test_stream_commits_with_first_event_with_content(
    chunks: list[bytes], ready: bytes
) -> None:
    """The preamble is held back until the first event with content and goes out before it, in whole
    events.
    """
    body = FakeChunks(*chunks, FOREVER)
    held = await held_of(body)
    assert (held.ready, held.ended, held.pending) == (ready, False, None)
    assert (held.status, dict(held.headers)["x"]) == (200, "y")
    assert body.closed == 0


async def test_hold_stops_reading_at_commit() -> None:
    """The hold does not read more chunks than the commit needs."""
    body = FakeChunks(ROLE, WORD, WORD)
    await held_of(body)
    assert body.reads == 2


async def test_hold_counts_last_event_without_blank_line() -> None:
    """The end of the stream completes an event without a blank line, and that event can be the one
    that commits.
    """
    held = await held_of(FakeChunks(ROLE, WORD.rstrip()))
    assert held.ended
    assert held.ready.startswith(ROLE + WORD.rstrip() + b"\n\n")
    assert b"ended its answer before it was complete" in held.ready


@pytest.mark.parametrize(
    "script",
    [
        *([], [ROLE], [COMMENT, ROLE], [DONE], [COMMENT, DONE], [b"data:[DONE]\n\n"]),
        *([ROLE[:30]], [b"\n\n"], [ROLE, DONE, DONE], [ROLE + DONE], [NOTHING], [NOTHING, DONE]),
        *([USAGE], [ROLE, USAGE, DONE], [NOTHING, USAGE + DONE], [b'data: {"id":"x"}\n\n', DONE]),
    ],
)  # fmt: skip
async def test_hold_fails_on_stream_without_content(script: list[bytes]) -> None:
    """A stream that is empty, or has only a preamble or only its end marker, fails so that the next
    candidate is tried.
    """
    failure = await failure_of(FakeChunks(*script))
    assert failure.verdict.action is Action.NEXT
    assert failure.fault is not None
    assert (failure.fault.kind, failure.outcome) == (FaultKind.BAD_ANSWER, "bad_answer")


@pytest.mark.parametrize("before", [[], [ROLE], [ROLE, WORD[:20]]])
@pytest.mark.parametrize(
    ("kind", "verdict"),
    [(FaultKind.BROKEN, Action.NEXT), (FaultKind.TIMEOUT, Action.NEXT), (FaultKind.RESET, Action.AGAIN)],
)  # fmt: skip
async def test_hold_judges_broken_stream_as_connection_fault(
    before: list[bytes], kind: FaultKind, verdict: Action
) -> None:
    """A stream that breaks before the commit is judged like a fault of the connection, because the
    client has received nothing.
    """
    failure = await failure_of(FakeChunks(*before, broken(kind)))
    assert (failure.verdict.action, failure.outcome) == (verdict, kind)


@pytest.mark.parametrize(
    ("error", "status", "verdict"),
    [
        ({"message": "slow down", "type": "rate_limit_error"}, 429, Action.LATER),
        ({"message": "no", "code": 400}, 400, Action.FINAL),
        ({"message": "no"}, 502, Action.LATER),
        ("no", 502, Action.LATER),
    ],
)
async def test_hold_judges_error_event_by_its_status(
    error: object, status: int, verdict: Action
) -> None:
    """An error event before the commit is judged by the HTTP status that it means."""
    event = json.dumps({"error": error}).encode()
    failure = await failure_of(FakeChunks(ROLE, b"data: " + event + b"\n\n", WORD))
    assert (failure.verdict.action, failure.status, failure.body) == (verdict, status, event)
    assert (failure.fault, failure.outcome) == (None, str(status))


async def test_hold_fails_on_error_event_in_preamble_chunk() -> None:
    """An error event in the same chunk as the preamble still counts as before the commit."""
    failure = await failure_of(FakeChunks(ROLE + b'data: {"error":{"code":429}}\n\n'))
    assert failure.status == 429


@pytest.mark.parametrize("before", [[], [ROLE], [WORD[:9]]])
async def test_hold_commits_slow_stream_after_time_limit(
    before: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow stream commits with the bytes that have arrived, and the pending read continues."""
    monkeypatch.setattr(commit, "HOLD_S", 0.02)
    body = FakeChunks(*before, 0.08, WORD[9:] if before == [WORD[:9]] else WORD)
    held = await held_of(body)
    assert held.ready == (ROLE if before == [ROLE] else b"")
    assert held.pending is not None
    assert await held.pending in {WORD, WORD[9:]}
    assert (body.closed, body.cancelled) == (0, False)


@pytest.mark.parametrize("piece", [COMMENT, b"x" * 40])
async def test_hold_commits_stream_at_size_limit(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preamble above the size limit commits, whether it consists of events or never completes
    one.
    """
    monkeypatch.setattr(commit, "HOLD_BYTES", 10 * len(piece))
    body = FakeChunks(*[piece] * 50)
    held = await held_of(body)
    assert body.reads == 11
    assert held.ready == (piece * 11 if piece == COMMENT else b"")


def test_hold_limits_are_ten_seconds_and_256_kib() -> None:
    """The hold is limited to ten seconds and 256 KiB."""
    assert (commit.HOLD_S, commit.HOLD_BYTES) == (10.0, 262_144)


@pytest.mark.parametrize("before", [[], [ROLE]])
async def test_cancelled_hold_closes_body(before: list[bytes]) -> None:
    """When the client disconnects before the commit, the hold closes the provider's body at once."""
    body = FakeChunks(*before, FOREVER)
    task = asyncio.create_task(hold(reply(200, body), body, new_pipe()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert (body.closed, body.cancelled) == (1, True)


async def test_hold_closes_body_on_unexpected_exception() -> None:
    """An unexpected exception of a body is raised on, and the body is closed."""
    body = FakeChunks(ROLE, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        await hold(reply(200, body), body, new_pipe())
    assert body.closed == 1


@pytest.mark.parametrize("stream", [ROLE + WORD, WORD.replace(b"\n", b"\r\n") + STOP])
async def test_commit_does_not_depend_on_chunk_boundaries(stream: bytes) -> None:
    """The stream commits without losing a byte, wherever its chunks are cut."""
    for script in scripts_at_every_split(stream):
        body = FakeChunks(*script)
        held = await held_of(body)
        rest = b"".join([bytes(chunk) for chunk in body.script if isinstance(chunk, bytes)])
        left = b"" if held.ended else held.pipe.feed(b"\n\n")
        assert held.ready.startswith(stream[: len(held.ready)])
        assert (held.ready + left).removesuffix(b"\n\n") + rest in {stream, stream[:-2]}
