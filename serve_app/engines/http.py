"""The engine `http`: a language model behind a server that speaks OpenAI's chat dialect.

Ollama, vLLM and most providers are such servers. A question is one user message, in the form that
the family of the model was trained on. The answer is requested by a JSON schema, which vLLM,
Ollama and others enforce. A server that refuses schemas gets its requests without one from then
on, and its answers are parsed leniently.

An answer in words does not measure how sure the model was. So the scores name a winner, or none,
and contain no numbers: a decision by this engine has no confidence. An answer that was cut before
its end is none.
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

from serve_app.config.schema.orchestrator import EngineSection
from serve_app.domain import Json, Question, Reason, Scores, TokenUsage, Unavailable
from serve_app.engines.server_client import SUCCESS, ServerClient, read_usage
from serve_app.engines.servers import FIRST, Server, Servers
from serve_app.exchange import Operation
from serve_app.scoring.answers import UnreadableAnswerError, read_answer
from serve_app.scoring.prompt import (
    FAMILIES,
    MAX_NAMED,
    Family,
    RouteAnswer,
    answer_schema,
    family_of,
)

MAX_DECISION_BYTES: Final = 1 << 20

_BYTES_PER_TOKEN: Final = 4
_TOKENS_AROUND_NAME: Final = 32
"""Of an answer: quotes, braces, spaces, and what a model without an enforced schema adds."""

_SCHEMA_REFUSALS: Final = frozenset({400, 415, 422, 501})
"""Statuses of servers that refuse a body with features that they lack."""

_SERVER_ERROR: Final = 500
"""Status of servers that fail on such a body."""

_CUT: Final = "ran out of tokens before answering; turn reasoning off for this model"

_log = logging.getLogger("fingerpost")


@dataclass(frozen=True, slots=True)
class HttpEngineSettings:
    """Settings of the engine `http`. Raises ValueError for an unknown family."""

    server: Server = field(repr=False)
    family: str | None = None
    """One of FAMILIES; None derives it from the model's name."""
    budget_tokens: int | None = None
    """Maximum tokens of a prompt; None means the family's default."""
    deadline_s: float = 5.0
    tls_ca: str | None = None
    """A file with certificates that are trusted in addition to the system's."""

    def __post_init__(self) -> None:
        if self.family is not None and self.family not in FAMILIES:
            message = f"unknown family {self.family!r}; use one of {', '.join(FAMILIES)}"
            raise ValueError(message)

    @classmethod
    def from_section(
        cls, section: EngineSection, deadline_s: float, servers: Servers, key: str = FIRST
    ) -> Self:
        """The settings of a section; ``key`` is its key. Raises EngineFaultError."""
        return cls(
            server=servers.named_by(section, key=key),
            family=None if section.family == "auto" else section.family,
            budget_tokens=section.max_model_len,
            deadline_s=deadline_s,
            tls_ca=servers.tls_ca,
        )


@dataclass(frozen=True, slots=True)
class _Written:
    """What a model wrote, or why there is nothing."""

    status: int
    result: str | Unavailable
    cut: bool = False
    """True if the model ran out of tokens."""
    usage: TokenUsage | None = None


