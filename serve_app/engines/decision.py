"""The engine `decision`: a model behind a server that answers typed questions with probabilities.

The server gets one question, whose options are the routes and one more for none of them. Two APIs
have such questions: OpenAI's decisions and TypeSafe's System One. Options are in the order of their
names, so that the order of the configuration changes nothing.

Sources: OpenAI API reference, "Decisions", as in openai-python 3.57 (``types/decision*.py``);
TypeSafe's OpenAPI document, as in typesafe-sdk 0.7.
"""

import asyncio
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

from serve_app.config.schema.orchestrator import MAX_DECISION_ROUTES, EngineSection
from serve_app.domain import Json, Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.engines.http import MAX_DECISION_BYTES, estimate_tokens
from serve_app.engines.server_client import ServerClient, read_usage
from serve_app.engines.servers import FIRST, Server, Servers
from serve_app.exchange import Operation
from serve_app.scoring.calibration import DecisionRule
from serve_app.scoring.prompt import MAX_TURNS, MIN_TURN_TOKENS, replace_surrogates, shorten

BUDGET_TOKENS: Final = 8192
"""Default maximum of tokens in routes and conversation, estimated."""

SYSTEM_ONE_PATH: Final = "/systemone"
"""Where TypeSafe's API has its questions, below the base URL."""

SUM_TOLERANCE: Final = 0.1
"""How far from 1 the sum of all probabilities may be: servers round each of them."""

_QUESTION: Final = "route"
"""The name of the question, which System One repeats in its answer."""

_INSTRUCTIONS: Final = (
    "Which option describes what the user wants in their last message? Earlier messages only "
    "explain it."
)
_NONE: Final = "none of these"
_NONE_DESCRIPTION: Final = "The request matches none of the other options."
_BYTES_PER_TOKEN: Final = 4
_DIGITS: Final = 6


class _UnusableError(Exception):
    """An answer without usable probabilities; the text completes "the server ..."."""


@dataclass(frozen=True, slots=True)
class DecisionSettings:
    """Settings of the engine `decision`."""

    server: Server = field(repr=False)
    api: str = "decisions"
    """``decisions`` or ``systemone``."""
    budget_tokens: int = BUDGET_TOKENS
    """Maximum tokens of routes and conversation, estimated; older turns are left out."""
    min_confidence: float = 0.2
    min_margin: float = 0.0
    deadline_s: float = 5.0
    tls_ca: str | None = None
    """A file with certificates that are trusted in addition to the system's."""

    @classmethod
    def from_section(
        cls, section: EngineSection, deadline_s: float, servers: Servers, key: str = FIRST
    ) -> Self:
        """The settings of a section; ``key`` is its key. Raises EngineFaultError."""
        return cls(
            server=servers.named_by(section, Operation.DECISIONS, key),
            api=section.api,
            budget_tokens=section.max_model_len or BUDGET_TOKENS,
            min_confidence=section.min_confidence,
            min_margin=section.min_margin,
            deadline_s=deadline_s,
            tls_ca=servers.tls_ca,
        )


class DecisionEngine:
    """An orchestrator that asks a server of decisions. Not shared between event loops."""

    name: Final = "decision"

    def __init__(self, settings: DecisionSettings, environ: Mapping[str, str]) -> None:
        """``environ`` has the values of the references in address, key and headers."""
        self._settings = settings
        self._is_system_one = settings.api == "systemone"
        self._rule = DecisionRule(settings.min_confidence, settings.min_margin)
        server = settings.server
        if self._is_system_one:
            server = replace(server, path=SYSTEM_ONE_PATH)
        self._client = ServerClient(
            server,
            Operation.DECISIONS,
            environ,
            deadline_s=settings.deadline_s,
            tls_ca=settings.tls_ca,
            max_answer_bytes=MAX_DECISION_BYTES,
        )

    def __repr__(self) -> str:
        settings = self._settings
        return f"<DecisionEngine {settings.server.model} ({settings.api}): {self._client!r}>"

    async def score(self, question: Question) -> Scores | Unavailable:
        """The probabilities of the routes and of no route, or why there are none."""
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                return await self._score(question)
        except TimeoutError:
            return self._client.timed_out()

    async def close(self) -> None:
        """Closes every connection."""
        await self._client.close()

    async def _score(self, question: Question) -> Scores | Unavailable:
        count = len(question.routes)
        if count > MAX_DECISION_ROUTES:
            return _not_asked(
                f"{count} routes are more than the {MAX_DECISION_ROUTES} that a question may have; "
                "merge some, or use another engine"
            )
        options = _options(question.routes)
        budget = self._settings.budget_tokens
        needed = estimate_tokens("".join(f"{value}{text}" for value, text in options.items()))
        if budget - needed < MIN_TURN_TOKENS:
            return _not_asked(
                f"these routes need about {needed} tokens and leave no room for the conversation in "
                f"the budget of {budget}; shorten their descriptions or raise "
                "orchestrator.max_model_len"
            )
        messages = _messages(question.turns, budget - needed)
        reply = await self._client.post(
            _system_one(options, messages) if self._is_system_one else _decision(options, messages)
        )
        if reply.fault is not None:
            return reply.fault
        return self._read(reply.body, question.routes, tuple(options))

    def _read(
        self, body: bytes, routes: Sequence[Route], values: Sequence[str]
    ) -> Scores | Unavailable:
        """The scores in an answer; ``values`` are the options, the one for none last."""
        try:
            whole = json.loads(body)
        except (ValueError, RecursionError):
            return self._client.fault("returned an answer that is not JSON")
        usage = read_usage(whole)
        try:
            answer = _answer(whole)
            if answer.get("type") == "refusal":
                # the question is the cause, and others may be answered: not a fault of the server
                detail = f"{self._client.name} refused to decide about this conversation"
                return Unavailable(Reason.ORCHESTRATOR_BUSY, detail, usage)
            found = _probabilities(answer, values)
        except _UnusableError as error:
            return self._client.fault(str(error), usage)
        scores = Scores(
            routes={route.name: found[replace_surrogates(route.name)] for route in routes},
            threshold=0.0,
            winner=None,
            none=found[values[-1]],
            usage=usage,
        )
        return self._rule.apply(scores)


