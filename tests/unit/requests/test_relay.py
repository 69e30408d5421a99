"""A committed stream on its way to the client, and how it ends."""

import asyncio
import gc
import json
from contextlib import aclosing
from typing import Any

import pytest

from serve_app.dialects.sse import parse_events
from serve_app.exchange import FaultKind, StreamBrokenError
from serve_app.requests import commit
from serve_app.requests.commit import Held, hold
from serve_app.requests.relay import Relay
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

GOOD = ROLE + WORD + STOP + DONE


class Ends(list[str]):
    """The outcomes that streams have reported."""


async def relay_of(body: FakeChunks, ends: Ends, choices: int = 1) -> Relay:
    held = await hold(reply(200, body), body, new_pipe(choices))
    assert isinstance(held, Held)
    return Relay(held, ends.append)


async def sent(body: FakeChunks, ends: Ends, choices: int = 1) -> bytes:
    """All bytes that the client gets."""
    async with aclosing(await relay_of(body, ends, choices)) as relay:
        chunks = [chunk async for chunk in relay]
    assert all(chunks)
    assert body.closed >= 1
    return b"".join(chunks)


def error_in(event: bytes) -> dict[str, Any]:
    """The error in the single event that these bytes contain."""
    (only,) = parse_events(event)
    assert event.endswith(b"\n\n")
    assert only.data is not None
    error: dict[str, Any] = json.loads(only.data)["error"]
    return error


@pytest.mark.parametrize(
    "stream",
    [
        GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        COMMENT + WORD + STOP,
        WORD + STOP.rstrip(),
        WORD + DONE.rstrip(),
        WORD + b"data:[DONE]\n",
        WORD + STOP + DONE + b": bye",
        WORD + b'data: {"error":{"message":"no"}}\n\n',
    ],
)
async def test_relay_passes_complete_stream_byte_for_byte(stream: bytes) -> None:
    """The relay passes on a complete stream byte for byte, wherever its chunks are cut."""
    for script in scripts_at_every_split(stream):
        ends = Ends()
        assert await sent(FakeChunks(*script), ends) == stream
        assert ends == [""]


@pytest.mark.parametrize(
    ("last", "code", "message"),
    [
        (broken(FaultKind.BROKEN, "openai broke off"), "upstream_error", "openai broke off"),
        (broken(FaultKind.RESET, "closed"), "upstream_error", "closed"),
        (broken(FaultKind.TIMEOUT, "stopped"), "upstream_timeout", "stopped"),
        (b"", "upstream_error", "the provider ended its answer before it was complete"),
    ],
)
@pytest.mark.parametrize("torn", [b"", b"data: {", WORD[:-4], WORD[:30]])
async def test_relay_reports_broken_stream(
    last: bytes | StreamBrokenError, code: str, message: str, torn: bytes
) -> None:
    """After a broken stream the client gets the complete events, not the torn one, and then one
    error of its dialect.
    """
    body = FakeChunks(ROLE, WORD, *([torn] if torn else []), *([last] if last else []))
    ends = Ends()
    out = await sent(body, ends)
    assert out.startswith(ROLE + WORD)
    error = error_in(out.removeprefix(ROLE + WORD))
    assert (error["code"], error["message"]) == (code, message)
    assert ends == ["broken"]


async def test_relay_reports_broken_stream_at_every_offset() -> None:
    """Wherever a stream breaks, the client gets the complete events and one error."""
    stream = WORD + WORD + STOP
    for at in range(len(WORD), len(stream) - 2):
        ends = Ends()
        out = await sent(FakeChunks(stream[:at], broken()), ends)
        whole = WORD if at < 2 * len(WORD) - 1 else WORD + WORD
        assert out.startswith(whole)
        assert error_in(out.removeprefix(whole).lstrip(b"\n"))["code"] == "upstream_error"
        assert ends == ["broken"]


@pytest.mark.parametrize("whole", [WORD[:-1], WORD[:-2] + b"\r\n", WORD[:-2] + b"\r"])
@pytest.mark.parametrize("last", [[broken()], []])
async def test_relay_keeps_event_without_blank_line(
    whole: bytes, last: list[StreamBrokenError]
) -> None:
    """A complete line without its blank line goes out as its own event before the error."""
    ends = Ends()
    out = await sent(FakeChunks(WORD, whole, *last), ends)
    assert out.startswith(WORD + whole)
    events = parse_events(out)
    assert [event.data for event in events[:2]] == [WORD[6:-2], WORD[6:-2]]
    assert len(events) == 3
    assert ends == ["broken"]


@pytest.mark.parametrize("script", [[ROLE, WORD.rstrip()], [WORD[:-1]]])
async def test_relay_sends_error_as_separate_event(script: list[bytes]) -> None:
    """The error is a separate event, even if the event that commits has no end."""
    out = await sent(FakeChunks(*script), Ends())
    assert (parse_events(out)[-1].data or b"").startswith(b'{"error"')


@pytest.mark.parametrize("rest", [[], [b"data: {"], [b": bye\n"]])
async def test_relay_ignores_fault_after_end_marker(rest: list[bytes]) -> None:
    """A fault after the stream's end marker is not an error."""
    ends = Ends()
    out = await sent(FakeChunks(GOOD, *rest, broken()), ends)
    assert out == GOOD + b"".join(chunk for chunk in rest if chunk.endswith(b"\n"))
    assert ends == [""]


async def test_relay_accepts_finish_without_blank_line() -> None:
    """The relay accepts a finish reason whose blank line is missing."""
    ends = Ends()
    assert await sent(FakeChunks(WORD, STOP[:-1], broken()), ends) == WORD + STOP[:-1]
    assert ends == [""]


