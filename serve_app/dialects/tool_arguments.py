"""The arguments of tool calls, which travel as JSON text."""

from serve_app.dialects.json_values import json_text
from serve_app.domain import Json


def arguments_of(value: Json) -> str:
    """The arguments as text: some servers send an object, or null.

    Empty also for those that are nested too deeply to be written.
    """
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json_text(value)
    except RecursionError:
        return ""