def _not_asked(detail: str) -> Unavailable:
    """The result for a question that is not sent, which is not a fault of the server."""
    return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)


def _options(routes: Iterable[Route]) -> dict[str, str]:
    """The description of each option by its value, in the order of names; none of them is last."""
    options = {
        replace_surrogates(route.name): replace_surrogates(route.description)
        for route in sorted(routes, key=lambda route: route.name)
    }
    taken = {value.casefold() for value in options}
    none = _NONE
    while none in taken:
        none = f"({none})"
    return {**options, none: _NONE_DESCRIPTION}


def _messages(turns: Sequence[Turn], room_tokens: int) -> list[dict[str, str]]:
    """The last turns that fit, oldest first; the oldest one of them is shortened in its middle."""
    room = _BYTES_PER_TOKEN * room_tokens
    kept: list[dict[str, str]] = []
    for turn in [turn for turn in turns if turn.text.strip()][: -MAX_TURNS - 1 : -1]:
        text = shorten(replace_surrogates(turn.text), room)
        kept.append({"role": turn.role, "content": text})
        room -= len(text.encode())
        if room < _BYTES_PER_TOKEN * MIN_TURN_TOKENS:
            break
    return kept[::-1]


def _decision(options: Mapping[str, str], messages: Sequence[Mapping[str, str]]) -> dict[str, Json]:
    """The body of a request for a decision; the model's name is added to it."""
    choices = [
        {"value": value, "description": text} if text else {"value": value}
        for value, text in options.items()
    ]
    question = {"type": "choice", "name": _QUESTION, "instructions": _INSTRUCTIONS}
    return {"input": messages, "questions": [{**question, "choices": choices}]}


def _system_one(
    options: Mapping[str, str], messages: Sequence[Mapping[str, str]]
) -> dict[str, Json]:
    """The same for System One, where an option without a description has null.

    The conversation is one text: small models read that better than JSON.
    """
    criteria = {value: text or None for value, text in options.items()}
    question = {"type": "choice", "instructions": _INSTRUCTIONS, "criteria": criteria}
    state = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
    return {"state": state, "questions": {_QUESTION: question}}


def _answer(whole: Json) -> dict[str, Json]:
    """The only answer: decisions have a list of them, System One a map. Raises _UnusableError."""
    if isinstance(whole, dict) and whole.get("error"):
        raise _UnusableError("returned an error in place of an answer")
    answers = whole.get("answers") if isinstance(whole, dict) else None
    if isinstance(answers, dict):
        answer = answers.get(_QUESTION)
    else:
        answer = answers[0] if isinstance(answers, list) and answers else None
    if not isinstance(answer, dict):
        raise _UnusableError("returned an answer that is not a decision")
    return answer


def _probabilities(answer: Mapping[str, Json], values: Sequence[str]) -> dict[str, float]:
    """The probability of each option, with a sum of 1. Raises _UnusableError."""
    listed = answer.get("probabilities")
    if isinstance(listed, list):
        items = [item for item in listed if isinstance(item, dict)]
        listed = {
            item["value"]: item.get("probability")
            for item in items
            if isinstance(item.get("value"), str)
        }
    if not isinstance(listed, dict):
        raise _UnusableError("returned an answer without probabilities")
    missing = [value for value in values if value not in listed]
    if missing:
        detail = f"left out the probability of {len(missing)} of {len(values)} options"
        raise _UnusableError(detail)
    found = {value: listed[value] for value in values}
    if not all(map(_is_probability, found.values())):
        raise _UnusableError("returned a probability that is not a number from 0 to 1")
    total = math.fsum(found.values())
    if abs(total - 1) > SUM_TOLERANCE:
        raise _UnusableError(f"returned probabilities with a sum of {total:.3g}, not of 1")
    return {value: round(each / total, _DIGITS) for value, each in found.items()}


def _is_probability(value: Json) -> bool:
    """False for NaN, too."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= 1 + SUM_TOLERANCE
