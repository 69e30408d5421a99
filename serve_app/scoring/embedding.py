"""The embedding scorer: the similarity of a text to each route, from sentence embeddings alone.

The score of a route is a weighted sum of cosines between the text and

- ``name: description`` of the route as a whole (a quarter),
- its name (a quarter),
- the nearest phrase of its description (a half), because a text is about one of several topics.

If the route is about a kind of task in the archetype bank, half of the score comes from the
bank's prompts. If it has examples, up to half of it comes from them; a single one represents a
broad route badly, and has a small weight. benchmarks/routing_accuracy.py measures what each part
contributes.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from serve_app.domain import Route, Scores
from serve_app.scoring.archetypes import ARCHETYPES, Archetype

Vector: TypeAlias = npt.NDArray[np.float32]
"""A vector of unit length, so that a dot product is a cosine."""

Matrix: TypeAlias = npt.NDArray[np.float32]
"""Vectors as rows."""

Embed: TypeAlias = Callable[[str], Vector]

MAX_TEXTS: Final = 16384
"""Number of cached embeddings of route texts; 1.5 KB each at 384 dimensions."""

MAX_ROWS: Final = 16384
"""Number of rows of all cached sets of routes; the oldest sets are evicted first."""

_WHOLE, _NAME, _PHRASE = 0.25, 0.25, 0.5
_ARCHETYPE_WEIGHT, _ARCHETYPE_NEAR = 0.5, 0.5
_EXAMPLE_WEIGHTS: Final = (0.0, 0.2, 0.3, 0.4, 0.45, 0.5)
"""Weights by number of examples; the last one applies to all larger numbers."""

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


def texts_of(routes: Iterable[Route]) -> list[str]:
    """The texts of these routes that are embedded, without duplicates."""
    texts: list[str] = []
    for route in routes:
        texts += [_whole_text(route), readable(route.name), *phrases(route.description)]
        texts += route.examples
    return list(dict.fromkeys(texts))


def texts_of_bank(archetypes: Iterable[Archetype]) -> list[str]:
    """The texts of these archetypes that are embedded, without duplicates."""
    texts: list[str] = []
    for kind in archetypes:
        texts += [_kind_text(kind), *kind.prompts]
    return list(dict.fromkeys(texts))


def _whole_text(route: Route) -> str:
    return f"{readable(route.name)}: {route.description}"


def _kind_text(kind: Archetype) -> str:
    return f"{kind.name}: {kind.description}"


@dataclass(frozen=True, slots=True)
class _InheritedPrompts:
    """The prompts of the archetype bank that a route inherits."""

    route: int
    rows: npt.NDArray[np.intp]
    """Their rows in the bank."""


@dataclass(frozen=True, slots=True)
class _Examples:
    """The examples of a route."""

    route: int
    vectors: Matrix
    mean: Vector
    """Their mean direction."""
    weight: float
    """Their share of the route's score."""


@dataclass(frozen=True, slots=True)
class _CompiledRoutes:
    """The vectors that a text is compared with; rows are in the order of the routes."""

    wholes: Matrix
    names: Matrix
    phrases: Matrix
    phrase_starts: npt.NDArray[np.intp]
    """The row in ``phrases`` at which the phrases of each route begin."""
    inherited: tuple[_InheritedPrompts, ...]
    examples: tuple[_Examples, ...]

    @property
    def rows(self) -> int:
        return (
            2 * len(self.wholes)
            + len(self.phrases)
            + sum(len(examples.vectors) for examples in self.examples)
        )


