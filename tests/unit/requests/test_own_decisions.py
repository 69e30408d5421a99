"""Typed questions that the gateway's own orchestrator answers."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import QUESTION_DIALECTS, SYSTEM_ONE, client_dialect
from serve_app.dialects.typed_questions import Option, TypedQuestion
from serve_app.domain import OWN_MODEL, Question, Reason, Scores, TokenUsage, Turn, Unavailable
from serve_app.errors import InvalidRequest, NotSupported, OrchestratorUnavailable, UnknownModel
from serve_app.requests.answer import Answer
from serve_app.requests.call import ClientRequest
from serve_app.requests.own_decisions import (
    AT_ONCE,
    AT_ONCE_ON_A_THREAD,
    OwnDecisions,
    own_decision,
    probabilities_of,
)
from serve_app.snapshot import Snapshot
from serve_app.telemetry.metrics import Metric, MetricsObserver
from tests.unit.fakes import FakeClock, FakeMeter, headers_of, request_of, snapshot_of
from tests.unit.requests.gateway_rig import TEXT

ALIAS = "  smart: {target: auto}\n"
CONFIG = TEXT.replace("timeouts:", f"{ALIAS}timeouts:")
SERVER = 'model: m, base_url: "http://127.0.0.1:1/v1"'
CHOICES = [{"value": "b"}, {"value": "a"}, {"value": "c"}]
CHOICE = {"type": "choice", "instructions": "Which?", "choices": CHOICES}
PREDICATE = {"type": "predicate", "instructions": "It is so"}


class Weighing:
    """Gives each option its weight, and "no route" the rest; records what it is asked."""

    def __init__(self, weights: Mapping[str, float], **fields: Any) -> None:
        self.weights = weights
        self.fields = fields
        self.questions: list[Question] = []
        self.faults: list[Unavailable] = []
        self.under_way = self.most = 0

    async def score(self, question: Question) -> Scores | Unavailable:
        self.questions.append(question)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.faults:
            return self.faults.pop(0)
        routes = {route.name: self.weights.get(route.name, 0.0) for route in question.routes}
        fields = {"none": 1 - sum(routes.values()), **self.fields}
        return Scores(routes, 0.0, None, **fields)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(tmp_path, CONFIG)


def asking(
    snapshot: Snapshot, *questions: Any, hint: str | None = None, **fields: Any
) -> ClientRequest:
    """A request to /v1/decisions; a field of None is left out."""
    body = {"model": str(OWN_MODEL), "input": "Hello there", "questions": list(questions), **fields}
    content = json.dumps({key: value for key, value in body.items() if value is not None})
    return _spoken(request_of(snapshot, content, hint=hint), "decisions", content)


def _spoken(request: ClientRequest, name: str, content: str) -> ClientRequest:
    dialect = SYSTEM_ONE if name == SYSTEM_ONE.name else client_dialect(name)
    document = read_document(content.encode(), unique=dialect.fields.read)
    return replace(request, dialect=dialect, surface=dialect.name, document=document)


async def answered(
    request: ClientRequest,
    orchestrator: Weighing,
    meter: FakeMeter | None = None,
    clock: FakeClock | None = None,
) -> Answer:
    observer = MetricsObserver(meter or FakeMeter())
    own = OwnDecisions(orchestrator, observer, clock or FakeClock(0.0))
    decision = own_decision(request)
    assert decision is not None
    return await own.answer(request, decision)


def answers_of(answer: Answer) -> Any:
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)["answers"]


@pytest.mark.parametrize(
    ("model", "hint", "reason"),
    [
        ("fingerpost/route", None, Reason.EXPLICIT),
        ("openai/a", "fingerpost/route", Reason.EXPLICIT),
        (None, None, Reason.DEFAULT),
        ("", None, Reason.DEFAULT),
        ("none", None, Reason.DEFAULT),
        ("Auto", None, Reason.DEFAULT),
        ("smart", None, Reason.ALIAS),
        ("fast", None, None),
        ("openai/a", None, None),
        ("unknown", None, None),
        ("jev-latest", None, None),
        ("fingerpost/route", "openai/a", None),
    ],
)
def test_own_decision_is_for_its_name_and_an_open_choice(
    snapshot: Snapshot, model: str | None, hint: str | None, reason: Reason | None
) -> None:
    """Other names are those of models, also an alias of one."""
    decision = own_decision(asking(snapshot, PREDICATE, model=model, hint=hint))
    assert (decision and decision.reason) == reason
    assert decision is None or decision.candidates == (OWN_MODEL,)


def test_own_decision_is_none_for_other_dialects(snapshot: Snapshot) -> None:
    """A chat is not a list of questions, whatever model it names."""
    assert own_decision(request_of(snapshot, '{"messages": [], "model": "auto"}')) is None


def test_system_one_has_no_other_model(snapshot: Snapshot) -> None:
    """Providers are not asked in that format, so that a model of theirs is an error."""

    def request(model: str) -> ClientRequest:
        content = json.dumps({"model": model, "state": "x", "questions": {}})
        return _spoken(request_of(snapshot, content), SYSTEM_ONE.name, content)

    named = own_decision(request("jev-latest"))
    assert named is not None
    assert named.reason is Reason.EXPLICIT
    with pytest.raises(UnknownModel, match="did you mean 'fingerpost/route'"):
        own_decision(request("openai/a"))
    assert set(QUESTION_DIALECTS) == {"decisions", "systemone"}


async def test_options_are_asked_as_routes_in_one_order(snapshot: Snapshot) -> None:
    """The question is the same to the last bit in whatever order the client lists the choices."""
    orchestrator = Weighing({"a": 0.5, "b": 0.2, "c": 0.05})
    first = await answered(asking(snapshot, CHOICE), orchestrator)
    turned = {**CHOICE, "choices": CHOICES[::-1]}
    second = await answered(asking(snapshot, turned), orchestrator)
    one, other = orchestrator.questions
    assert one == other
    assert [route.name for route in one.routes] == ["a", "b", "c"]
    assert one.turns == (Turn("user", "Hello there"),)
    assert one.is_inline
    assert one.wants_probabilities
    assert one.key.startswith("inline:")
    assert answers_of(first)[0]["probabilities"] == answers_of(second)[0]["probabilities"][::-1]


async def test_probabilities_are_shares_without_no_route(snapshot: Snapshot) -> None:
    """They sum to 1, and the confidence is that of the chosen option."""
    orchestrator = Weighing({"a": 0.5, "b": 0.25, "c": 0.05})
    (choice,) = answers_of(await answered(asking(snapshot, CHOICE), orchestrator))
    assert choice["choice"] == "a"
    assert choice["confidence"] == 0.625
    values = {entry["value"]: entry["probability"] for entry in choice["probabilities"]}
    assert values == {"b": 0.3125, "a": 0.625, "c": 0.0625}


async def test_statement_is_true_against_no_route(snapshot: Snapshot) -> None:
    """Its probability is that of its route, of which the rest is no route's."""
    orchestrator = Weighing({"It is so": 0.7})
    (predicate,) = answers_of(await answered(asking(snapshot, PREDICATE), orchestrator))
    assert predicate["probability"] == 0.7
    (route,) = orchestrator.questions[0].routes
    assert (route.name, route.description) == ("It is so", "It is so")


