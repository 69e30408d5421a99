"""The embedding scorer: the similarity of a conversation to each route, from embeddings alone.

A route is compared by ``name: description`` as a whole, by its name, by the nearest phrase of its
description, because a text is about one of several topics, and by the nearest of its
examples. scoring/readout.py turns the similarities into probabilities.
benchmarks/routing_accuracy.py measures what each part contributes.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from serve_app.domain import Route, Scores
from serve_app.scoring.calibration import DecisionRule
from serve_app.scoring.readout import GENERIC, Floats, Readout, soft_maximum, softmax
from serve_app.scoring.tuned import Adjustment, Tuned

Vector: TypeAlias = npt.NDArray[np.float32]
"""A vector of unit length, so that a dot product is a cosine."""

Matrix: TypeAlias = npt.NDArray[np.float32]
"""Vectors as rows."""

Embed: TypeAlias = Callable[[str], Vector]

MAX_TEXTS: Final = 16384
"""Number of cached embeddings of route texts; 1.5 KB each at 384 dimensions."""

MAX_ROWS: Final = 16384
"""Number of rows of all cached sets of routes; the oldest sets are evicted first."""

_Key: TypeAlias = tuple[tuple[Route, ...], tuple[str, ...]]
"""Routes, and examples of what matches none of them."""

_Text: TypeAlias = tuple[str, bool]
"""A text, and whether it is embedded as an example, where the model makes a difference."""

_MAX_PHRASES: Final = 24
_PHRASE_ENDS = re.compile(r"[,;:/()&]|\.\s|\band\b|\bor\b")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class OutOfTimeError(Exception):
    """The texts of the routes could not be embedded in time; those that were are cached."""


def phrases(description: str) -> tuple[str, ...]:
    """The topics in a description; the description itself if it is not a list."""
    parts = (part.strip(" .\n") for part in _PHRASE_ENDS.split(description))
    return tuple(part for part in parts if part)[:_MAX_PHRASES] or (description,)


def readable(name: str) -> str:
    """A route's name as words: ``book_flight`` becomes ``book flight``, ``bookFlight`` ``book Flight``."""
    return re.sub(r"[_.\-]+", " ", _CAMEL.sub(" ", name)).strip() or name


def texts_of(routes: Iterable[Route], no_route: Iterable[str] = ()) -> list[str]:
    """The texts of these routes that are embedded, without duplicates."""
    texts = list(no_route)
    for route in routes:
        texts += [whole_text(route), readable(route.name), *phrases(route.description)]
        texts += route.examples
    return list(dict.fromkeys(texts))


def whole_text(route: Route) -> str:
    """A route as one text: its name and its description."""
    return f"{readable(route.name)}: {route.description}"


@dataclass(frozen=True, slots=True)
class _CompiledRoutes:
    """The vectors that a text is compared with; rows are in the order of the routes."""

    wholes: Matrix
    names: Matrix
    phrases: Matrix
    phrase_starts: npt.NDArray[np.intp]
    """The row in ``phrases`` at which the phrases of each route begin."""
    examples: Matrix
    """Those of all routes, and of "no route" at the end."""
    counts: npt.NDArray[np.intp]
    """The number of examples of each route, and of "no route" as the last."""
    to_none: float
    """The mean product of the routes' texts with the direction of "no route"."""

    @property
    def rows(self) -> int:
        return 2 * len(self.wholes) + len(self.phrases) + len(self.examples)


@dataclass(frozen=True, slots=True)
class Closeness:
    """How near a text is to some routes."""

    similarity: Floats
    """To the texts of each route."""
    examples: Sequence[Floats]
    """The cosines to the examples of each route, and to those of "no route" as the last."""
    none_logit: float = 0.0
    """The logit of "no route" without its examples."""

    def logits(self, readout: Readout) -> Floats:
        """The logits of the routes, and of "no route" as the last."""
        near = [soft_maximum(own) if len(own) else 0.0 for own in self.examples]
        *counts, of_none = map(len, self.examples)
        none = near[-1] if of_none else None
        return readout.logits(self.similarity, np.asarray(near[:-1]), counts, none, self.none_logit)


