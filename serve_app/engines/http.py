"""The engine `http`: a routing model behind a server that speaks OpenAI's chat dialect.

Ollama and vLLM are such servers. A question is one user message, in the form that the family of
the model was trained on. The answer is requested by a JSON schema, which vLLM and Ollama enforce.
A server that refuses schemas gets its requests without one from then on, and its answers are
parsed leniently.

An answer in words does not measure how sure the model was. So the scores name a winner, or none,
and contain no numbers: a decision by this engine has no confidence.
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self
from urllib.parse import urlsplit

from serve_app.config.references import references
from serve_app.config.schema.gateway import Timeouts
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import DataPath, Json, ModelRef, Question, Reason, Scores, Unavailable
from serve_app.exchange import PATHS, FaultKind, Operation, UpstreamFault, UpstreamRequest
from serve_app.providers.address import url_fault
from serve_app.providers.endpoints import Endpoint, ProviderTable
from serve_app.providers.transport import Transport, fixed
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

_CONNECT_SHARE: Final = 0.5
"""Share of the deadline for connecting, which tells an unreachable server from a slow one."""

_SUCCESS: Final = 200
_SCHEMA_REFUSALS: Final = frozenset({400, 415, 422, 501})
"""Statuses of servers that refuse a body with features that they lack."""

_SERVER_ERROR: Final = 500
"""Status of servers that fail on such a body."""

_STATUS_TEXTS: Final[Mapping[int, str]] = {
    401: "rejected the key (status 401); set orchestrator.access_key",
    403: "rejected the key (status 403); set orchestrator.access_key",
    404: "has no such model or path (status 404); check orchestrator.model and base_url",
    429: "is overloaded (status 429)",
}

_log = logging.getLogger("fingerpost")


@dataclass(frozen=True, slots=True)
class HttpEngineSettings:
    """Settings of the engine `http`. Strings may contain references, such as ``$NAME``.

    Raises ValueError for an unknown family.
    """

    base_url: str = field(repr=False)
    model: str
    """The server's name of the model."""
    access_key: str | None = field(default=None, repr=False)
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
        cls, section: OrchestratorSection, deadline_s: float, tls_ca: str | None = None
    ) -> Self:
        """The settings of a configuration, whose file of certificates is in another section."""
        return cls(
            base_url=section.base_url or "",
            model=section.model or "",
            access_key=section.access_key,
            family=None if section.family == "auto" else section.family,
            budget_tokens=section.max_model_len,
            deadline_s=deadline_s,
            tls_ca=tls_ca,
        )


