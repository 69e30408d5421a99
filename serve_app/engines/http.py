"""A routing model behind a server that speaks OpenAI's chat dialect, such as Ollama or vLLM.

One message of the user asks it, as its family of models is used to. The answer is asked for by a
JSON schema, which vLLM and Ollama hold a model to; a server that refuses schemas is asked without
one from then on, and whatever it writes is read as far as it can be.

An answer in words is no measure of how sure the model was. So the scores have a winner, or none,
and no numbers at all: a decision by this engine has no confidence.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from serve_app.config.references import (
    CONTROL_CHARACTER,
    MissingEnvironmentError,
    expand,
    references,
)
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Json, Question, Reason, Scores, Unavailable
from serve_app.exchange import Operation
from serve_app.providers.address import target_url, url_fault
from serve_app.providers.tls import NoCertificatesError, Trust
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

_BYTES_A_TOKEN: Final = 4
_TOKENS_BESIDE_NAME: Final = 32
"""Of an answer: quotes, braces, spaces, and what a model adds that nothing holds to a schema."""

_CONNECT_SHARE: Final = 0.5
"""Of the deadline, so that a server that is away is told from one that is slow."""

_KEEPALIVE_S: Final = 30.0
_SUCCESS: Final = 200
_REDIRECTS: Final = range(300, 400)
_REFUSALS: Final = frozenset({400, 415, 422, 501})
"""What servers say to a body that asks for more than they can do."""

_BROKEN: Final = 500
"""What some say to it in place of that."""

_MEANINGS: Final[Mapping[int, str]] = {
    401: "wants another key, or one at all",
    403: "wants another key, or one at all",
    404: "knows no such model, or no chat completions at this address",
    429: "has too much to do",
}

_log = logging.getLogger("fingerpost")


@dataclass(frozen=True, slots=True)
class HttpEngineSettings:
    """Which model is asked where. Texts may refer to the environment, as ``$NAME``.

    Raises ValueError for a family that there is not.
    """

    base_url: str = field(repr=False)
    model: str
    """As the server names it."""
    access_key: str | None = field(default=None, repr=False)
    family: str | None = None
    """One of FAMILIES; None: what the model's name says."""
    budget_tokens: int | None = None
    """Of a prompt; None: what is usual in the family."""
    deadline_s: float = 5.0
    tls_ca: str | None = None
    """A file with certificates that are trusted besides the usual ones."""

    def __post_init__(self) -> None:
        if self.family is not None and self.family not in FAMILIES:
            message = f"no family is called {self.family!r}; there are {', '.join(FAMILIES)}"
            raise ValueError(message)


def http_settings(
    section: OrchestratorSection, deadline_s: float, tls_ca: str | None = None
) -> HttpEngineSettings:
    """What the configuration says about this engine; the certificates stand elsewhere in it."""
    return HttpEngineSettings(
        base_url=section.base_url or "",
        model=section.model or "",
        access_key=section.access_key,
        family=None if section.family == "auto" else section.family,
        budget_tokens=section.max_model_len,
        deadline_s=deadline_s,
        tls_ca=tls_ca,
    )


@dataclass(frozen=True, slots=True)
class _Target:
    """An address and what goes with each request to it."""

    url: URL
    headers: Mapping[str, str] = field(repr=False)
    tls: ssl.SSLContext | bool


class _UnusableKeyError(Exception):
    """The key can't be used; the text says why, and nothing of it."""


