"""The file of ``fingerpost tune``: what the embedded engine learned from labelled conversations."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from serve_app.config.json_file import read_json_file
from serve_app.domain import Route

MAKE: Final = "make it with `fingerpost tune`"
"""How to get such a file, for messages."""

LEAST_TEMPERATURE: Final = 0.25
LARGEST_TEMPERATURE: Final = 6.0

_MAX_BYTES: Final = 32 << 20
_HASH_DIGITS: Final = 16
_DIGITS: Final = 6

Numbers = list[Annotated[float, Field(ge=-1e6, le=1e6)]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class LearnedRoute(_Part):
    """What was learned about one route, or about "no route"."""

    texts: str
    """Hash of the texts of the route when it was learned."""
    conversations: int = Field(ge=0)
    """Number of labelled conversations of the route."""
    weights: Numbers
    """What is added to the logit of the route for each dimension of a text's vector; may be empty."""
    offset: float = Field(ge=-1e6, le=1e6)
    """What is added to the logit in any case."""
    examples: list[Numbers]
    """Vectors of labelled conversations that count as examples of the route; may be empty."""


class TuningFigures(_Part):
    """How well the labelled conversations are decided."""

    decided: float = Field(ge=0, le=1)
    """Of all conversations: the share that is decided right with the thresholds."""
    accuracy: float = Field(ge=0, le=1)
    """Of those with a route: the share whose best route is right."""
    auroc: float | None = Field(ge=0, le=1)
    """How well those with a route are separated from the others; None with one kind alone."""
    calibration_error: float = Field(ge=0, le=1)
    """Expected calibration error of the decisions, in 10 bins."""
    negative_log_likelihood: float = Field(ge=0)
    """Mean of a conversation, in nats; lower is better."""


class CrossValidation(_Part):
    """What the tuning promises: each conversation is decided by what was learned without it."""

    folds: int = Field(ge=2)
    conversations: int = Field(ge=1)
    before: TuningFigures
    after: TuningFigures
    became_right: int = Field(ge=0)
    became_wrong: int = Field(ge=0)
    p_value: float = Field(gt=0, le=1)
    """Probability that chance alone improves the likelihood as much."""


class TunedFile(_Part):
    """A read-out that was learned from labelled conversations, for one model and some routes."""

    format: Literal[1]
    model_hash: str
    """Identifies the weights of the embedded engine."""
    dimensions: int = Field(ge=1)
    """Length of a vector of the model."""
    temperature: float = Field(ge=LEAST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    """All logits are divided by it."""
    ridge: float | None = Field(gt=0)
    """Strength that keeps the corrections small; None without any."""
    cross_validation: CrossValidation
    routes: dict[str, LearnedRoute]
    no_route: LearnedRoute | None
    """None where too few conversations match no route: its probability stays as it was."""

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        for name, learned in [*self.routes.items(), ("no_route", self.no_route)]:
            if learned is None:
                continue
            lengths = {len(vector) for vector in learned.examples}
            lengths |= {len(learned.weights)} if learned.weights else set()
            if not lengths <= {self.dimensions}:
                message = f"a vector of {json.dumps(name)} does not have {self.dimensions} numbers"
                raise PydanticCustomError("dimensions", message)
        return self

    def as_text(self) -> str:
        """The file's content: JSON with a line for each key, and for each route."""
        fields = self.model_dump(mode="json")
        routes = fields.pop("routes")
        lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()]
        listed = [f"    {json.dumps(name)}: {json.dumps(own)}" for name, own in routes.items()]
        lines.append('  "routes": {\n' + ",\n".join(listed) + "\n  }")
        return "{\n" + ",\n".join(lines) + "\n}\n"


def rounded(value: float) -> float:
    """The number with the digits that the file has; never minus zero."""
    return round(value, _DIGITS) + 0.0


def route_hash(route: Route) -> str:
    """Identifies the texts of a route: its name, its description and its examples."""
    return _hash([route.name, route.description, *route.examples])


def no_route_hash(examples: tuple[str, ...]) -> str:
    """Identifies the examples of "no route"."""
    return _hash(list(examples))


def _hash(texts: list[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:_HASH_DIGITS]


def read_tuned(file: Path) -> TunedFile:
    """Reads what was learned. Raises ConfigError with all problems of the file."""
    return read_json_file(file, TunedFile, max_bytes=_MAX_BYTES, fix=MAKE)
