"""Durations with a unit, as Plano writes them."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float | None:
    """The seconds of a duration with its unit; None if it is invalid or zero.

    >>> seconds_of("5s"), seconds_of("500ms"), seconds_of("0s"), seconds_of("soon")
    (5.0, 0.5, None, None)
    """
    match = _DURATION.fullmatch(text)
    return (float(match[1]) * _SECONDS[match[2]] or None) if match else None


def _readable(text: str) -> str:
    if seconds_of(text) is None:
        raise PydanticCustomError("duration", "must be a duration with its unit")
    return text


Duration = Annotated[str, AfterValidator(_readable)]