@pytest.mark.parametrize(
    ("routes", "none", "shares"),
    [
        ({"a": 0.0, "b": 0.0}, 1.0, (0.5, 0.5)),
        ({"a": 0.2, "b": 0.6}, None, (0.25, 0.75)),
        ({"a": 0.3, "b": 0.3, "x": 0.1}, 0.3, (0.5, 0.5)),
    ],
)
def test_probabilities_of_options(
    routes: dict[str, float], none: float | None, shares: tuple[float, ...]
) -> None:
    """Options that are all impossible are equally probable; other routes do not count."""
    asked = TypedQuestion((Option("a", "a"), Option("b", "b")))
    assert probabilities_of(asked, Scores(routes, 0.0, None, none=none)) == shares


@pytest.mark.parametrize(
    ("probability", "none", "share"),
    [(0.4, None, 0.4), (0.2, 0.6, 0.25), (0.0, 0.0, 0.5)],
)
def test_probability_of_a_statement(probability: float, none: float | None, share: float) -> None:
    """An engine without a probability of "no route" leaves the rest to it."""
    scores = Scores({"a": probability}, 0.0, None, none=none)
    assert probabilities_of(TypedQuestion((Option("a", "a"),)), scores) == (share,)


async def test_unreadable_script_is_a_refusal(snapshot: Snapshot) -> None:
    """The engine would guess, and its answer is not shown."""
    orchestrator = Weighing({"a": 0.5}, unreadable=True)
    found = answers_of(await answered(asking(snapshot, {**CHOICE, "name": "n"}), orchestrator))
    assert found == [{"type": "refusal", "name": "n"}]


