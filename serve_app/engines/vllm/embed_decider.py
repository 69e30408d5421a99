"""An embedding model in vLLM compares a conversation with the routes."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from serve_app.domain import Question, Scores, Unavailable
from serve_app.engines.embed_decider import Embedded, EmbeddingDecider
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.scoring.embedding import MAX_TEXTS, Vector
from serve_app.scoring.prompt import replace_surrogates
from serve_app.scoring.query import head_and_tail

_AT_ONCE: Final = MAX_TEXTS
"""Texts that vLLM gets at once; it makes batches of its own."""


class EmbedDecider(EmbeddingDecider):
    """Decides with an embedding model in a vLLM engine."""

    def __init__(self, engine: Any, tokenizer: Any, settings: VllmSettings, longest: int) -> None:  # noqa: ANN401 - vLLM has no types here
        """``longest`` is the maximum of tokens in a sequence."""
        from vllm import PoolingParams  # noqa: PLC0415 - loaded only where an engine is made

        super().__init__(
            self._embed_all,
            batch=_AT_ONCE,
            min_confidence=settings.min_confidence,
            min_margin=settings.min_margin,
        )
        self._engine = engine
        self._tokenizer = tokenizer
        self._limit = min(settings.max_query_tokens, longest)
        self._params = PoolingParams
        self._numbers = itertools.count()
        self.under_way = 0
        """Number of decisions in progress."""

    async def decide(self, question: Question) -> Scores | Unavailable:
        """The scores, or Unavailable if too many new routes arrive at once."""
        self.under_way += 1
        try:
            return await super().decide(question)
        finally:
            self.under_way -= 1

    async def _embed_all(self, texts: Sequence[str]) -> Embedded:
        return Embedded(await asyncio.gather(*map(self._embed, texts)))

    async def _embed(self, text: str) -> Vector:
        """The direction of a text, of length 1."""
        ids = self._tokenizer.encode(replace_surrogates(text))
        if len(ids) > self._limit:  # the first and the last one are the model's own
            ids = [ids[0], *head_and_tail(ids[1:-1], self._limit - 2), ids[-1]]
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
