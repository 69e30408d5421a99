"""The file of ``fingerpost eval --calibrate``: how to correct an engine's probabilities, and its errors."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from serve_app.config.locations import ConfigError, Problem, path_text
from serve_app.config.pydantic_errors import describe_error

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
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _error(file, Problem(0, "", f"cannot read the file: {reason}; {MAKE}")) from error
    if len(content) > _MAX_BYTES:
        raise _error(file, Problem(0, "", f"file is larger than {_MAX_BYTES} bytes; {MAKE}"))
    try:
        return CalibrationFile.model_validate(json.loads(content))
    except ValidationError as error:
        details = error.errors(include_url=False)
        found = (describe_error(detail, CalibrationFile) for detail in details)
        problems = [Problem(0, path_text(location), message) for location, message in found]
        raise _error(file, *problems) from error
    except (ValueError, RecursionError) as error:
        raise _error(file, Problem(0, "", f"file is not JSON; {MAKE}")) from error


def _error(file: Path, *problems: Problem) -> ConfigError:
    return ConfigError(str(file), problems)
