"""Answers of a server of decisions, and engines that ask it."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from serve_app.domain import Question, Route, Turn
from serve_app.engines.decision import DecisionEngine
from tests.unit.engines.chat_server import Answer

NONE: Final = "none of these"
ROUTES: Final = (
    Route("travel", "booking flights, hotels", ()),
    Route("code", "writing programs, fixing bugs", ()),
    Route("misc", "", ()),
)
SURE: Final = {"code": 0.7, "misc": 0.1, "travel": 0.05, NONE: 0.15}
USAGE: Final = {
    "input_tokens": 90,
    "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 97,
}

MakeDecision = Callable[..., DecisionEngine]


def question(text: str = "fix this bug", routes: tuple[Route, ...] = ROUTES) -> Question:
    return Question((Turn("user", text),), routes, "v1")


def decision(answer: Any, **more: Any) -> Answer:
    """The answer of OpenAI's API to one question."""

    async def give(request: web.Request) -> web.StreamResponse:
        return web.json_response({"answers": [answer], "model": "m", "usage": USAGE, **more})

    return give


def choice(probabilities: Mapping[str, Any], **more: Any) -> Answer:
    """A decision for one of the options with these probabilities."""
    listed = [{"value": value, "probability": each} for value, each in probabilities.items()]
    chosen = next(iter(probabilities), NONE)
    head = {"type": "choice", "name": "route", "choice": chosen, "confidence": 0.5}
    return decision({**head, "probabilities": listed}, **more)


def system_one(probabilities: Mapping[str, Any]) -> Answer:
    """The answer of TypeSafe's API."""
    head = {"type": "choice", "choice": NONE, "confidence": 0.5}
    body = {"model": "m", "answers": {"route": {**head, "probabilities": probabilities}}}

    async def give(request: web.Request) -> web.StreamResponse:
        usage = {"input_tokens": 318, "output_tokens": 34}
        return web.json_response({**body, "usage": usage})

    return give


refuses: Final = decision({"type": "refusal", "name": "route"})


def words(text: str) -> set[str]:
    """The words of a text in lower case."""
    return set(text.lower().replace(",", " ").replace(".", " ").split())


async def likens(request: web.Request) -> web.StreamResponse:
    """Prefers options that share words with the last message, of OpenAI's API."""
    body = await request.json()
    said = words(body["input"][-1]["content"])
    options = body["questions"][0]["choices"]
    weights = {each["value"]: 1 + 20 * len(said & words(each["description"])) for each in options}
    total = sum(weights.values())
    answer = choice({value: weight / total for value, weight in weights.items()})
    return await answer(request)
