"""From similarities to probabilities: the read-out of an embedding model.

A route's logit is its similarity to the conversation, scaled; "no route" has a logit of its own,
which grows as the conversation turns from the routes' texts to what is said without a task.
A softmax over both gives probabilities, so more routes, or nearer ones, take from each other and
from "no route". The order of the routes changes nothing.

The numbers of a ``Readout`` belong to one model. ``python -m training.readout`` fits those of the
bundled one on policies that it has not seen; GENERIC fits a sentence encoder as it comes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from serve_app.domain import Json

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Readout:
    """The numbers that turn similarities (cosines) into logits."""

    whole: float
    """Share of ``name: description`` in a route's similarity to a text."""
    name: float
    """Share of the name."""
    phrase: float
    """Share of the nearest phrase of the description."""
    text: float
    """Scale of the similarity for a route without examples."""
    bar: float
    """What is taken off the logit of a route without examples."""
    text_beside: float
    """Scale of the similarity for a route with examples."""
    near: float
    """Scale of the soft maximum of the cosines to the examples."""
    bar_beside: float
    """What is taken off the logit of a route with examples."""
    near_none: float
    """Scale of the soft maximum of the cosines to the examples of "no route"."""
    bar_none: float
    """What is taken off the logit that these examples give to "no route"."""
    trust: tuple[float, ...] = (0.0, 0.5, 0.75, 1.0)
    """Weight of the logit with examples by their number; the last one applies to larger numbers."""
    none_direction: tuple[float, ...] = ()
    """Which way conversations point that match no route, such as greetings; empty for no direction.

    Its product with a conversation's vector, less the mean of those with the routes' texts, is the
    logit of "no route".
    """
    temperature: float = 1.0
    """All logits are divided by it; fitted on policies that the model has not seen."""

    @classmethod
    def from_json(cls, fields: dict[str, Json]) -> Self:
        """A read-out from its JSON form."""
        sequences = {
            "trust": tuple(fields["trust"]),
            "none_direction": tuple(fields.get("none_direction", ())),
        }
        return cls(**{**fields, **sequences})

    def similarity(self, whole: Floats, name: Floats, phrase: Floats) -> Floats:
        """The similarity of a text to each route, from those to the three forms of its text."""
        return self.whole * whole + self.name * name + self.phrase * phrase

    def probabilities(
        self,
        similarity: Floats,
        nearest: Floats,
        examples: Sequence[int] | npt.NDArray[np.intp],
        nearest_none: float | None,
        none_logit: float = 0.0,
    ) -> Floats:
        """The probabilities of ``n`` routes, and of "no route" as the last, shape ``(n + 1,)``.

        The arguments are those of ``logits``.
        """
        return softmax(self.logits(similarity, nearest, examples, nearest_none, none_logit))

    def logits(
        self,
        similarity: Floats,
        nearest: Floats,
        examples: Sequence[int] | npt.NDArray[np.intp],
        nearest_none: float | None,
        none_logit: float = 0.0,
    ) -> Floats:
        """The logits of ``n`` routes, and of "no route" as the last, shape ``(n + 1,)``.

        ``nearest`` holds the soft maximum of the cosines to the examples of each route, and counts
        only where ``examples``, their number, is not 0. ``nearest_none`` is that of the examples
        of "no route", None without any. ``none_logit`` is the logit of "no route" without them.
        """
        counts = np.minimum(np.asarray(examples, np.intp), len(self.trust) - 1)
        trust = np.asarray(self.trust)[counts]
        alone = self.text * similarity - self.bar
        beside = self.text_beside * similarity + self.near * nearest - self.bar_beside
        logits = np.append(alone + trust * (beside - alone), none_logit)
        if nearest_none is not None:
            from_examples = self.near_none * nearest_none - self.bar_none
            logits[-1] = np.logaddexp(none_logit, from_examples)
        scaled: Floats = logits / self.temperature
        return scaled


def softmax(logits: Floats) -> Floats:
    """Probabilities in proportion to ``exp(logits)``, shape as given."""
    powers = np.exp(logits - logits.max())
    result: Floats = powers / math.fsum(powers)  # exact, so that it depends on no order
    return result


_NEAREST: Final = 8  # training/README.md has what other values give
_SHARPNESS: Final = 20.0


def soft_maximum(cosines: Floats) -> float:
    """A value between the mean and the largest of up to 8 cosines, and of the 8 largest of more.

    It is their log-mean-exp at 20: one example that is nearly the same text counts most, and
    several near ones count more than one. Their order changes nothing. At least one is needed.
    """
    if len(cosines) > _NEAREST:
        cosines = np.partition(cosines, len(cosines) - _NEAREST)[-_NEAREST:]
    largest = float(cosines.max())
    powers = np.exp(_SHARPNESS * (cosines - largest))
    return largest + math.log(math.fsum(powers) / len(powers)) / _SHARPNESS


GENERIC: Final = Readout(
    whole=0.5,
    name=0.2,
    phrase=0.3,
    text=15.0,
    bar=2.2,
    text_beside=6.0,
    near=12.0,
    bar_beside=5.0,
    near_none=12.0,
    bar_none=4.0,
)
"""For a sentence encoder without numbers of its own; ``fingerpost eval --calibrate`` fits them."""