class EmbeddingScorer:
    """Scores texts against routes. Caches embeddings of routes, within limits, but none of texts.

    Not safe for use by several threads at once.
    """

    def __init__(
        self,
        embed: Embed,
        *,
        min_confidence: float,
        min_margin: float = 0.0,
        archetypes: Sequence[Archetype] = ARCHETYPES,
    ) -> None:
        self._embed = embed
        self._min_confidence = min_confidence
        self._min_margin = min_margin
        self._texts: OrderedDict[str, Vector] = OrderedDict()
        self._sets: OrderedDict[tuple[Route, ...], _CompiledRoutes] = OrderedDict()
        self._rows = 0
        self._kinds = [embed(_kind_text(kind)) for kind in archetypes]
        self._prompts = [embed(prompt) for kind in archetypes for prompt in kind.prompts]
        ends = np.cumsum([len(kind.prompts) for kind in archetypes], dtype=np.intp)
        self._prompt_rows = np.split(np.arange(len(self._prompts)), ends[:-1]) if archetypes else []
        self._bank = np.stack(self._prompts) if self._prompts else None

    def score(
        self, text: str, routes: tuple[Route, ...], *, in_time: Callable[[], bool] = lambda: True
    ) -> Scores:
        """The scores of the routes for a text.

        Raises OutOfTimeError if ``in_time`` returns False before all texts of the routes, which
        may be new, are embedded; a later call continues from there.
        """
        compiled = self._prepare(routes, in_time)
        values = self._values(self._embed(text), compiled)
        order = np.argsort(-values, kind="stable")
        best = float(values[order[0]])
        second = float(values[order[1]]) if len(order) > 1 else -1.0
        wins = best >= self._min_confidence and best - second >= self._min_margin
        return Scores(
            routes={
                route.name: round(float(value), 6)
                for route, value in zip(routes, values, strict=True)
            },
            threshold=self._min_confidence,
            winner=routes[int(order[0])].name if wins else None,
            required_margin=self._min_margin,
        )

    def prepare(self, routes: tuple[Route, ...]) -> None:
        """Embeds the texts of these routes ahead of the first question about them."""
        if routes:
            self._prepare(routes, lambda: True)

    def missing(self, routes: tuple[Route, ...]) -> list[str]:
        """The texts of these routes that ``score`` would embed first."""
        if routes in self._sets:
            return []
        return [text for text in texts_of(routes) if text not in self._texts]

    def similarity(self, routes: tuple[Route, ...]) -> Matrix:
        """Cosines between the routes' descriptions, ``(n, n)``; near 1 they are hard to distinguish."""
        wholes = self._prepare(routes, lambda: True).wholes
        return wholes @ wholes.T

    def _values(self, query: Vector, compiled: _CompiledRoutes) -> Vector:
        nearest = np.maximum.reduceat(compiled.phrases @ query, compiled.phrase_starts)
        values: Vector = _WHOLE * (compiled.wholes @ query) + _NAME * (compiled.names @ query)
        values += _PHRASE * nearest
        if compiled.inherited and self._bank is not None:
            prompts = self._bank @ query
            for inherited in compiled.inherited:
                near = np.sort(prompts[inherited.rows])[-2:].mean()
                values[inherited.route] += _ARCHETYPE_WEIGHT * (near - values[inherited.route])
        for examples in compiled.examples:
            near = ((examples.vectors @ query).max() + examples.mean @ query) / 2
            values[examples.route] += examples.weight * (near - values[examples.route])
        return values

    def _prepare(self, routes: tuple[Route, ...], in_time: Callable[[], bool]) -> _CompiledRoutes:
        compiled = self._sets.get(routes)
        if compiled is None:
            compiled = self._compile(routes, in_time)
            self._sets[routes] = compiled
            self._rows += compiled.rows
            while self._rows > MAX_ROWS and len(self._sets) > 1:
                self._rows -= self._sets.popitem(last=False)[1].rows
        else:
            self._sets.move_to_end(routes)
        return compiled

    def _compile(self, routes: tuple[Route, ...], in_time: Callable[[], bool]) -> _CompiledRoutes:
        def rows(texts: Iterable[str]) -> Matrix:
            return np.stack([self._text(text, in_time) for text in texts])

        wholes = rows(_whole_text(route) for route in routes)
        topics = [phrases(route.description) for route in routes]
        examples = []
        for index, route in enumerate(routes):
            if route.examples:
                vectors = rows(route.examples)
                weight = _EXAMPLE_WEIGHTS[min(len(vectors), len(_EXAMPLE_WEIGHTS) - 1)]
                examples.append(_Examples(index, vectors, _unit(vectors.mean(axis=0)), weight))
        return _CompiledRoutes(
            wholes=wholes,
            names=rows(readable(route.name) for route in routes),
            phrases=rows(topic for listed in topics for topic in listed),
            phrase_starts=np.cumsum([0, *map(len, topics[:-1])], dtype=np.intp),
            inherited=tuple(self._inherited(wholes)),
            examples=tuple(examples),
        )

    def _inherited(self, wholes: Matrix) -> Iterable[_InheritedPrompts]:
        if not self._kinds:
            return
        for route, near in enumerate(wholes @ np.stack(self._kinds).T >= _ARCHETYPE_NEAR):
            if near.any():
                rows = np.concatenate([self._prompt_rows[kind] for kind in np.flatnonzero(near)])
                yield _InheritedPrompts(route, rows)

    def _text(self, text: str, in_time: Callable[[], bool]) -> Vector:
        cached = self._texts.get(text)
        if cached is not None:
            self._texts.move_to_end(text)
            return cached
        if not in_time():
            raise OutOfTimeError
        vector = self._embed(text)
        self._texts[text] = vector
        if len(self._texts) > MAX_TEXTS:
            self._texts.popitem(last=False)
        return vector


def _unit(vector: Vector) -> Vector:
    length = float(np.linalg.norm(vector))
    return vector if length == 0.0 else (vector / np.float32(length))
