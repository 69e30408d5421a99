"""Fields of a request that hold one plain value. A null counts as absent."""

from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import number_of
from serve_app.errors import InvalidRequest


def read_number(document: Document, key: str) -> float | None:
    """A finite number. Raises InvalidRequest that names the field."""
    value = document.get(key)
    if value is not None and number_of(value) is None:
        raise InvalidRequest(f"{key} must be a number", key)
    return number_of(value)


def read_integer(document: Document, key: str, least: int | None = None) -> int | None:
    """A whole number, also as ``3.0``, of at least ``least``. Raises InvalidRequest."""
    value = read_number(document, key)
    if value is None:
        return None
    if value != int(value) or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise InvalidRequest(f"{key} must be an integer{bound}", key)
    return int(value)


def read_boolean(document: Document, key: str) -> bool | None:
    """True or false. Raises InvalidRequest that names the field."""
    value = document.get(key)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{key} must be true or false", key)
    return value


def read_string(document: Document, key: str) -> str | None:
    """A string; None for an empty one. Raises InvalidRequest that names the field."""
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{key} must be a string", key)
    return value or None