class HttpEngine:
    """An orchestrator that sends questions to a server. Not shared between event loops.

    The temperature is 0, where Plano sends 0.01, so that equal questions have equal answers.
    """

    name: Final = "http"

    def __init__(self, settings: HttpEngineSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._family: Family = FAMILIES[settings.family or family_of(settings.model)]
        self._budget = settings.budget_tokens or self._family.budget_tokens
        self._server = _display_name(settings.base_url)
        self._model = ModelRef(self._server, settings.model)
        self._endpoint = _endpoint(settings, self._server)
        self._connect_s = _CONNECT_SHARE * settings.deadline_s
        self._schemas: bool | None = None
        """True if the server accepts schemas; None while that is unknown."""
        self._was_reached = False
        self._transport = Transport(
            fixed(
                ProviderTable({self._model: (self._endpoint,)}, {}),
                Timeouts(connect_s=self._connect_s, total_s=settings.deadline_s),
            ),
            environ,
            settings.tls_ca,
            max_answer_bytes=MAX_DECISION_BYTES,
        )

    def __repr__(self) -> str:
        schemas = {None: "unknown", True: "accepted", False: "refused"}[self._schemas]
        return f"<HttpEngine {self._model}: schemas {schemas}, {self._transport!r}>"

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
        text = await self._answer(prompt.text, self._family.answers(question.routes))
        if isinstance(text, Unavailable):
            return text
        try:
            names = read_answer(text, [route.name for route in question.routes])
        except UnreadableAnswerError as error:
            return self._fault(f"returned an unusable answer: {error}")
        return Scores(
            routes={},
            threshold=0.0,
            winner=names[0] if names else None,
            named=names if self._family.many else (),
        )

    async def close(self) -> None:
        """Closes every connection."""
        await self._transport.close()

    async def _answer(self, prompt: str, answers: Sequence[RouteAnswer]) -> str | Unavailable:
        """The text that the model writes, before the deadline."""
        deadline_s = self._settings.deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                return await self._request(prompt, answers)
        except TimeoutError:
            detail = f"{self._server} timed out after {deadline_s:.3g} s"
            return Unavailable(Reason.ORCHESTRATOR_TIMEOUT, detail)

    async def _request(self, prompt: str, answers: Sequence[RouteAnswer]) -> str | Unavailable:
        """The text that the model writes.

        Whether a refusal is about the schema shows when the same request succeeds without one:
        only then are schemas given up. Until one was accepted, any unusable answer may be due to
        the schema.
        """
        longest = max(len(answer.text.encode()) for answer in answers)
        longest *= MAX_NAMED if self._family.many else 1
        body = {
            "model": self._settings.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": _TOKENS_AROUND_NAME + longest,
            "stream": False,
        }
        if self._schemas is not False:
            schema = _response_format(answers, many=self._family.many)
            status, result = await self._post(body | {"response_format": schema})
            if isinstance(result, str):
                self._schemas = True
                return result
            doubtful = self._schemas is None and status in {_SUCCESS, _SERVER_ERROR}
            if status not in _SCHEMA_REFUSALS and not doubtful:
                return result
        _, result = await self._post(body)
        if self._schemas is not False and isinstance(result, str):
            self._schemas = False
            _log.info("%s refuses JSON schemas; answers are parsed leniently", self._server)
        return result

    async def _post(self, body: Json) -> tuple[int, str | Unavailable]:
        """The status and the text of a chat completion. A fault has the status 0.

        A server may close a kept connection while the next request goes out on it. That request
        is sent once more, on a new connection.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        request = UpstreamRequest(
            provider=self._server,
            model=self._model,
            operation=Operation.CHAT,
            path=PATHS[Operation.CHAT],
            headers=(),
            body=json.dumps(body).encode(),
            stream=False,
            deadline_s=self._settings.deadline_s,
        )
        reply = await self._transport.open(request)
        if (
            isinstance(reply, UpstreamFault)
            and reply.kind is FaultKind.RESET
            and self._was_reached  # else no connection can have been kept
        ):
            reply = await self._transport.open(replace(request, fresh=True))
        if isinstance(reply, UpstreamFault):
            slow = loop.time() - started >= self._connect_s
            late = reply.kind is FaultKind.TIMEOUT or (reply.kind is FaultKind.CONNECT and slow)
            reason = Reason.ORCHESTRATOR_TIMEOUT if late else Reason.ORCHESTRATOR_ERROR
            return 0, Unavailable(reason, reply.detail)
        self._was_reached = True
        content = reply.body if isinstance(reply.body, bytes) else b""  # never a stream here
        return reply.status, self._parse(reply.status, content)

    def _parse(self, status: int, content: bytes) -> str | Unavailable:
        """The text of a chat completion."""
        if status != _SUCCESS:
            return self._fault(_STATUS_TEXTS.get(status, f"returned an error (status {status})"))
        try:
            choice = json.loads(content)["choices"][0]
            text = _text(choice["message"]["content"])
        except (ValueError, RecursionError, LookupError, TypeError):
            return self._fault("returned an answer that is not a chat completion")
        if text.strip():
            return text
        if choice.get("finish_reason") == "length":
            return self._fault(
                "ran out of tokens before answering; turn reasoning off for this model"
            )
        return self._fault("returned an answer without text")

    def _fault(self, text: str) -> Unavailable:
        return Unavailable(Reason.ORCHESTRATOR_ERROR, f"{self._server} {text}")


def _endpoint(settings: HttpEngineSettings, name: str) -> Endpoint:
    """The server as a row of a provider table."""
    return Endpoint(
        slug=name,
        interface="vllm",
        base_url=settings.base_url,
        data_path=DataPath.INLINE,
        access_key=settings.access_key,
        key_needed=False,
        operations=frozenset({Operation.CHAT}),
    )


def _display_name(base_url: str) -> str:
    """The server in messages: neither a password nor the value of a reference."""
    names = references(base_url)
    if names:
        return f"the server at {' and '.join(f'${name}' for name in names)}"
    return "the server" if url_fault(base_url) else urlsplit(base_url).netloc


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
