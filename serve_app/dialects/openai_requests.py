"""What requests for providers of OpenAI's two dialects have in common.

Source: OpenAI API reference, "Chat" and "Responses".
"""

import re
from collections.abc import Iterable
from typing import Final

from serve_app.dialects import ir
from serve_app.domain import Json

OPENAI: Final = frozenset({"chat", "responses"})
"""Dialects whose clients name files, service tiers and metadata as OpenAI does."""
MAX_USER: Final = 64
"""Characters of a user's name that OpenAI takes; Claude Code's are longer."""

_FORMAT_NAME: Final = "answer"
_SAYS_ERROR: Final = re.compile(r"error|exception|traceback|fail", re.IGNORECASE)
_HEAD: Final = 200
"""How many characters of a result are searched for a word that says it is an error."""


def parameters_of(tool: ir.Tool) -> Json:
    """The schema of a function's arguments, also of one that takes none."""
    return {"type": "object", "properties": {}} if tool.schema is None else tool.schema


def schema_fields(form: ir.JsonFormat) -> dict[str, Json]:
    """The fields of a format ``json_schema``, whose name is required."""
    fields: dict[str, Json] = {"name": form.name or _FORMAT_NAME, "schema": form.schema}
    if form.description is not None:
        fields["description"] = form.description
    if form.strict is not None:
        fields["strict"] = form.strict
    return fields


def needs_error_mark(result: ir.ToolResult, texts: Iterable[str]) -> bool:
    """True for an error that none of its texts calls one: these dialects have no flag for it."""
    return result.is_error and not any(_SAYS_ERROR.search(text, 0, _HEAD) for text in texts)
