"""What goes wrong with a server of decisions: values that name the cause, never exceptions."""

import asyncio
from typing import Any, Final

import pytest
from aiohttp import web

from serve_app.domain import Reason, Scores, TokenUsage, Unavailable
from tests.site import closed_port
from tests.unit.engines.chat_server import (
    SECRET,
    Answer,
    Server,
    breaks_off,
    dies,
    hangs,
    raw,
)
from tests.unit.engines.decision_server import (
    NONE,
    SURE,
    MakeDecision,
    choice,
    decision,
    question,
    refuses,
    system_one,
)

NO_DECISION: Final = "returned an answer that is not a decision"
NO_NUMBERS: Final = "returned an answer without probabilities"
NO_NUMBER: Final = "returned a probability that is not a number from 0 to 1"
USED: Final = TokenUsage(90, 7, 64)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (raw(b"oops " + SECRET.encode(), 500), "returned an error (status 500)"),
        (raw(b'{"error": {"message": "no"}}', 400), "returned an error (status 400)"),
        (raw(b"", 401), "rejected the key (status 401); set orchestrator.access_key"),
        (raw(b"", 404), "has no such model or path (status 404); check orchestrator.model and base_url"),
        (raw(b"", 429), "is overloaded (status 429)"),
        (raw(b"<html>"), "returned an answer that is not JSON"),
        (raw(b"[" * 100_000), "returned an answer that is not JSON"),
        (raw(b""), "returned an answer that is not JSON"),
        (raw(b'{"error": {"message": "no"}}'), "returned an error in place of an answer"),
        (raw(b"null"), NO_DECISION),
        (raw(b"[]"), NO_DECISION),
        (raw(b"{}"), NO_DECISION),
        (raw(b'{"answers": []}'), NO_DECISION),
        (raw(b'{"answers": [null]}'), NO_DECISION),
        (raw(b'{"answers": "code"}'), NO_DECISION),
        (raw(b'{"answers": {"other": {}}}'), NO_DECISION),
        (raw(b'{"answers": {"route": []}}'), NO_DECISION),
        (raw(b'{"answers": [{"type": "choice", "choice": "code"}]}'), NO_NUMBERS),
        (raw(b'{"answers": [{"probabilities": 1}]}'), NO_NUMBERS),
        (raw(b'{"answers": [{"probabilities": [1, {}, {"value": [1]}]}]}'), "left out the probability of 4 of 4 options"),
        (dies, "closed the connection without an answer"),
        (breaks_off, "closed the connection in the middle of its answer"),
    ],
)  # fmt: skip
async def test_faults_are_values(
    server: Server, make_decision: MakeDecision, answer: Answer, text: str
) -> None:
    """They name the server and what it did, and nothing of its answer."""
    server.answer = answer
    expected = Unavailable(Reason.ORCHESTRATOR_ERROR, f"{server.place} {text}")
    assert await make_decision().score(question()) == expected


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({NONE: None}, NO_NUMBER),
        ({NONE: "0.15"}, NO_NUMBER),
        ({NONE: True}, NO_NUMBER),
        ({NONE: float("nan")}, NO_NUMBER),
        ({NONE: float("inf")}, NO_NUMBER),
        ({NONE: -0.1}, NO_NUMBER),
        ({NONE: 10**400}, NO_NUMBER),
        ({NONE: 0.9}, "returned probabilities with a sum of 1.75, not of 1"),
        ({NONE: 0, "code": 0}, "returned probabilities with a sum of 0.15, not of 1"),
    ],
)
@pytest.mark.parametrize("api", ["decisions", "systemone"])
async def test_unusable_probabilities_are_faults(
    changes: dict[str, Any], text: str, api: str, server: Server, make_decision: MakeDecision
) -> None:
    """The tokens of such an answer count all the same."""
    listed = {**SURE, **changes}
    server.answer = choice(listed) if api == "decisions" else system_one(listed)
    result = await make_decision(api=api).score(question())
    assert isinstance(result, Unavailable)
    assert (result.reason, result.detail) == (Reason.ORCHESTRATOR_ERROR, f"{server.place} {text}")
    assert result.usage == (USED if api == "decisions" else TokenUsage(318, 34))


async def test_left_out_options_are_a_fault(server: Server, make_decision: MakeDecision) -> None:
    """A value that differs in its type is not one of the options."""
    listed = [{"value": True, "probability": 1.0}, {"value": "code", "probability": 0.5}]
    server.answer = decision({"type": "choice", "probabilities": listed})
    result = await make_decision().score(question())
    detail = f"{server.place} left out the probability of 3 of 4 options"
    assert result == Unavailable(Reason.ORCHESTRATOR_ERROR, detail, USED)


async def test_refusal_is_not_a_failure_of_the_server(
    server: Server, make_decision: MakeDecision
) -> None:
    """The conversation is its cause, so its reason does not open a circuit breaker."""
    server.answer = refuses
    detail = f"{server.place} refused to decide about this conversation"
    assert await make_decision().score(question()) == Unavailable(
        Reason.ORCHESTRATOR_BUSY, detail, USED
    )


async def test_refused_connection_is_a_fault(make_decision: MakeDecision) -> None:
    """No server listens on the port."""
    port = closed_port()
    result = await make_decision(base_url=f"http://127.0.0.1:{port}").score(question())
    expected = f"cannot connect to 127.0.0.1:{port}"
    assert result == Unavailable(Reason.ORCHESTRATOR_ERROR, expected)


async def test_deadline_closes_the_connection(server: Server, make_decision: MakeDecision) -> None:
    """The fault has the deadline, and the next question is answered."""
    engine = make_decision(deadline_s=0.3)
    server.answer = hangs
    expected = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, f"{server.place} timed out after 0.3 s")
    assert await engine.score(question()) == expected
    await asyncio.wait_for(server.left.wait(), 5)
    server.answer = choice(SURE)
    assert isinstance(await engine.score(question()), Scores)


async def test_cancelled_question_closes_its_connection(
    server: Server, make_decision: MakeDecision
) -> None:
    """The server notices that the request has been given up."""
    server.answer = hangs
    task = asyncio.create_task(make_decision().score(question()))
    await asyncio.wait_for(server.asked.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(server.left.wait(), 5)


async def test_answer_over_the_limit_is_a_fault(
    server: Server, make_decision: MakeDecision
) -> None:
    """The rest of it is not read."""

    async def endless(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b" " * ((1 << 20) + 1))

    server.answer = endless
    detail = f"the answer of {server.place} is larger than 1048576 bytes"
    assert await make_decision().score(question()) == Unavailable(Reason.ORCHESTRATOR_ERROR, detail)
