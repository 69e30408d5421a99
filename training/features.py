"""What the scorer sees of a policy, for fitting a read-out and for measuring one.

The similarities are those of the engine itself: the same texts, tokens and arithmetic.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serve_app.engines.embedding.engine import EmbeddingModel
from serve_app.scoring.embedding import phrases, readable, whole_text
from serve_app.scoring.excerpt import recent
from serve_app.scoring.readout import Readout, soft_maximum
from training.data import Policy, Talk

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Features:
    """The similarities of ``q`` conversations to ``n`` routes, and what was expected."""

    policy: str
    turned: Floats
    """The vectors of the conversations, less the mean of those of the routes' texts, ``(q, 384)``."""
    whole: Floats
    """``(q, n)``, as the other two."""
    name: Floats
    phrase: Floats
    near: Floats
    """The soft maximum of the cosines to the examples, ``(q, n)``; 0 without examples."""
    near_none: Floats | None
    """That of the examples of "no route", ``(q,)``."""
    counts: npt.NDArray[np.intp]
    """The number of examples of each route."""
    expected: npt.NDArray[np.intp]
    """The route, ``n`` for none, ``(q,)``."""
    languages: tuple[str, ...]

    def probabilities(self, readout: Readout) -> Floats:
        """``(q, n + 1)``; the last column is "none"."""
        similarity = readout.similarity(self.whole, self.name, self.phrase)
        none_logits = np.zeros(len(similarity))
        if readout.none_direction:
            none_logits = self.turned @ np.array(readout.none_direction)
        return np.stack(
            [
                readout.probabilities(
                    similarity[row],
                    self.near[row],
                    self.counts,
                    None if self.near_none is None else float(self.near_none[row]),
                    float(none_logits[row]),
                )
                for row in range(len(similarity))
            ]
        )


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples of each route, and of no route."""

    routes: tuple[tuple[str, ...], ...]
    none: tuple[str, ...] = ()


class Similarities:
    """Computes features with an engine's model; remembers every vector."""

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self._texts: dict[str, npt.NDArray[np.float32]] = {}
        self._talks: dict[tuple[object, ...], npt.NDArray[np.float32]] = {}

    def of(
        self, policy: Policy, examples: Examples | None = None, left_out: Sequence[int] = ()
    ) -> Features:
        """The features of the conversations of a policy, but for those ``left_out``."""
        talks = [talk for at, talk in enumerate(policy.talks) if at not in set(left_out)]
        asked = np.stack([self._talk(talk) for talk in talks])
        routes = policy.routes
        texts = np.stack([self._text(whole_text(route)) for route in routes])
        examples = examples or Examples(tuple(() for _ in routes))
        none = examples.none
        return Features(
            policy=policy.id,
            turned=np.asarray(asked - texts.mean(0), np.float64),
            whole=self._cosines(asked, [whole_text(route) for route in routes]),
            name=self._cosines(asked, [readable(route.name) for route in routes]),
            phrase=np.stack(
                [self._cosines(asked, phrases(route.description)).max(1) for route in routes], 1
            ),
            near=np.stack([self._near(asked, own) for own in examples.routes], 1),
            near_none=self._near(asked, none) if none else None,
            counts=np.array([len(own) for own in examples.routes], np.intp),
            expected=np.array([talk.route if talk.route >= 0 else len(routes) for talk in talks]),
            languages=tuple(talk.language for talk in talks),
        )

    def _cosines(self, asked: npt.NDArray[np.float32], texts: Sequence[str]) -> Floats:
        return np.asarray(asked @ np.stack([self._text(text) for text in texts]).T, np.float64)

    def _near(self, asked: npt.NDArray[np.float32], texts: Sequence[str]) -> Floats:
        if not texts:
            return np.zeros(len(asked))
        return np.array([soft_maximum(row) for row in self._cosines(asked, texts)])

    def _text(self, text: str) -> npt.NDArray[np.float32]:
        if text not in self._texts:
            self._texts[text] = self._model.embed(text)
        return self._texts[text]

    def _talk(self, talk: Talk) -> npt.NDArray[np.float32]:
        if talk.turns not in self._talks:
            self._talks[talk.turns] = self._model.embed_turns(recent(talk.turns) or talk.turns[-1:])
        return self._talks[talk.turns]


def drawn(policy: Policy, count: int, seed: int) -> tuple[Examples, list[int]]:
    """Up to ``count`` conversations of each route and of none as examples, and which they are.

    At least one conversation of each route is not drawn.
    """
    chance = np.random.default_rng(seed)
    used: list[int] = []
    texts: list[tuple[str, ...]] = []
    for route in (*range(len(policy.routes)), -1):
        own = policy.of_route(route)
        chosen = chance.permutation(own)[: min(count, max(len(own) - 1, 0))].tolist()
        used += chosen
        texts.append(tuple(example_text(policy.talks[index]) for index in chosen))
    return Examples(tuple(texts[:-1]), texts[-1]), used


def example_text(talk: Talk) -> str:
    """A conversation as an example: what the user said in the turns that are compared."""
    turns = recent(talk.turns) or talk.turns[-1:]
    return "\n".join(turn.text for turn in turns if turn.role == "user")


def suggested(policy: Policy, folder: Path, count: int) -> Examples | None:
    """The first ``count`` of what a language model wrote from the routes' texts alone.

    "No route" gets up to twice as many, as from ``fingerpost suggest``. None without a file.
    """
    file = folder / f"{policy.id}.json"
    if not file.is_file():
        return None
    content = json.loads(file.read_text("utf-8"))
    return Examples(
        tuple(tuple(content["examples"].get(route.name, ())[:count]) for route in policy.routes),
        tuple(content["no_route_examples"][: 2 * count]),
    )


def without_languages(policy: Policy) -> Policy:
    """The English conversations of a policy."""
    return replace(policy, talks=tuple(talk for talk in policy.talks if talk.language == "en"))
