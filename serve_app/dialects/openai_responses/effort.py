"""How a request for a response asks for a reasoning effort.

Source: OpenAI API reference, "Responses".
"""

import re
from typing import Final

from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import object_of
from serve_app.domain import Json

_NO_REASONING: Final = re.compile(r"(.*/)?(gpt-3|gpt-4|chatgpt-|gpt-5(\.\d)?-chat)")


def refuses_reasoning(model: str) -> bool:
    """True for OpenAI's models that refuse ``reasoning`` and encrypted thoughts."""
    return _NO_REASONING.match(model) is not None


def effort_fields(document: Document, model: str, effort: str) -> dict[str, Json]:
    """The fields by which a client's own request asks for an effort, in place of its own.

    Empty if the client sets an effort itself, or the model refuses one.
    """
    reasoning = object_of(document.get("reasoning"))
    if reasoning.get("effort") is not None or refuses_reasoning(model):
        return {}
    return {"reasoning": {**reasoning, "effort": effort}}
