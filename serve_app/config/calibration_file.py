"""The file of ``fingerpost eval --calibrate``: how to correct an engine's probabilities, and its errors."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from serve_app.config.json_file import read_json_file

MAKE: Final = "make it with `fingerpost eval SET --calibrate`"
"""How to get such a file, for messages."""

LEAST_TEMPERATURE: Final = 0.05
LARGEST_TEMPERATURE: Final = 20.0
LARGEST_SHIFT: Final = 20.0

_MAX_BYTES: Final = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class CurvePoint(_Part):
    """What a threshold did on the labelled conversations."""

    min_confidence: float = Field(ge=0, le=1)
    routed: int = Field(ge=0)
    """Number of conversations that get a route."""
    wrong: int = Field(ge=0)
    """Number of these that get a wrong one, those that match no route included."""
    error: float | None = Field(ge=0, le=1)
    """``wrong / routed``; None if none gets a route."""
    error_at_most: float = Field(ge=0, le=1)
    """Upper bound of the error, with the confidence of the file."""

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        if self.wrong > self.routed:
            raise PydanticCustomError("curve", "`wrong` must not be greater than `routed`")
        return self


class FitFigures(_Part):
    """How well probabilities fit the labels; lower is better."""

    negative_log_likelihood: float = Field(ge=0)
    """Mean of a case, in nats."""
    calibration_error: float = Field(ge=0, le=1)
    """Expected calibration error of the decisions, in 10 bins."""


class CalibrationFile(_Part):
    """A calibration of one engine with one model."""

    format: Literal[1]
    engine: str
    model: str | None
    """Last part of its path or name; None for the bundled model."""
    model_hash: str | None
    """Identifies weights and settings of the embedded engine; None for other engines."""
    cases: int = Field(ge=1)
    """Number of labelled conversations."""
    temperature: float = Field(ge=LEAST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    none_shift: float = Field(ge=-LARGEST_SHIFT, le=LARGEST_SHIFT)
    before: FitFigures
    after: FitFigures
    """Cross-validated: each case is corrected by a fit without it."""
    min_margin: float = Field(ge=0, le=1)
    """The margin with which the curve was measured."""
    confidence: float = Field(gt=0, lt=1)
    """Of the upper bounds in the curve."""
    curve: list[CurvePoint] = Field(min_length=1)
    """From the loosest threshold to the strictest."""

    @model_validator(mode="after")
    def _curve_ascends(self) -> Self:
        limits = [point.min_confidence for point in self.curve]
        if any(low >= high for low, high in pairwise(limits)):
            raise PydanticCustomError(
                "curve", "`curve` must be in ascending order of min_confidence"
            )
        return self

    def as_text(self) -> str:
        """The file's content: JSON with a line for each key, and for each point of the curve."""
        fields = self.model_dump(mode="json")
        points = ",\n".join(f"    {json.dumps(point)}" for point in fields.pop("curve"))
        head = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()
        )
        return f'{{\n{head},\n  "curve": [\n{points}\n  ]\n}}\n'


def read_calibration(file: Path) -> CalibrationFile:
    """Reads a calibration. Raises ConfigError with all problems of the file."""
    return read_json_file(file, CalibrationFile, max_bytes=_MAX_BYTES, fix=MAKE)
