"""The engine `embeddings`: an embedding model behind a server that speaks OpenAI's dialect.

It takes the place of the local encoder. The texts of routes are embedded in batches when the
engine starts and when the configuration is reloaded; a question is one request with one text.
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np

from serve_app.config.schema.orchestrator import EngineSection
from serve_app.domain import Json, Question, Route, Scores, Unavailable
from serve_app.engines.embed_decider import Embedded, EmbeddingDecider
from serve_app.engines.loop_thread import LoopThread
from serve_app.engines.server_client import ServerClient, read_usage
from serve_app.engines.servers import FIRST, Server, Servers
from serve_app.exchange import Operation
from serve_app.scoring.embedding import Matrix
from serve_app.scoring.prompt import replace_surrogates

BATCH: Final = 32
"""Texts in one request; some servers refuse more."""

MAX_EMBEDDINGS_BYTES: Final = 16 << 20
"""Limit of an answer: a batch of 4096 numbers each takes 3 MB."""

_BYTES_PER_TOKEN: Final = 4
_NOTHING: Final = "-"
"""Sent for an empty text, which servers refuse."""

_log = logging.getLogger("fingerpost")


@dataclass(frozen=True, slots=True)
class EmbeddingsSettings:
    """Settings of the engine `embeddings`."""

    server: Server = field(repr=False)
    max_query_tokens: int = 64
    """Tokens of a text that are embedded, estimated; of a longer one, those of head and tail."""
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
            server=servers.named_by(section, Operation.EMBEDDINGS, key),
            max_query_tokens=section.max_query_tokens,
            min_confidence=section.min_confidence,
            min_margin=section.min_margin,
            deadline_s=deadline_s,
            tls_ca=servers.tls_ca,
        )


class EmbeddingsEngine:
    """An orchestrator that compares embeddings of a server. Works on a thread of its own."""

    name: Final = "embeddings"

    def __init__(self, settings: EmbeddingsSettings, environ: Mapping[str, str]) -> None:
        """``environ`` has the values of the references in address, key and headers."""
        self._settings = settings
        self._client = ServerClient(
            settings.server,
            Operation.EMBEDDINGS,
            environ,
            deadline_s=settings.deadline_s,
            tls_ca=settings.tls_ca,
            max_answer_bytes=MAX_EMBEDDINGS_BYTES,
        )
        self._decider = EmbeddingDecider(
            self._embed,
            batch=BATCH,
            min_confidence=settings.min_confidence,
            min_margin=settings.min_margin,
        )
        self._width: int | None = None
        """Length of the server's vectors, once one is known."""
        self._thread = LoopThread("embeddings-engine")

    def __repr__(self) -> str:
        return f"<EmbeddingsEngine {self._settings.server.model}: {self._client!r}>"

    async def score(self, question: Question) -> Scores | Unavailable:
        """The probabilities of the routes, or why there are none."""
        return await self._thread.result_of(self._score(question))

    def prepare(self, routes: tuple[Route, ...], no_route: tuple[str, ...] = ()) -> None:
        """Begins to embed the texts of these routes; a failure is logged, and a question retries."""
        self._thread.start(self._prepare(routes, no_route))

    def close(self) -> None:
        """Closes every connection, and ends the thread."""
        self._thread.close(self._client.close())

    async def _score(self, question: Question) -> Scores | Unavailable:
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                return await self._decider.decide(question)
        except TimeoutError:
            return self._client.timed_out()

    async def _prepare(self, routes: tuple[Route, ...], no_route: tuple[str, ...]) -> None:
        fault = await self._decider.prepare(routes, no_route)
        if fault is not None:
            _log.warning("the texts of the routes could not be embedded: %s", fault.detail)

    async def _embed(self, texts: Sequence[str]) -> Embedded | Unavailable:
        limit = self._settings.max_query_tokens
        reply = await self._client.post({"input": [_shortened(text, limit) for text in texts]})
        if reply.fault is not None:
            return reply.fault
        try:
            answer = json.loads(reply.body)
            rows = _rows(answer, len(texts))
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return self._client.fault("returned an answer that is not a list of embeddings")
        width = rows.shape[1]
        if self._width not in {None, width}:
            return self._client.fault(
                f"returned vectors of {width} numbers after vectors of {self._width}; "
                "restart the application if its model has changed"
            )
        self._width = width
        return Embedded(list(rows), read_usage(answer))


def _rows(answer: Json, count: int) -> Matrix:
    """The vectors of an answer as rows of length 1, in the order of the texts.

    Raises ValueError, LookupError, TypeError or AttributeError for any other answer.
    """
    items = sorted(enumerate(answer["data"]), key=lambda item: item[1].get("index", item[0]))
    rows = np.array([item["embedding"] for _, item in items], np.float32)
    if rows.ndim != 2 or len(rows) != count or rows.size == 0 or not np.isfinite(rows).all():  # noqa: PLR2004 - a matrix
        raise ValueError("not one vector for each text")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = rows / np.maximum(lengths, np.float32(1e-12))
    return unit


def _shortened(text: str, tokens: int) -> str:
    """Head and tail of a text, about ``tokens`` tokens, estimated at four bytes each."""
    text = replace_surrogates(text).strip()
    encoded = text.encode()
    room = tokens * _BYTES_PER_TOKEN
    if len(encoded) > room:
        half = room // 2
        head, tail = encoded[:half], encoded[len(encoded) - half :]
        text = f"{head.decode(errors='ignore')} … {tail.decode(errors='ignore')}"
    return text or _NOTHING