class EmbeddingScorer:
    """Scores texts against routes. Caches embeddings of routes, within limits, but none of texts.

    Not safe for use by several threads at once.
    """

    def __init__(
        self,
        embed: Embed,
        readout: Readout = GENERIC,
        *,
        min_confidence: float,
        min_margin: float = 0.0,
        embed_example: Embed | None = None,
    ) -> None:
        """``embed`` embeds texts of routes; ``readout`` belongs to its model.

        ``embed_example`` embeds the examples of a model that has prompts of its own for queries.
        """
        self._embed = embed
        self._embed_example = embed_example
        self._readout = readout
        direction = readout.none_direction
        self._to_none = np.array(direction, np.float32) if direction else None
        self._rule = DecisionRule(min_confidence, min_margin)
        self._texts: OrderedDict[_Text, Vector] = OrderedDict()
        self._sets: OrderedDict[_Key, _CompiledRoutes] = OrderedDict()
        self._rows = 0
        self.tuned: Tuned | None = None
        """What was learned from labelled conversations, if anything."""

    def score(
        self,
        query: Vector,
        routes: tuple[Route, ...],
        no_route: tuple[str, ...] = (),
        *,
        in_time: Callable[[], bool] = lambda: True,
        is_inline: bool = False,
    ) -> Scores:
        """The probabilities of the routes for a conversation's vector.

        ``no_route`` are examples of conversations that match none of them. What was learned does
        not apply to routes of a request (``is_inline``). Raises OutOfTimeError if ``in_time``
        returns False before all texts of the routes, which may be new, are embedded; a later call
        continues from there.
        """
        closeness = self._closeness(query, self._prepare((routes, no_route), in_time))
        adjustment = None
        if self.tuned is not None and not is_inline:
            adjustment = self.tuned.adjustment(routes, no_route)
        values = softmax(_logits(self._readout, closeness, adjustment, query))
        return self.scores_of(values, routes)

    def scores_of(self, values: Floats, routes: Iterable[Route]) -> Scores:
        """Probabilities of these routes, and of "no route" as the last, with the decision."""
        *probabilities, none = (round(float(value), 6) for value in values)
        scores = dict(zip((route.name for route in routes), probabilities, strict=True))
        return self._rule.apply(Scores(scores, 0.0, None, none=none))

    def closeness(
        self, query: Vector, routes: tuple[Route, ...], no_route: tuple[str, ...] = ()
    ) -> Closeness:
        """How near a conversation's vector is to these routes."""
        return self._closeness(query, self._prepare((routes, no_route), lambda: True))

    def prepare(self, routes: tuple[Route, ...], no_route: tuple[str, ...] = ()) -> None:
        """Embeds the texts of these routes ahead of the first question about them."""
        if routes:
            self._prepare((routes, no_route), lambda: True)

    def missing(self, routes: tuple[Route, ...], no_route: tuple[str, ...] = ()) -> list[str]:
        """The texts of these routes that ``score`` would embed first."""
        if (routes, no_route) in self._sets:
            return []
        return [text for text in texts_of(routes, no_route) if (text, False) not in self._texts]

    def learn(self, vectors: Mapping[str, Vector]) -> None:
        """Caches embeddings of texts of routes that were made elsewhere."""
        for text, vector in vectors.items():
            self._texts[text, False] = vector
            if len(self._texts) > MAX_TEXTS:
                self._texts.popitem(last=False)

    def similarity(self, routes: tuple[Route, ...]) -> Matrix:
        """Cosines between the routes' descriptions, ``(n, n)``; near 1 they are hard to distinguish."""
        wholes = self._prepare((routes, ()), lambda: True).wholes
        return wholes @ wholes.T

    def _closeness(self, query: Vector, compiled: _CompiledRoutes) -> Closeness:
        near_phrases = np.maximum.reduceat(cosines(compiled.phrases, query), compiled.phrase_starts)
        similarity = self._readout.similarity(
            cosines(compiled.wholes, query), cosines(compiled.names, query), near_phrases
        )
        examples = np.split(cosines(compiled.examples, query), np.cumsum(compiled.counts)[:-1])
        none_logit = 0.0
        if self._to_none is not None:
            none_logit = float(np.vecdot(self._to_none, query)) - compiled.to_none
        return Closeness(similarity, examples, none_logit)

    def _prepare(self, key: _Key, in_time: Callable[[], bool]) -> _CompiledRoutes:
        compiled = self._sets.get(key)
        if compiled is None:
            compiled = self._compile(*key, in_time)
            self._sets[key] = compiled
            self._rows += compiled.rows
            while self._rows > MAX_ROWS and len(self._sets) > 1:
                self._rows -= self._sets.popitem(last=False)[1].rows
        else:
            self._sets.move_to_end(key)
        return compiled

    def _compile(
        self, routes: tuple[Route, ...], no_route: tuple[str, ...], in_time: Callable[[], bool]
    ) -> _CompiledRoutes:
        def rows(texts: Iterable[str], *, are_examples: bool = False) -> Matrix:
            own = are_examples and self._embed_example is not None
            return np.stack([self._text((text, own), in_time) for text in texts])

        topics = [phrases(route.description) for route in routes]
        listed = [*(route.examples for route in routes), no_route]
        wholes = rows(whole_text(route) for route in routes)
        to_none = 0.0
        if self._to_none is not None:  # an exact sum depends on no order
            to_none = math.fsum(cosines(wholes, self._to_none)) / len(wholes)
        examples = [text for own in listed for text in own]
        return _CompiledRoutes(
            wholes=wholes,
            names=rows(readable(route.name) for route in routes),
            phrases=rows(topic for own in topics for topic in own),
            phrase_starts=np.cumsum([0, *map(len, topics[:-1])], dtype=np.intp),
            examples=rows(examples, are_examples=True) if examples else wholes[:0],
            counts=np.array([len(own) for own in listed], np.intp),
            to_none=to_none,
        )

    def _text(self, text: _Text, in_time: Callable[[], bool]) -> Vector:
        cached = self._texts.get(text)
        if cached is not None:
            self._texts.move_to_end(text)
            return cached
        if not in_time():
            raise OutOfTimeError
        words, is_example = text
        embed = self._embed_example if is_example else None
        vector = (embed or self._embed)(words)
        self._texts[text] = vector
        if len(self._texts) > MAX_TEXTS:
            self._texts.popitem(last=False)
        return vector


def _logits(
    readout: Readout, closeness: Closeness, adjustment: Adjustment | None, query: Vector
) -> Floats:
    """The logits of the routes and of "no route", with what was learned."""
    plain = closeness.logits(readout)
    if adjustment is None:
        return plain
    examples = [
        np.concatenate([own, cosines(learned, query)]) if len(learned) else own
        for own, learned in zip(closeness.examples, adjustment.examples, strict=True)
    ]
    return adjustment.adjust(plain, replace(closeness, examples=examples).logits(readout), query)


def cosines(rows: Matrix, query: Vector) -> Floats:
    """The cosine of each row with the query, the same to the last bit wherever the row is.

    A matrix product would round by the row's place, and the order of routes would matter.
    """
    return np.asarray(np.vecdot(rows, query), np.float64)
