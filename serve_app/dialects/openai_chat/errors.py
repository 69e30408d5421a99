"""What is wrong with a chat completion, or with a legacy completion.

Their errors have the form of all of OpenAI's: see ``openai_errors.py``.
"""

from serve_app.dialects.json_edits import read_object
from serve_app.dialects.openai_errors import error_info, error_message, render_error
from serve_app.dialects.protocol import ErrorInfo

__all__ = ["check_answer", "render_error"]


def check_answer(body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
    """What is wrong with a complete answer of status 2xx; None if it is a chat completion.

    A body that may be torn is parsed in full.
    """
    whole = body.strip()
    looks_good = whole.startswith(b"{") and whole.endswith(b"}") and b'"choices"' in whole
    if looks_good and not may_be_torn and b'"error"' not in body:
        return None
    answer = read_object(body)
    if answer is None:
        return ErrorInfo("the answer is not a JSON object")
    choices, error = answer.get("choices"), answer.get("error")
    if isinstance(choices, list) and (choices or error is None):
        return None
    if isinstance(error, dict):
        return error_info(error, body)
    return ErrorInfo(error_message(error) if error else "the answer holds no choices")
