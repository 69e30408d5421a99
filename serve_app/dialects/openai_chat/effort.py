"""How a chat completion asks for a reasoning effort.

Source: OpenAI API reference, "Chat", and OpenRouter, "Reasoning Tokens" for the object.
"""

import re
from typing import Final

from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import object_of
from serve_app.domain import Json

# Source: OpenAI, "Reasoning models", and Mistral, "Reasoning": these models do not think, or only
# some versions of them do, and their servers refuse unknown or unsupported fields.
_STRICT: Final = re.compile(
    r"gpt-[34]|chatgpt-|mistral-|open-mi[sx]tral|codestral|ministral|pixtral|devstral"
    r"|llama|gemma|command",
    re.IGNORECASE,
)
"""How the names of models begin that refuse ``reasoning_effort`` and what others add to a call."""


def is_strict(model: str) -> bool:
    """True for a model that refuses ``reasoning_effort`` and what others add to a call."""
    return _STRICT.match(model.rpartition("/")[2]) is not None


def effort_fields(document: Document, model: str, effort: str) -> dict[str, Json]:
    """The fields by which a client's own request asks for an effort, in place of its own.

    Empty if the client says itself how much the model is to think, or the model refuses to hear.
    """
    reasoning = object_of(document.get("reasoning"))
    says = (
        document.get("reasoning_effort") is not None
        or document.get("thinking") is not None
        or reasoning.get("effort") is not None
        or reasoning.get("max_tokens") is not None
        or reasoning.get("enabled") is False
    )
    if says or is_strict(model):
        return {}
    if reasoning:
        return {"reasoning": {**reasoning, "effort": effort}}
    return {"reasoning_effort": effort}
