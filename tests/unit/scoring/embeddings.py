"""Embeddings and a read-out that can be computed by hand, and scorers that use them."""

import math
import re
from typing import Final
from zlib import crc32

import numpy as np

from serve_app.domain import Route, Scores
from serve_app.scoring.embedding import Embed, EmbeddingScorer, Vector
from serve_app.scoring.readout import Readout

DIMENSIONS: Final = 256

READOUT: Final = Readout(
    whole=0.25,
    name=0.25,
    phrase=0.5,
    text=8.0,
    bar=2.0,
    text_beside=4.0,
    near=8.0,
    bar_beside=3.0,
    near_none=8.0,
    bar_none=3.0,
    trust=(0.0, 0.25, 0.5, 1.0),
)


class Bag:
    """Embeds a text as the words that it holds: each is a dimension, in order of appearance.

    The cosine of two texts of n and m different words that share k is k / sqrt(n * m).
    """

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self.asked: list[str] = []

    def __call__(self, text: str) -> Vector:
        self.asked.append(text)
        return self.query(text)

    def query(self, text: str) -> Vector:
        """The vector of a text that a user writes; the scorer does not ask for it."""
        vector = np.zeros(DIMENSIONS, np.float32)
        for word in re.findall(r"\w+", text.lower()):
            vector[self.words.setdefault(word, len(self.words) % DIMENSIONS)] += 1
        length = float(np.linalg.norm(vector))
        return vector if length == 0.0 else vector / np.float32(length)


def dense(text: str) -> Vector:
    """A direction without zeros, as those of a model are, so that products are rounded."""
    vector = np.random.default_rng(crc32(text.encode())).normal(0.3, 1.0, 384).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def scorer(
    embed: Embed | None = None,
    *,
    readout: Readout = READOUT,
    min_confidence: float = 0.0,
    min_margin: float = 0.0,
) -> EmbeddingScorer:
    return EmbeddingScorer(
        embed or Bag(), readout, min_confidence=min_confidence, min_margin=min_margin
    )


def route(name: str, description: str, *examples: str) -> Route:
    return Route(name, description, (), examples=examples)


def scores_of(
    text: str,
    *routes: Route,
    no_route: tuple[str, ...] = (),
    readout: Readout = READOUT,
    min_confidence: float = 0.0,
    min_margin: float = 0.0,
) -> Scores:
    """The scores of these routes for a text, by a new scorer."""
    bag = Bag()
    judge = scorer(bag, readout=readout, min_confidence=min_confidence, min_margin=min_margin)
    return judge.score(bag.query(text), routes, no_route)


def logit(text: str, *routes: Route, no_route: tuple[str, ...] = ()) -> float:
    """The logit of the first of these routes, against "no route" as 0."""
    scores = scores_of(text, *routes, no_route=no_route)
    assert scores.none is not None
    return math.log(scores.routes[routes[0].name] / scores.none)