class HttpEngine:
    """An orchestrator that asks a server. Not shared between event loops.

    The temperature is 0, where Plano sends 0.01: equal questions are to have equal answers.
    """

    name: Final = "http"

    def __init__(self, settings: HttpEngineSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._family: Family = FAMILIES[settings.family or family_of(settings.model)]
        self._budget = settings.budget_tokens or self._family.budget_tokens
        self._who = _server(settings.base_url)
        self._schemas: bool | None = None
        """The server takes schemas; None while that is not known."""
        self._trust = Trust(settings.tls_ca)
        self._session: aiohttp.ClientSession | None = None

    async def score(self, question: Question) -> Scores | Unavailable:
        """The route that the model names, without numbers, or why there is no answer.

        Of several that a model names, the first one wins.
        """
        prompt = self._family.messages(
            question.turns, question.routes, budget=self._budget, count=tokens_about
        )
        needed = tokens_about(prompt.text)
        if needed > self._budget:
            detail = (
                f"{self._who} would need about {needed} tokens for these routes, of a budget of "
                f"{self._budget}; shorten their descriptions, or raise the budget"
            )
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)  # no fault of the server's
        said = await self._answer(prompt.text, self._family.answers(question.routes))
        if isinstance(said, Unavailable):
            return said
        try:
            names = read_answer(said, [route.name for route in question.routes])
        except UnreadableAnswerError as error:
            return self._fault(f"gave an answer that is none: {error}")
        return Scores(
            routes={},
            threshold=0.0,
            winner=names[0] if names else None,
            named=names if self._family.many else (),
        )

    async def close(self) -> None:
        """Closes every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _answer(self, prompt: str, answers: Sequence[RouteAnswer]) -> str | Unavailable:
        """What the model writes, in time."""
        deadline_s = self._settings.deadline_s
        try:
            target = self._target()
            async with asyncio.timeout(deadline_s):
                return await self._ask(target, prompt, answers)
        except MissingEnvironmentError as error:
            return self._fault(f"can't be asked: {error} where the gateway runs")
        except (_UnusableKeyError, NoCertificatesError) as error:
            return self._fault(f"can't be asked: {error}")
        except TimeoutError as error:
            away = isinstance(error, aiohttp.ConnectionTimeoutError)
            what = "could not be connected to in time" if away else "did not answer"
            detail = f"{self._who} {what}; the deadline is {deadline_s:.3g} s"
            return Unavailable(Reason.ORCHESTRATOR_TIMEOUT, detail)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._fault(_meaning(error))

    def _target(self) -> _Target:
        """Where to ask, references expanded.

        Raises MissingEnvironmentError, InvalidURL for what a reference made of the address,
        _UnusableKeyError, or NoCertificatesError.
        """
        settings = self._settings
        base_url = expand(settings.base_url, self._environ)
        if url_fault(base_url) is not None:
            raise aiohttp.InvalidURL("")  # without the text, which may be a key
        headers = {"accept-encoding": "identity"}
        if settings.access_key is not None:
            key = expand(settings.access_key, self._environ)
            if CONTROL_CHARACTER.search(key):
                raise _UnusableKeyError("its key holds a line break or another control sign")
            headers["authorization"] = f"Bearer {key}"
        url = URL(target_url(base_url, "vllm", Operation.CHAT), encoded=True)
        return _Target(url, headers, self._trust.context() if url.scheme == "https" else True)

    async def _ask(
        self, target: _Target, prompt: str, answers: Sequence[RouteAnswer]
    ) -> str | Unavailable:
        """What the model writes.

        Whether a refusal is about the schema shows when the same is asked without: only then
        are schemas given up. Until one was taken, any answer that is none may be about it.
        """
        longest = max(len(answer.text.encode()) for answer in answers)
        longest *= MAX_NAMED if self._family.many else 1
        body = {
            "model": self._settings.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": _TOKENS_BESIDE_NAME + longest,
            "stream": False,
        }
        if self._schemas is not False:
            asked = _format(answers, many=self._family.many)
            status, content = await self._post(target, body | {"response_format": asked})
            said = self._read(status, content)
            if isinstance(said, str):
                self._schemas = True
                return said
            odd = self._schemas is None and status in {_SUCCESS, _BROKEN}
            if status not in _REFUSALS and not odd:
                return said
        said = self._read(*await self._post(target, body))
        if self._schemas is not False and isinstance(said, str):
            self._schemas = False
            _log.info("%s takes no JSON schema; answers are read as they are", self._who)
        return said

    async def _post(self, target: _Target, body: Json) -> tuple[int, bytes]:
        """Status and body of the answer; of a body that is too large only the beginning.

        A server may close a connection that was kept just when the next question goes out on it.
        Such a question is asked again: on a connection of its own at last.
        """
        while True:
            kept: list[bool] = []
            try:
                return await self._exchange(target, body, kept)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not kept:
                    raise

    async def _exchange(self, target: _Target, body: Json, kept: list[bool]) -> tuple[int, bytes]:
        """As ``_post``, once; ``kept`` is added to where the connection was there already."""
        response = await self._opened().post(
            target.url,
            json=body,
            headers=target.headers,
            allow_redirects=False,
            ssl=target.tls,
            trace_request_ctx=kept,
        )
        try:
            chunks = bytearray()
            async for chunk in response.content.iter_any():
                chunks += chunk
                if len(chunks) > MAX_DECISION_BYTES:
                    break
            return response.status, bytes(chunks)
        finally:
            with suppress(RuntimeError):  # the loop is closing
                response.close()  # which keeps a connection whose answer was read to its end

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connect_s = _CONNECT_SHARE * self._settings.deadline_s
            tracing = aiohttp.TraceConfig()
            tracing.on_connection_reuseconn.append(_note_reuse)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
                trace_configs=[tracing],
            )
        return self._session

    def _read(self, status: int, content: bytes) -> str | Unavailable:
        """The text of a chat completion."""
        if status in _REDIRECTS:
            return self._fault(f"redirects ({status}); configure the address that it names")
        if status != _SUCCESS:
            what = _MEANINGS.get(status, "gave an error instead of an answer")
            return self._fault(f"{what} ({status})")
        if len(content) > MAX_DECISION_BYTES:
            return self._fault(f"gave an answer of more than {MAX_DECISION_BYTES} bytes")
        try:
            choice = json.loads(content)["choices"][0]
            text = _text(choice["message"]["content"])
        except (ValueError, RecursionError, LookupError, TypeError):
            return self._fault("gave an answer that is no chat completion")
        if text.strip():
            return text
        if choice.get("finish_reason") == "length":
            return self._fault(
                "wrote no answer in the tokens that one takes; a model that thinks first must not"
            )
        return self._fault("gave an answer without a text")

    def _fault(self, what: str) -> Unavailable:
        return Unavailable(Reason.ORCHESTRATOR_ERROR, f"{self._who} {what}")


def _text(content: Json) -> str:
    """A message's text, also where it comes in parts; empty where there is none."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


