"""The arguments of calls, which are JSON text in ``ir`` and an object here."""

import json
from typing import Final, NoReturn

from serve_app.dialects.json_values import json_text
from serve_app.domain import Json

RAW_ARGUMENTS: Final = "raw_arguments"
"""The key under which arguments travel that are not a JSON object, which ``input`` has to be."""


def read_arguments(value: Json) -> str:
    """The arguments of a call as JSON text; empty if there are none."""
    if isinstance(value, str):
        return value
    return json_text(value) if isinstance(value, dict) and value else ""


def write_arguments(text: str) -> dict[str, Json]:
    """The arguments of a call as an object.

    A text that is not a JSON object is kept under one key: a model that wrote broken arguments
    then sees them again, and a client gets a call that its schema refuses, not an empty one.
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {RAW_ARGUMENTS: text}


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