async def test_usage_is_the_sum_and_headers_name_the_tier(snapshot: Snapshot) -> None:
    """Cached scores took no tokens; a request that two tiers decided names none."""
    orchestrator = Weighing({}, usage=TokenUsage(5, 1, 2), tier="embedding")
    answer = await answered(asking(snapshot, PREDICATE, CHOICE), orchestrator)
    assert isinstance(answer.body, bytes)
    usage = json.loads(answer.body)["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (10, 2, 12)
    assert usage["input_tokens_details"]["cached_tokens"] == 4
    headers = headers_of(answer)
    assert headers["x-fingerpost-model"] == "fingerpost/route"
    assert headers["x-fingerpost-reason"] == "explicit"
    assert headers["x-fingerpost-tier"] == "embedding"
    assert headers["x-fingerpost-policy"] == snapshot.version
    assert headers["server-timing"].startswith("decide;dur=")
    assert "x-fingerpost-confidence" not in headers

    class Mixed(Weighing):
        async def score(self, question: Question) -> Scores | Unavailable:
            scores = await super().score(question)
            assert isinstance(scores, Scores)
            return replace(scores, tier=str(len(question.routes)), usage=None)

    answer = await answered(asking(snapshot, PREDICATE, CHOICE), Mixed({}))
    assert "x-fingerpost-tier" not in headers_of(answer)
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body)["usage"]["total_tokens"] == 0


async def test_answer_is_recorded(snapshot: Snapshot) -> None:
    """As one of a model of the provider ``fingerpost``."""
    meter, clock = FakeMeter(), FakeClock(0.25)
    await answered(asking(snapshot, PREDICATE), Weighing({}), meter, clock)
    assert meter.counted(Metric.REQUESTS) == [("decisions", "200", "explicit")]
    labels = ("decisions", "fingerpost", "fingerpost/route", "")
    assert meter.observed(Metric.REQUEST_SECONDS) == [(0.25, labels)]


@pytest.mark.parametrize(
    ("engine", "most"),
    [("embedding", AT_ONCE_ON_A_THREAD), (f"embeddings, {SERVER}", AT_ONCE)],
)
async def test_few_questions_are_asked_at_once(tmp_path: Path, engine: str, most: int) -> None:
    """The embedded engine's thread is left to chats in between; answers keep their order.

    There a question may take a part of the time that a chat waits.
    """
    snapshot = snapshot_of(tmp_path, f"{CONFIG}orchestrator: {{engine: {engine}}}\n")
    questions = [{**PREDICATE, "instructions": str(n), "name": str(n)} for n in range(20)]
    orchestrator = Weighing({str(n): n / 100 for n in range(20)})
    found = answers_of(await answered(asking(snapshot, *questions), orchestrator))
    assert orchestrator.most == most
    turn_s = 0.075 if engine == "embedding" else None
    assert {question.within_s for question in orchestrator.questions} == {turn_s}
    assert [(a["name"], a["probability"]) for a in found] == [(str(n), n / 100) for n in range(20)]


