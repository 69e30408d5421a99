"""What is wrong with a chat completion, or with a legacy completion.

Their errors have the form of all of OpenAI's: see ``openai_errors.py``.
"""

import re
from collections.abc import Mapping
from typing import Final

from serve_app.dialects.json_edits import read_object
from serve_app.dialects.json_values import object_of, text_of
from serve_app.dialects.openai_chat.finish_reasons import failure_in
from serve_app.dialects.openai_errors import error_info, error_message, render_error
from serve_app.dialects.protocol import ErrorInfo
from serve_app.domain import Json

__all__ = ["check_answer", "render_error"]

_CHOICE: Final = re.compile(rb'"choices"\s*:\s*\[\s*\{')
_CONTENT: Final = re.compile(rb'"message"\s*:\s*\{|"text"\s*:\s*"')
_SUSPECT: Final = re.compile(rb'"error"|insufficient_system_resource')
_NO_CHOICES: Final = "the answer holds no choices"


def check_answer(body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
    """What is wrong with a complete answer of status 2xx; None if it is a chat completion.

    A body that may be torn is parsed in full. A choice may be without content, as a model may have
    nothing to say, but not without a message, and not one that ended with a failure.
    """
    whole = body.strip()
    is_object = whole.startswith(b"{") and whole.endswith(b"}")
    looks_good = is_object and _CHOICE.search(whole) and _CONTENT.search(whole)
    if looks_good and not may_be_torn and not _SUSPECT.search(whole):
        return None
    answer = read_object(body)
    if answer is None:
        return ErrorInfo("the answer is not a JSON object")
    choices, error = answer.get("choices"), answer.get("error")
    if isinstance(choices, list) and choices:
        wrong = (_wrong_choice(object_of(choice), error) for choice in choices)
        return next(filter(None, wrong), None)
    if isinstance(error, dict):
        return error_info(error, body)
    return ErrorInfo(error_message(error) if error else _without_choices(answer))


def _wrong_choice(choice: Mapping[str, Json], error: Json) -> ErrorInfo | None:
    failure = failure_in(choice, error)
    if failure is not None:
        return failure
    if isinstance(choice.get("message"), dict) or isinstance(choice.get("text"), str):
        return None
    return ErrorInfo("the answer holds a choice without a message")


def _without_choices(answer: Mapping[str, Json]) -> str:
    """What to say of an answer without choices, with the provider's words if it has any.

    MiniMax reports errors in ``base_resp``.
    """
    words = text_of(answer.get("message"))
    words = words or text_of(object_of(answer.get("base_resp")).get("status_msg"))
    return f"{_NO_CHOICES}: {words}" if words else _NO_CHOICES
