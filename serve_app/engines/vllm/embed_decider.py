"""An embedding model compares a conversation with the routes.

The scorer is that of the embedded engine. The new texts that it needs are first embedded by vLLM,
all at once; then it scores without waiting.
"""

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from serve_app.domain import Question, Reason, Route, Scores, Unavailable
from serve_app.engines.embedding.engine import head_and_tail, text_of
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.scoring.archetypes import ARCHETYPES
from serve_app.scoring.embedding import EmbeddingScorer, Vector, texts_of_bank
from serve_app.scoring.prompt import replace_surrogates

_TRIES: Final = 3
"""While some texts are embedded, the scorer may evict others in favour of newer ones."""


class _UnknownTextError(Exception):
    """The scorer needs a text that was not embedded beforehand."""


class EmbedDecider:
    """Decides with an embedding model in a vLLM engine."""

    def __init__(self, engine: Any, tokenizer: Any, settings: VllmSettings, longest: int) -> None:  # noqa: ANN401 - vLLM has no types here
        """``longest`` is the maximum of tokens in a sequence. ``prepare`` must be called first."""
        from vllm import PoolingParams  # noqa: PLC0415 - loaded only where an engine is made

        self._engine = engine
        self._tokenizer = tokenizer
        self._settings = settings
        self._limit = min(settings.max_query_tokens, longest)
        self._params = PoolingParams
        self._numbers = itertools.count()
        self._fresh: Mapping[str, Vector] = {}
        self._scorer: EmbeddingScorer | None = None
        self.under_way = 0
        """Number of decisions in progress."""

    async def prepare(self, routes: tuple[Route, ...]) -> None:
        """Embeds the archetypes and the texts of these routes."""
        self._fresh = await self._vectors(texts_of_bank(ARCHETYPES))
        scorer = EmbeddingScorer(
            self._vector,
            min_confidence=self._settings.min_confidence,
            min_margin=self._settings.min_margin,
        )
        self._fresh = await self._vectors(scorer.missing(routes))
        scorer.prepare(routes)
        self._scorer = scorer

    async def decide(self, question: Question) -> Scores | Unavailable:
        """The scores, or Unavailable if too many new routes arrive at once."""
        if self._scorer is None:
            raise RuntimeError("prepare must be called before the first decision")
        text, routes = text_of(question), question.routes
        self.under_way += 1
        try:
            for _ in range(_TRIES):
                vectors = await self._vectors([text, *self._scorer.missing(routes)])
                try:
                    return self._scored(self._scorer, text, routes, vectors)
                except _UnknownTextError:
                    continue
        finally:
            self.under_way -= 1
        detail = "texts of other new routes were evicted meanwhile; retry"
        return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)

    def _scored(
        self,
        scorer: EmbeddingScorer,
        text: str,
        routes: tuple[Route, ...],
        vectors: Mapping[str, Vector],
    ) -> Scores:
        self._fresh = vectors
        try:
            return scorer.score(text, routes)
        finally:
            self._fresh = {}

    def _vector(self, text: str) -> Vector:
        """The vector of a text that was embedded beforehand; the scorer calls this."""
        vector = self._fresh.get(text)
        if vector is None:
            raise _UnknownTextError
        return vector

    async def _vectors(self, texts: Iterable[str]) -> dict[str, Vector]:
        unique = list(dict.fromkeys(texts))
        return dict(zip(unique, await asyncio.gather(*map(self._embed, unique)), strict=True))

    async def _embed(self, text: str) -> Vector:
        """The direction of a text, of length 1."""
        ids = head_and_tail(self._tokenizer.encode(replace_surrogates(text)), self._limit)
        number = f"embedding-{next(self._numbers)}"
        last = None
        params = self._params(task="embed")
        async for output in self._engine.encode({"prompt_token_ids": ids}, params, number):
            last = output
        if last is None:
            raise RuntimeError("vLLM ended a request without an answer")
        vector = last.outputs.data.float().numpy()
        unit: Vector = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
        return unit
