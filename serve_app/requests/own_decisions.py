"""Typed questions that the gateway's own orchestrator answers, as the model ``fingerpost/route``.

The options of a question are asked as routes, and a statement as a single route: it is true as far
as that is likelier than "no route". What is learned or configured for routes does not apply.
"""

import asyncio
import math
from dataclasses import dataclass, replace
from functools import reduce
from hashlib import sha256
from operator import add
from typing import Final

from serve_app.dialects.registry import QUESTION_DIALECTS
from serve_app.dialects.typed_questions import Probabilities, QuestionBatch, TypedQuestion
from serve_app.domain import (
    AUTO_NAMES,
    OWN_MODEL,
    Question,
    Reason,
    Route,
    RouteDecision,
    Scores,
    TokenUsage,
    Turn,
    Unavailable,
)
from serve_app.errors import InvalidRequest, NotSupported, OrchestratorUnavailable, UnknownModel
from serve_app.ports import Clock, Orchestrator
from serve_app.requests.answer import JSON_TYPE, Answer, decision_headers
from serve_app.requests.call import ClientRequest
from serve_app.requests.intent import read_intent
from serve_app.scoring.excerpt import conversation, recent
from serve_app.telemetry.record import Observer, RequestRecord

AT_ONCE: Final = 8
"""Questions of one request that an engine gets at once."""

AT_ONCE_ON_A_THREAD: Final = 2
"""The same for the embedded engine, whose only thread decides about chats in between."""

LEAST_TURN_S: Final = 0.05
_TURNS_IN_DEADLINE: Final = 4
"""Turns of the embedded engine, each for one question, in the time that a chat waits for it."""

FIRST_PAUSE_S: Final = 0.01
LONGEST_PAUSE_S: Final = 0.1
"""Pauses before an engine that is busy, or still embeds the options, is asked again."""

_OK: Final = 200
_DIGITS: Final = 9
_HAVE_PROBABILITIES: Final = (
    "set `orchestrator.engine` to one that has them: embedding, embeddings, decision, or vllm with "
    "mode auto or trie; or name a model whose provider has /v1/decisions"
)


def own_decision(request: ClientRequest) -> RouteDecision | None:
    """The decision for typed questions that the gateway's own orchestrator answers.

    It names the gateway's model, or leaves the model open. Returns None for other requests. Raises
    InvalidRequest, or UnknownModel if the dialect does not allow another model.
    """
    dialect = QUESTION_DIALECTS.get(request.dialect.name)
    if dialect is None:
        return None
    name = request.hint or read_intent(request).model or ""
    if name == str(OWN_MODEL) or dialect.names_own_model(name):
        return RouteDecision((OWN_MODEL,), Reason.EXPLICIT)
    if request.snapshot.policy.leaves_open(name):
        is_alias = name.lower() not in AUTO_NAMES
        return RouteDecision((OWN_MODEL,), Reason.ALIAS if is_alias else Reason.DEFAULT)
    if dialect.has_providers:
        return None
    raise UnknownModel(name, (str(OWN_MODEL),))


