"""Trials: what edited routes would do, without a trace in sessions, caches and metrics."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import DEFAULT_DIALECT
from serve_app.domain import (
    Question,
    Reason,
    Route,
    RouteDecision,
    Scores,
    Turn,
    Unavailable,
)
from serve_app.providers.prices import CurrentPrices
from serve_app.requests.call import ClientRequest
from serve_app.requests.latencies import Latencies
from serve_app.requests.selection import Selection
from serve_app.requests.trial import PATIENCE_S, RouteEdit, Trials
from serve_app.snapshot import Snapshot
from serve_app.telemetry.recent import RecentDecision
from serve_app.telemetry.record import RequestRecord
from tests.unit.fakes import FakeClock, snapshot_of
from tests.unit.requests.gateway_rig import ROUTES, TEXT

BUSY = Unavailable(Reason.ORCHESTRATOR_BUSY, "requests are being decided")


class Asked:
    """An orchestrator that gives the next of its answers, and the last one again and again."""

    def __init__(self, *answers: Scores | Unavailable) -> None:
        self.answers = list(answers)
        self.questions: list[Question] = []

    async def score(self, question: Question) -> Scores | Unavailable:
        self.questions.append(question)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(tmp_path, TEXT + ROUTES)


def scores_of(snapshot: Snapshot, best: float = 0.6, none: float = 0.1) -> Scores:
    routes = {route.name: best for route in snapshot.policy.routes}
    winner = next(iter(routes), None)
    return Scores(routes, 0.2, winner, none=none)


def trials_of(snapshot: Snapshot, asked: Asked, clock: FakeClock | None = None) -> Trials:
    clock = clock or FakeClock()
    return Trials(asked, Selection(Latencies(clock)), CurrentPrices(lambda: snapshot.config), clock)


def request(snapshot: Snapshot, **body: Any) -> ClientRequest:
    content = {"messages": [{"role": "user", "content": "fix it"}], **body}
    document = read_document(json.dumps(content).encode(), unique=frozenset())
    return ClientRequest(snapshot, "route", DEFAULT_DIALECT, document, (), None, 0.0)


def edit_of(snapshot: Snapshot, *more: Route, **limits: float) -> RouteEdit:
    return RouteEdit((*snapshot.policy.routes, *more), **limits)  # type: ignore[arg-type]


def test_edit_without_a_difference_is_the_configuration_itself(snapshot: Snapshot) -> None:
    """So its questions are those of requests, under the same version."""
    assert edit_of(snapshot).applied_to(snapshot) is snapshot


def test_edit_has_a_version_of_its_own(snapshot: Snapshot) -> None:
    """Equal edits have equal versions; everything but routes and thresholds stays."""
    new = Route("new", "n", snapshot.policy.routes[0].models)
    edited = edit_of(snapshot, new, min_confidence=0.7).applied_to(snapshot)
    assert edited.version.startswith("edited-")
    assert edited.version == edit_of(snapshot, new).applied_to(snapshot).version
    assert edited.policy.routes[-1] == new
    assert edited.policy.models == snapshot.policy.models
    assert edited.config.orchestrator.min_confidence == 0.7
    assert snapshot.config.orchestrator.min_confidence != 0.7


async def test_trial_asks_with_edited_routes(snapshot: Snapshot) -> None:
    """The question is marked, has a key of its own, and names the edited routes."""
    new = Route("new", "n", (snapshot.policy.models["openai/d"],))
    edited = edit_of(snapshot, new).applied_to(snapshot)
    asked = Asked(replace(scores_of(edited), winner="new"))
    result = await trials_of(snapshot, asked).explain(request(snapshot), edited)
    (question,) = asked.questions
    assert question.is_trial
    assert question.key == f"trial:{edited.version}"
    assert question.routes == edited.policy.routes
    assert result.explanation["route"] == "new"
    assert result.explanation["model"] == "openai/d"
    assert dict(result.headers)["x-fingerpost-route"] == "new"
    assert len(result.prices) == len(result.explanation["candidates"])


async def test_trial_waits_until_the_engine_is_idle(snapshot: Snapshot) -> None:
    """It asks again while requests are decided, and gives up when its patience is over."""
    asked = Asked(BUSY, BUSY, scores_of(snapshot))
    result = await trials_of(snapshot, asked).explain(request(snapshot), snapshot)
    assert result.explanation["reason"] == "route"
    assert len(asked.questions) == 3

    clock = FakeClock()
    impatient = Asked(BUSY)
    clock.now = 100.0

    async def tick(question: Question) -> Scores | Unavailable:
        clock.now += PATIENCE_S
        return BUSY

    impatient.score = tick  # type: ignore[method-assign]
    result = await trials_of(snapshot, impatient, clock).explain(request(snapshot), snapshot)
    assert result.explanation["reason"] == "orchestrator_busy"


@pytest.mark.parametrize(("limit", "reason"), [(0.5, "route"), (0.65, "no_match")])
async def test_edited_threshold_decides(snapshot: Snapshot, limit: float, reason: str) -> None:
    """It replaces that of the engine, whose scores stay."""
    edited = edit_of(snapshot, min_confidence=limit).applied_to(snapshot)
    result = await trials_of(snapshot, Asked(scores_of(snapshot))).explain(
        request(snapshot), edited
    )
    assert result.explanation["reason"] == reason
    assert result.explanation["orchestrator"]["no_match"] == limit


async def test_names_decide_unless_they_are_ignored(snapshot: Snapshot) -> None:
    """A body that names its model is decided by content only if that is asked for."""
    asked = Asked(scores_of(snapshot))
    trials = trials_of(snapshot, asked)
    named = request(snapshot, model="openai/e")
    assert (await trials.explain(named, snapshot)).explanation["reason"] == "explicit"
    by_content = await trials.explain(named, snapshot, by_content=True)
    assert by_content.explanation["reason"] == "route"
    assert len(asked.questions) == 1


async def test_trial_reads_no_session(snapshot: Snapshot) -> None:
    """A request of a session is decided as its first one, and nothing is bound."""
    asked = Asked(scores_of(snapshot))
    call = replace(request(snapshot), deciding_headers={"x-model-affinity": "chat-1"})
    result = await trials_of(snapshot, asked).explain(call, snapshot)
    assert result.explanation["session"] == {
        "session_id": "chat-1",
        "pinned": False,
        "switched": False,
    }


async def decided_again(
    snapshot: Snapshot, one: RecentDecision, *answers: Scores | Unavailable
) -> RouteDecision | Unavailable | None:
    return await trials_of(snapshot, Asked(*answers)).decide_again(one, snapshot, 0.0)


def one_of(asked: str = "", **fields: Any) -> RecentDecision:
    record = RequestRecord("chat", 200, reason="route", route="code é", asked=asked)
    return replace(RecentDecision(1, record, turns=(Turn("user", "fix it"),)), **fields)


async def test_kept_decision_is_decided_again(snapshot: Snapshot) -> None:
    """By content, with the text that was kept; why not is told as for a request."""
    again = await decided_again(snapshot, one_of(), scores_of(snapshot))
    assert isinstance(again, RouteDecision)
    assert again.route == "code é"
    assert await decided_again(snapshot, one_of(), BUSY) == BUSY


@pytest.mark.parametrize(
    "one",
    [one_of(turns=()), one_of(is_inline=True), one_of(asked="openai/e")],
    ids=["no text", "own routes", "named"],
)
async def test_decisions_that_an_edit_cannot_change_are_left_out(
    snapshot: Snapshot, one: RecentDecision
) -> None:
    """Those without text, with routes of their own, and those that named their model."""
    assert await decided_again(snapshot, one, scores_of(snapshot)) is None


async def test_without_routes_the_default_answers(snapshot: Snapshot) -> None:
    """An edit may remove every route."""
    edited = RouteEdit(()).applied_to(snapshot)
    again = await trials_of(snapshot, Asked(BUSY)).decide_again(one_of(), edited, 0.0)
    assert isinstance(again, RouteDecision)
    assert (again.route, again.reason) == (None, Reason.DEFAULT)
