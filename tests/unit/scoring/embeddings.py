"""Embeddings that can be computed by hand, and scorers that use them."""

import re
from typing import Final

import numpy as np

from serve_app.domain import Route
from serve_app.scoring.archetypes import Archetype
from serve_app.scoring.embedding import EmbeddingScorer, Vector

DIMENSIONS: Final = 256


class Bag:
    """Embeds a text as the words that it holds: each is a dimension, in order of appearance.

    The cosine of two texts of n and m different words that share k is k / sqrt(n * m).
    """

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self.asked: list[str] = []

    def __call__(self, text: str) -> Vector:
        self.asked.append(text)
        vector = np.zeros(DIMENSIONS, np.float32)
        for word in re.findall(r"\w+", text.lower()):
            vector[self.words.setdefault(word, len(self.words) % DIMENSIONS)] += 1
        length = float(np.linalg.norm(vector))
        return vector if length == 0.0 else vector / np.float32(length)


def scorer(
    embed: Bag | None = None,
    *,
    min_confidence: float = 0.0,
    min_margin: float = 0.0,
    archetypes: tuple[Archetype, ...] = (),
) -> EmbeddingScorer:
    return EmbeddingScorer(
        embed or Bag(), min_confidence=min_confidence, min_margin=min_margin, archetypes=archetypes
    )


def route(name: str, description: str, *examples: str) -> Route:
    return Route(name, description, (), examples=examples)


def value(text: str, *routes: Route, archetypes: tuple[Archetype, ...] = ()) -> float:
    """The score of the first of these routes."""
    scores = scorer(archetypes=archetypes).score(text, routes)
    return scores.routes[routes[0].name]