@dataclass(frozen=True, slots=True)
class OwnDecisions:
    """The gateway's orchestrator as a model that answers typed questions."""

    orchestrator: Orchestrator
    observer: Observer
    clock: Clock

    async def answer(self, request: ClientRequest, decision: RouteDecision) -> Answer:
        """The answers to a request, for which ``decision`` is ``own_decision``.

        Raises InvalidRequest for a fault of the request, NotSupported for an engine without
        probabilities, and OrchestratorUnavailable if a question was not answered in time.
        """
        section = request.snapshot.config.orchestrator
        if not section.has_probabilities:
            raise NotSupported(_without_probabilities(section.engine))
        dialect = QUESTION_DIALECTS[request.dialect.name]
        batch = dialect.read_questions(request.document)
        scores = await self._ask_all(request, batch)
        answers = [
            None if score.unreadable else probabilities_of(question, score)
            for question, score in zip(batch.questions, scores, strict=True)
        ]
        tiers = {score.tier for score in scores}
        decision = replace(decision, tier=tiers.pop() if len(tiers) == 1 else "")
        usage = reduce(add, (score.usage or TokenUsage(0) for score in scores))
        body = dialect.write_answers(request.document, batch, answers, usage)
        took_s = self.clock() - request.arrived
        version = request.snapshot.policy.version
        self.observer.ended(
            RequestRecord(
                request.surface,
                _OK,
                reason=decision.reason,
                policy=request.snapshot.version,
                provider=OWN_MODEL.provider,
                model=str(OWN_MODEL),
                seconds=took_s,
                id=request.id,
                at=request.at,
                client=request.client.name,
                team=request.client.team,
                asked=request.hint or read_intent(request).model or "",
                candidates=(str(OWN_MODEL),),
                tier=decision.tier,
                decision_reason=decision.reason,
                context=request.trace,
            )
        )
        headers = decision_headers(decision, OWN_MODEL, decision.reason, version)
        timing = ("server-timing", f"decide;dur={took_s * 1e3:.2f}")
        return Answer(_OK, (JSON_TYPE, *headers, timing), body)

    async def _ask_all(self, request: ClientRequest, batch: QuestionBatch) -> list[Scores]:
        """The scores of all questions, some of them at once.

        After the first one that is not answered, no other is asked.
        """
        config = request.snapshot.config
        section = config.orchestrator
        excerpt = conversation if section.reads_conversations else recent
        turns = excerpt(batch.turns)
        if not turns:
            message = f"{batch.place}: has no text of the user; add what the questions are about"
            raise InvalidRequest(message, batch.place)
        ends_at = request.arrived + config.timeouts.first_byte_s
        waits = not section.generates  # there "busy" may mean a prompt that never fits
        on_thread = section.engine == "embedding"
        turn_s = max(LEAST_TURN_S, section.deadline_s / _TURNS_IN_DEADLINE) if on_thread else None
        questions = [_question_of(asked, turns, turn_s) for asked in batch.questions]
        results: dict[int, Scores] = {}
        faults: list[Unavailable] = []
        left = iter(enumerate(questions))

        async def ask_in_turn() -> None:
            for at, question in left:
                result = await self._ask(question, ends_at if waits else 0.0)
                if isinstance(result, Scores):
                    results[at] = result
                else:
                    faults.append(result)
                if faults:
                    return

        at_once = AT_ONCE_ON_A_THREAD if on_thread else AT_ONCE
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(questions))):
                group.create_task(ask_in_turn())
        if faults:
            raise OrchestratorUnavailable(faults[0].detail)
        return [results[at] for at in range(len(questions))]

    async def _ask(self, question: Question, ends_at: float) -> Scores | Unavailable:
        """The scores of one question; an engine that is busy is asked again until ``ends_at``.

        Their usage is that of all turns.
        """
        pause_s, spent = FIRST_PAUSE_S, TokenUsage(0)
        while True:
            result = await self.orchestrator.score(question)
            spent += result.usage or TokenUsage(0)
            if isinstance(result, Scores):
                return replace(result, usage=spent)
            is_busy = result.reason is Reason.ORCHESTRATOR_BUSY
            if not is_busy or self.clock() + pause_s > ends_at:
                return result
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def probabilities_of(question: TypedQuestion, scores: Scores) -> Probabilities:
    """The probabilities of a question's options, without that of "no route".

    Options that are all as good as impossible are equally probable. Raises NotSupported if the
    engine did not score all of them.
    """
    values = [scores.routes.get(option.name) for option in question.options]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        raise NotSupported(_without_probabilities(scores.tier or "of the orchestrator"))
    if len(known) == 1:
        none = 1.0 - known[0] if scores.none is None else scores.none
        known.append(none)
    total = math.fsum(known)  # exact, so that the order of the options changes nothing
    shares = [value / total if total else 1 / len(known) for value in known]
    return tuple(round(share, _DIGITS) for share in shares[: len(values)])


def _question_of(
    question: TypedQuestion, turns: tuple[Turn, ...], within_s: float | None
) -> Question:
    """A typed question as the orchestrator is asked it: its options in the order of their names."""
    options = sorted(question.options, key=lambda option: option.name)
    routes = tuple(Route(option.name, option.description, ()) for option in options)
    key = _key_of(routes)
    return Question(turns, routes, key, within_s, is_inline=True, wants_probabilities=True)


def _key_of(routes: tuple[Route, ...]) -> str:
    """The key of options, which have names and descriptions only: equal keys mean equal options."""
    texts = [text for route in routes for text in (route.name, route.description)]
    lengths = ",".join([str(len(text)) for text in texts])
    whole = f"{lengths}:{''.join(texts)}"
    return "inline:" + sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def _without_probabilities(engine: str) -> str:
    return f"{OWN_MODEL}: the engine {engine} names the best option only; {_HAVE_PROBABILITIES}"