class HttpEngine:
    """An orchestrator that sends questions to a server. Not shared between event loops.

    The temperature is 0, where Plano sends 0.01, so that equal questions have equal answers.
    """

    name: Final = "http"

    def __init__(self, settings: HttpEngineSettings, environ: Mapping[str, str]) -> None:
        """``environ`` has the values of the references in address, key and headers."""
        self._settings = settings
        server = settings.server
        self._family: Family = FAMILIES[settings.family or family_of(server.model.name)]
        self._budget = settings.budget_tokens or self._family.budget_tokens
        self._schemas: bool | None = None
        """True if the server accepts schemas; None while that is unknown."""
        self._client = ServerClient(
            server,
            Operation.CHAT,
            environ,
            deadline_s=settings.deadline_s,
            tls_ca=settings.tls_ca,
            max_answer_bytes=MAX_DECISION_BYTES,
        )

    def __repr__(self) -> str:
        schemas = {None: "unknown", True: "accepted", False: "refused"}[self._schemas]
        return f"<HttpEngine {self._settings.server.model}: schemas {schemas}, {self._client!r}>"

    async def score(self, question: Question) -> Scores | Unavailable:
        """The route that the model names, without numbers, or why there is no answer.

        Of several routes that a model names, the first one wins.
        """
        prompt = self._family.messages(
            question.turns, question.routes, budget=self._budget, count=estimate_tokens
        )
        needed = estimate_tokens(prompt.text)
        if needed > self._budget:
            detail = (
                f"these routes need a prompt of about {needed} tokens, more than the budget of "
                f"{self._budget}; shorten their descriptions or raise orchestrator.max_model_len"
            )
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)  # not a fault of the server
        written = await self._answer(prompt.text, self._family.answers(question.routes))
        if isinstance(written.result, Unavailable):
            return replace(written.result, usage=written.usage)
        names = [route.name for route in question.routes]
        try:
            routes = read_answer(written.result, names, cut=written.cut)
        except UnreadableAnswerError as error:
            why = _CUT if written.cut else f"returned an unusable answer: {error}"
            return self._client.fault(why, written.usage)
        return Scores(
            routes={},
            threshold=0.0,
            winner=routes[0] if routes else None,
            named=routes if self._family.many else (),
            usage=written.usage,
        )

    async def close(self) -> None:
        """Closes every connection."""
        await self._client.close()

    async def _answer(self, prompt: str, answers: Sequence[RouteAnswer]) -> _Written:
        """What the model writes before the deadline."""
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                return await self._request(prompt, answers)
        except TimeoutError:
            return _Written(0, self._client.timed_out())

    async def _request(self, prompt: str, answers: Sequence[RouteAnswer]) -> _Written:
        """What the model writes.

        Whether a refusal is about the schema shows when the same request succeeds without one:
        only then are schemas given up. Until one was accepted, any unusable answer may be due to
        the schema.
        """
        longest = max(len(answer.text.encode()) for answer in answers)
        longest *= MAX_NAMED if self._family.many else 1
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": _TOKENS_AROUND_NAME + longest,
            "stream": False,
        }
        earlier: TokenUsage | None = None
        if self._schemas is not False:
            schema = _response_format(answers, many=self._family.many)
            written = await self._post(body | {"response_format": schema})
            if isinstance(written.result, str):
                self._schemas = True
                return written
            doubtful = self._schemas is None and written.status in {SUCCESS, _SERVER_ERROR}
            if written.status not in _SCHEMA_REFUSALS and not doubtful:
                return written
            earlier = written.usage
        written = await self._post(body)
        if self._schemas is not False and isinstance(written.result, str):
            self._schemas = False
            _log.info("%s refuses JSON schemas; answers are parsed leniently", self._client.name)
        return replace(written, usage=_sum(earlier, written.usage))

    async def _post(self, body: Mapping[str, Json]) -> _Written:
        """The text of a chat completion. A fault without an answer has the status 0."""
        reply = await self._client.post(body)
        if reply.fault is not None:
            return _Written(reply.status, reply.fault)
        try:
            answer = json.loads(reply.body)
            choice = answer["choices"][0]
            text = _text(choice["message"]["content"])
        except (ValueError, RecursionError, LookupError, TypeError):
            fault = self._client.fault("returned an answer that is not a chat completion")
            return _Written(reply.status, fault)
        cut, usage = choice.get("finish_reason") == "length", read_usage(answer)
        if text.strip():
            return _Written(reply.status, text, cut, usage)
        why = _CUT if cut else "returned an answer without text"
        return _Written(reply.status, self._client.fault(why), cut, usage)


def _sum(one: TokenUsage | None, other: TokenUsage | None) -> TokenUsage | None:
    return one + other if one is not None and other is not None else one or other


def _text(content: Json) -> str:
    """The text of a message, also where it consists of parts; empty where there is none."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def estimate_tokens(text: str) -> int:
    """An estimate of a text's tokens without a tokenizer: a quarter of its bytes.

    It is close for English and code. Other scripts take more or fewer.
    """
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)


def _response_format(answers: Sequence[RouteAnswer], *, many: bool) -> Json:
    """The request for one of the answers, in OpenAI's form."""
    schema = answer_schema(answers, many=many)
    return {
        "type": "json_schema",
        "json_schema": {"name": "route", "strict": True, "schema": schema},
    }
