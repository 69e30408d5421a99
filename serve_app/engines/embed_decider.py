"""Decides with an embedding model that is asked asynchronously, wherever it runs.

The scorer is that of the embedded engine, with the read-out of any sentence encoder. The new texts
of routes that it needs are embedded first; then it scores without waiting.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from serve_app.domain import Question, Reason, Route, Scores, TokenUsage, Unavailable
from serve_app.scoring.embedding import EmbeddingScorer, Vector

_TRIES: Final = 3
"""While some texts are embedded, the scorer may evict others in favour of newer ones."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The directions of some texts, in their order."""

    vectors: Sequence[Vector]
    usage: TokenUsage | None = None
    """The tokens that they took; None if unknown."""


EmbedTexts: TypeAlias = Callable[[Sequence[str]], Awaitable[Embedded | Unavailable]]
"""Embeds some texts at once."""


class _UnknownTextError(Exception):
    """The scorer needs a text that was not embedded beforehand."""


class EmbeddingDecider:
    """Decides with an embedding model. Not shared between event loops."""

    def __init__(
        self, embed: EmbedTexts, *, batch: int, min_confidence: float, min_margin: float
    ) -> None:
        """``embed`` takes at most ``batch`` texts at once."""
        self._embed_texts = embed
        self._batch = batch
        self._scorer = EmbeddingScorer(
            _unknown, min_confidence=min_confidence, min_margin=min_margin
        )
        self._learning = asyncio.Lock()

    async def prepare(
        self, routes: tuple[Route, ...], no_route: tuple[str, ...] = ()
    ) -> Unavailable | None:
        """Embeds the texts of these routes, each text once; returns why not, if it fails."""
        if not self._scorer.missing(routes, no_route):
            return None
        async with self._learning:  # so that no text is embedded twice at once
            missing = self._scorer.missing(routes, no_route)
            for start in range(0, len(missing), self._batch):
                texts = missing[start : start + self._batch]
                embedded = await self._embed_texts(texts)
                if isinstance(embedded, Unavailable):
                    return embedded
                self._scorer.learn(dict(zip(texts, embedded.vectors, strict=True)))
        return None

    async def decide(self, question: Question) -> Scores | Unavailable:
        """The scores, or why there are none."""
        text = "\n".join(turn.text for turn in question.turns if turn.role == "user")
        routes, none = question.routes, question.no_route_examples
        fault = await self.prepare(routes, none)
        if fault is not None:
            return fault
        query = await self._embed_texts([text])
        if isinstance(query, Unavailable):
            return query
        for _ in range(_TRIES):
            try:
                scores = self._scorer.score(query.vectors[0], routes, none)
            except _UnknownTextError:
                fault = await self.prepare(routes, none)
                if fault is not None:
                    return fault
            else:
                return replace(scores, usage=query.usage)
        detail = "texts of other new routes were evicted meanwhile; retry"
        return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)


def _unknown(_text: str) -> Vector:
    raise _UnknownTextError
