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
    """How streams ended, as they report it."""


async def relay_of(body: FakeChunks, ends: Ends, choices: int = 1) -> Relay:
    held = await hold(reply(200, body), body, new_pipe(choices))
    assert isinstance(held, Held)
    return Relay(held, ends.append)


async def sent(body: FakeChunks, ends: Ends, choices: int = 1) -> bytes:
    """All that a client gets."""
    async with aclosing(await relay_of(body, ends, choices)) as relay:
        chunks = [chunk async for chunk in relay]
    assert all(chunks)
    assert body.closed >= 1
    return b"".join(chunks)


def error_in(event: bytes) -> dict[str, Any]:
    """The error of the one event that these bytes are."""
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
async def test_a_complete_stream_is_untouched_at_every_split(stream: bytes) -> None:
    """However it is cut into chunks, a complete stream comes out byte for byte."""
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
async def test_a_stream_that_stops_early_is_ended_by_one_error(
    last: bytes | StreamBrokenError, code: str, message: str, torn: bytes
) -> None:
    """The client gets the whole events, no torn one, and then an error of its dialect."""
    body = FakeChunks(ROLE, WORD, *([torn] if torn else []), *([last] if last else []))
    ends = Ends()
    out = await sent(body, ends)
    assert out.startswith(ROLE + WORD)
    error = error_in(out.removeprefix(ROLE + WORD))
    assert (error["code"], error["message"]) == (code, message)
    assert ends == ["broken"]


async def test_breaking_off_is_seen_at_every_split() -> None:
    """Wherever a stream is torn after its first words, whole events and one error come out."""
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
async def test_an_event_that_lacks_its_blank_line_only_is_kept(
    whole: bytes, last: list[StreamBrokenError]
) -> None:
    """A complete line is not torn: it goes out as an event of its own before the error."""
    ends = Ends()
    out = await sent(FakeChunks(WORD, whole, *last), ends)
    assert out.startswith(WORD + whole)
    events = parse_events(out)
    assert [event.data for event in events[:2]] == [WORD[6:-2], WORD[6:-2]]
    assert len(events) == 3
    assert ends == ["broken"]


@pytest.mark.parametrize("script", [[ROLE, WORD.rstrip()], [WORD[:-1]]])
async def test_an_error_never_shares_a_line(script: list[bytes]) -> None:
    """When the event that commits lacks its end, the error after it is an event all the same."""
    out = await sent(FakeChunks(*script), Ends())
    assert (parse_events(out)[-1].data or b"").startswith(b'{"error"')


@pytest.mark.parametrize("rest", [[], [b"data: {"], [b": bye\n"]])
async def test_breaking_off_after_the_end_is_no_error(rest: list[bytes]) -> None:
    """Once all is said, how the connection closes does not matter."""
    ends = Ends()
    out = await sent(FakeChunks(GOOD, *rest, broken()), ends)
    assert out == GOOD + b"".join(chunk for chunk in rest if chunk.endswith(b"\n"))
    assert ends == [""]


async def test_the_finish_may_be_the_last_line() -> None:
    """A finish whose blank line is missing is heard all the same."""
    ends = Ends()
    assert await sent(FakeChunks(WORD, STOP[:-1], broken()), ends) == WORD + STOP[:-1]
    assert ends == [""]


async def test_all_choices_have_to_finish() -> None:
    """Of two choices asked for, one finish is not the end."""
    other = b'data: {"choices":[{"index":1,"delta":{"content":"b"}}]}\n\n'
    ends = Ends()
    out = await sent(FakeChunks(WORD, other, STOP), ends, choices=2)
    assert error_in(out.removeprefix(WORD + other + STOP))["code"] == "upstream_error"
    assert ends == ["broken"]


async def test_a_read_that_outlived_the_hold_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was being read when the hold's time ended comes out first and once."""
    monkeypatch.setattr(commit, "HOLD_S", 0.01)
    ends = Ends()
    assert await sent(FakeChunks(ROLE, 0.03, WORD, STOP, DONE), ends) == GOOD
    assert ends == [""]


async def test_a_fault_in_that_read_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the hold's time the stream is committed, and a fault is an error event."""
    monkeypatch.setattr(commit, "HOLD_S", 0.01)
    ends = Ends()
    out = await sent(FakeChunks(0.03, broken(FaultKind.TIMEOUT, "late")), ends)
    assert error_in(out)["code"] == "upstream_timeout"
    assert ends == ["broken"]


async def test_closing_unread_closes_the_body() -> None:
    """A relay of which nothing was read closes its upstream too."""
    body, ends = FakeChunks(WORD, FOREVER), Ends()
    relay = await relay_of(body, ends)
    await relay.aclose()
    assert (body.closed, ends) == (1, ["client_gone"])


async def test_closing_unread_cancels_the_read_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read left over from the hold does not outlive the relay."""
    monkeypatch.setattr(commit, "HOLD_S", 0.01)
    body, ends, before = FakeChunks(FOREVER), Ends(), asyncio.all_tasks()
    relay = await relay_of(body, ends)
    await relay.aclose()
    await asyncio.sleep(0)
    assert (body.closed, body.cancelled, ends) == (1, True, ["client_gone"])
    assert asyncio.all_tasks() == before


async def test_a_failed_read_that_nobody_asked_for_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fault that comes after the client has left is no line in the log."""
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
async def test_a_client_that_leaves_in_the_middle(
    hold_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while it waits, the relay ends the read and closes the body."""
    monkeypatch.setattr(commit, "HOLD_S", hold_s)
    body, ends = FakeChunks(*([WORD] if hold_s > 1 else []), FOREVER), Ends()
    task = asyncio.create_task(sent(body, ends))
    await asyncio.sleep(0.04)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert (body.closed, body.cancelled, ends) == (1, True, ["client_gone"])


async def test_closing_twice_reports_once() -> None:
    """Closing again does no harm, and an end is reported once."""
    body, ends = FakeChunks(WORD, FOREVER), Ends()
    relay = await relay_of(body, ends)
    await anext(relay)
    await relay.aclose()
    await relay.aclose()
    assert ends == ["client_gone"]
    with pytest.raises(StopAsyncIteration):
        await anext(relay)


async def test_a_client_may_leave_after_the_end() -> None:
    """Who has read [DONE] and hangs up has got everything."""
    body, ends = FakeChunks(GOOD, FOREVER), Ends()
    relay = await relay_of(body, ends)
    assert await anext(relay) == GOOD
    await relay.aclose()
    assert ends == [""]


async def test_a_relay_ends_once() -> None:
    """After its end a relay stays at its end."""
    relay = await relay_of(FakeChunks(GOOD), Ends())
    assert [chunk async for chunk in relay] == [GOOD]
    with pytest.raises(StopAsyncIteration):
        await anext(relay)