async def test_fault_ends_the_request(snapshot: Snapshot) -> None:
    """It says why, and the questions that are left are not asked."""
    orchestrator = Weighing({})
    orchestrator.faults = [Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "timed out after 300 ms")]
    request = asking(snapshot, *[{**PREDICATE, "instructions": str(n)} for n in range(20)])
    with pytest.raises(OrchestratorUnavailable, match="timed out after 300 ms") as caught:
        await answered(request, orchestrator)
    assert (caught.value.status, caught.value.code) == (503, "orchestrator_unavailable")
    assert not caught.value.is_final
    assert len(orchestrator.questions) <= 2 * AT_ONCE_ON_A_THREAD


async def test_busy_engine_is_asked_again(snapshot: Snapshot) -> None:
    """New options are embedded over several tries; once no time is left, the client is told."""
    busy = Unavailable(Reason.ORCHESTRATOR_BUSY, "still being embedded", TokenUsage(7))
    orchestrator = Weighing({"It is so": 0.5}, usage=TokenUsage(2))
    orchestrator.faults = [busy, replace(busy, usage=None)]
    answer = await answered(asking(snapshot, PREDICATE), orchestrator)
    assert len(orchestrator.questions) == 3
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body)["usage"]["input_tokens"] == 9
    orchestrator.faults = [busy]
    late = FakeClock(snapshot.config.timeouts.first_byte_s)
    with pytest.raises(OrchestratorUnavailable, match="still being embedded"):
        await answered(asking(snapshot, PREDICATE), orchestrator, clock=late)


async def test_busy_language_model_is_not_asked_again(tmp_path: Path) -> None:
    """There it may mean options that never fit into the prompt."""
    snapshot = snapshot_of(tmp_path, f"{CONFIG}orchestrator: {{engine: decision, {SERVER}}}\n")
    orchestrator = Weighing({})
    orchestrator.faults = [Unavailable(Reason.ORCHESTRATOR_BUSY, "too long")]
    with pytest.raises(OrchestratorUnavailable, match="too long"):
        await answered(asking(snapshot, PREDICATE), orchestrator)
    assert len(orchestrator.questions) == 1


async def test_engine_without_probabilities_is_not_asked(tmp_path: Path) -> None:
    """The error names engines that have them, and SDKs do not repeat the request."""
    snapshot = snapshot_of(tmp_path, f"{CONFIG}orchestrator: {{engine: http, {SERVER}}}\n")
    orchestrator = Weighing({})
    with pytest.raises(NotSupported, match="http names the best option only; set") as caught:
        await answered(asking(snapshot, PREDICATE), orchestrator)
    assert (caught.value.status, caught.value.is_final) == (501, True)
    assert not orchestrator.questions


@pytest.mark.parametrize("tier", ["vllm", ""])
async def test_scores_of_the_best_option_alone_are_no_answer(snapshot: Snapshot, tier: str) -> None:
    """The shares of the others are unknown."""

    class OnlyBest(Weighing):
        async def score(self, question: Question) -> Scores | Unavailable:
            del question
            return Scores({"a": 0.5}, 0.0, None, tier=tier)

    with pytest.raises(NotSupported, match=tier or "of the orchestrator"):
        await answered(asking(snapshot, CHOICE), OnlyBest({}))


@pytest.mark.parametrize(
    "text", ["", "  ", [], [{"role": "assistant", "content": "Hi"}], "<system-reminder>x"]
)
async def test_input_needs_words_of_the_user(snapshot: Snapshot, text: Any) -> None:
    """As routing by content does."""
    with pytest.raises(InvalidRequest, match="input: has no text of the user") as caught:
        await answered(asking(snapshot, PREDICATE, input=text), Weighing({}))
    assert caught.value.param == "input"


async def test_engine_reads_what_it_reads_of_a_chat(tmp_path: Path) -> None:
    """The last turns for a comparison of embeddings, the conversation for a language model."""
    items = [
        {"role": "user", "content": "one " * 12},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three " * 12},
    ]
    counts = []
    for engine in ("embedding", f"decision, {SERVER}"):
        snapshot = snapshot_of(tmp_path, f"{CONFIG}orchestrator: {{engine: {engine}}}\n")
        orchestrator = Weighing({})
        await answered(asking(snapshot, PREDICATE, input=items), orchestrator)
        counts.append(len(orchestrator.questions[0].turns))
    assert counts == [1, 3]