async def test_relay_waits_for_all_choices() -> None:
    """A stream with two choices is broken if only one has finished."""
    other = b'data: {"choices":[{"index":1,"delta":{"content":"b"}}]}\n\n'
    ends = Ends()
    out = await sent(FakeChunks(WORD, other, STOP), ends, choices=2)
    assert error_in(out.removeprefix(WORD + other + STOP))["code"] == "upstream_error"
    assert ends == ["broken"]


async def test_relay_continues_pending_read_of_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The read that was pending at the end of the hold is delivered first and once."""
    monkeypatch.setattr(commit, "HOLD_S", 0.01)
    ends = Ends()
    assert await sent(FakeChunks(ROLE, 0.03, WORD, STOP, DONE), ends) == GOOD
    assert ends == [""]


async def test_relay_reports_fault_of_pending_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the read that was pending at the end of the hold is an error event, because the
    stream is committed.
    """
    monkeypatch.setattr(commit, "HOLD_S", 0.01)
    ends = Ends()
    out = await sent(FakeChunks(0.03, broken(FaultKind.TIMEOUT, "late")), ends)
    assert error_in(out)["code"] == "upstream_timeout"
    assert ends == ["broken"]


async def test_closing_unread_relay_closes_body() -> None:
    """Closing a relay that was never read closes the provider's body."""
    body, ends = FakeChunks(WORD, FOREVER), Ends()
    relay = await relay_of(body, ends)
    await relay.aclose()
    assert (body.closed, ends) == (1, ["client_gone"])


async def test_closing_unread_relay_cancels_pending_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing a relay cancels the read that was pending at the end of the hold."""
    monkeypatch.setattr(commit, "HOLD_S", 0.01)
    body, ends, before = FakeChunks(FOREVER), Ends(), asyncio.all_tasks()
    relay = await relay_of(body, ends)
    await relay.aclose()
    await asyncio.sleep(0)
    assert (body.closed, body.cancelled, ends) == (1, True, ["client_gone"])
    assert asyncio.all_tasks() == before


async def test_fault_after_client_left_is_not_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The event loop logs nothing if a pending read fails and the client disconnects before it is
    delivered.
    """
    monkeypatch.setattr(commit, "HOLD_S", 0.01)
    noise: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    relay = await relay_of(FakeChunks(0.02, broken()), Ends())
    await asyncio.sleep(0.03)
    await relay.aclose()
    del relay
    gc.collect()
    await asyncio.sleep(0)
    assert [context["message"] for context in noise] == []


@pytest.mark.parametrize("hold_s", [0.01, 10.0])
async def test_cancelled_relay_closes_body(hold_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that is cancelled while it waits cancels the read and closes the body."""
    monkeypatch.setattr(commit, "HOLD_S", hold_s)
    body, ends = FakeChunks(*([WORD] if hold_s > 1 else []), FOREVER), Ends()
    task = asyncio.create_task(sent(body, ends))
    await asyncio.sleep(0.04)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert (body.closed, body.cancelled, ends) == (1, True, ["client_gone"])


async def test_relay_closed_twice_reports_once() -> None:
    """A relay may be closed twice and reports its end once."""
    body, ends = FakeChunks(WORD, FOREVER), Ends()
    relay = await relay_of(body, ends)
    await anext(relay)
    await relay.aclose()
    await relay.aclose()
    assert ends == ["client_gone"]
    with pytest.raises(StopAsyncIteration):
        await anext(relay)


async def test_client_may_disconnect_after_end_marker() -> None:
    """A client that disconnects after reading [DONE] counts as served completely."""
    body, ends = FakeChunks(GOOD, FOREVER), Ends()
    relay = await relay_of(body, ends)
    assert await anext(relay) == GOOD
    await relay.aclose()
    assert ends == [""]


async def test_ended_relay_stays_ended() -> None:
    """Reading a relay after its end raises StopAsyncIteration again."""
    relay = await relay_of(FakeChunks(GOOD), Ends())
    assert [chunk async for chunk in relay] == [GOOD]
    with pytest.raises(StopAsyncIteration):
        await anext(relay)


FAILURE = b'data: {"choices":[{"delta":{},"finish_reason":"error","error":{"code":429,"message":"later"}}]}\n\n'
NOTHING = b'data: {"choices":[]}\n\n'
NO_END = "the provider ended its answer before it was complete"


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ([DONE], NO_END),
        ([DONE, FOREVER], NO_END),
        ([NOTHING + DONE], NO_END),
        ([FAILURE], "later"),
        ([FAILURE, FOREVER], "later"),
        ([FAILURE, broken()], "later"),
        ([FAILURE[:-2]], "later"),
        ([WORD + FAILURE + DONE], "later"),
        ([WORD, FAILURE + DONE], "later"),
    ],
)
async def test_relay_ends_slow_stream_that_fails_with_an_error(
    last: list[bytes | float | Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that was committed without content gets an error in place of its end, at once."""
    monkeypatch.setattr(commit, "HOLD_S", 0.01)
    ends = Ends()
    out = await asyncio.wait_for(sent(FakeChunks(ROLE, 0.05, *last), ends), 5)
    whole = ROLE + WORD * (WORD in b"".join(part for part in last if isinstance(part, bytes)))
    assert out.startswith(whole)
    assert error_in(out.removeprefix(whole).removeprefix(NOTHING))["message"] == message
    assert ends == ["broken"]
