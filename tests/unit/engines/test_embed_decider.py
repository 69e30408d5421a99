"""Deciding with embeddings that are made asynchronously."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pytest

from serve_app.domain import Question, Reason, Route, Scores, TokenUsage, Turn, Unavailable
from serve_app.engines.embed_decider import Embedded, EmbeddingDecider
from serve_app.scoring import embedding
from serve_app.scoring.embedding import Vector

DOWN: Final = Unavailable(Reason.ORCHESTRATOR_ERROR, "no server")
ROUTES: Final = (Route("code", "programs", ()), Route("travel", "flights", ()))


def direction(text: str) -> Vector:
    vector = np.zeros(256, np.float32)
    for character in text:
        vector[ord(character) % 256] += 1
    return vector / np.float32(np.linalg.norm(vector))


class Texts:
    """Embeds texts by their letters, and may fail from some request on."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.fails_at: int | None = None

    async def __call__(self, texts: Sequence[str]) -> Embedded | Unavailable:
        self.asked.append(list(texts))
        if len(self.asked) == self.fails_at:
            return DOWN
        return Embedded([direction(text) for text in texts], TokenUsage(len(texts)))


def decider(texts: Texts) -> EmbeddingDecider:
    return EmbeddingDecider(texts, batch=4, min_confidence=0.1, min_margin=0.0)


def question(text: str = "programs", routes: tuple[Route, ...] = ROUTES) -> Question:
    return Question((Turn("user", text),), routes, "v1")


async def test_question_is_one_request_after_preparation() -> None:
    """The usage is that of the question alone."""
    texts = Texts()
    own = decider(texts)
    assert await own.prepare(ROUTES) is None
    assert await own.prepare(ROUTES) is None
    scores = await own.decide(question())
    assert isinstance(scores, Scores)
    assert (scores.winner, scores.usage) == ("code", TokenUsage(1))
    assert [len(batch) for batch in texts.asked] == [4, 2, 1]


@pytest.mark.parametrize("fails_at", [1, 2, 3])
async def test_fault_of_any_request_is_returned(fails_at: int) -> None:
    """Those of the routes, and that of the question."""
    texts = Texts()
    texts.fails_at = fails_at
    own = decider(texts)
    assert await own.decide(question()) == DOWN
    assert isinstance(await own.decide(question()), Scores)


async def test_evicted_texts_are_embedded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of other routes may take their places while a question waits for its own."""
    monkeypatch.setattr(embedding, "MAX_TEXTS", 8)
    texts = Texts()
    own = decider(texts)
    others = tuple(Route(f"other {n}", f"things {n}", ()) for n in range(2))
    texts_of_question = texts.__call__
    evicted = 0

    async def embed(wanted: Sequence[str]) -> Embedded | Unavailable:
        nonlocal evicted
        if list(wanted) == ["programs"] and not evicted:
            evicted += 1
            await own.prepare(others)
        return await texts_of_question(wanted)

    own._embed_texts = embed
    assert isinstance(await own.decide(question()), Scores)
    assert [text for batch in texts.asked for text in batch].count("code: programs") == 2


async def test_routes_beyond_the_cache_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few tries there is no answer, which is not a fault of the server."""
    monkeypatch.setattr(embedding, "MAX_TEXTS", 2)
    result = await decider(Texts()).decide(question())
    detail = "texts of other new routes were evicted meanwhile; retry"
    assert result == Unavailable(Reason.ORCHESTRATOR_BUSY, detail)


async def test_fault_after_an_eviction_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts could not be embedded again."""
    monkeypatch.setattr(embedding, "MAX_TEXTS", 2)
    texts = Texts()
    texts.fails_at = 4
    assert await decider(texts).decide(question()) == DOWN