async def _note_reuse(
    _: aiohttp.ClientSession,
    context: SimpleNamespace,
    __: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    context.trace_request_ctx.append(True)


def tokens_about(text: str) -> int:
    """How many tokens a text is, about: a quarter of its bytes, as there is no tokenizer here.

    That is near for English and code. Of other scripts models need more or fewer.
    """
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN)


def _format(answers: Sequence[RouteAnswer], *, many: bool) -> Json:
    """What asks for one of the answers, in OpenAI's form."""
    schema = answer_schema(answers, many=many)
    return {
        "type": "json_schema",
        "json_schema": {"name": "route", "strict": True, "schema": schema},
    }


def _server(base_url: str) -> str:
    """Who is asked, for texts; neither a password nor what a reference stands for."""
    names = references(base_url)
    if names:
        return f"the server at {' and '.join(f'${name}' for name in names)}"
    return "the server" if url_fault(base_url) else urlsplit(base_url).netloc


_FAULTS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (
        aiohttp.InvalidURL,
        "can't be asked: its base_url, references expanded, must be a URL without a password",
    ),
    (
        aiohttp.ClientConnectorCertificateError,
        "shows a certificate that is not trusted here; overrides.upstream_tls_ca_path names more",
    ),
    (aiohttp.ClientConnectorSSLError, "does not speak TLS as https does; is it http?"),
    (aiohttp.ClientConnectorDNSError, "has a name that is not known here"),
    (UnicodeError, "has a name that is not known here"),
    (aiohttp.ClientConnectorError, "could not be connected to"),
    (aiohttp.ServerDisconnectedError, "closed the connection without an answer"),
    (aiohttp.ClientPayloadError, "broke off in the middle of its answer"),
    (aiohttp.ClientResponseError, "did not answer in HTTP"),
    (OSError, "closed the connection without an answer"),
    (Exception, "could not be asked"),
)


def _meaning(error: Exception) -> str:
    return next(text for kind, text in _FAULTS if isinstance(error, kind))
