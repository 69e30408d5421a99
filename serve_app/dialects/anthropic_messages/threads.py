"""Message threads, which only Anthropic keeps.

The official SDKs leave threads and send the whole conversation when they get these errors. They
know them by ``error.details.error_code``, which is the error's code.

Source: Anthropic API reference, "Messages", field ``thread`` (beta message-threads-2026-08-12).
"""

from serve_app.domain import Json
from serve_app.errors import ThreadNotFound, ThreadUnsupported


def check_thread(thread: Json) -> None:
    """Raises ThreadUnsupported or ThreadNotFound, unless the request is not part of a thread."""
    if thread is None:
        return
    if isinstance(thread, dict) and thread.get("type") == "continue":
        message = (
            "thread: the provider of this model does not have the thread; "
            "send the whole conversation without `thread`"
        )
        raise ThreadNotFound(message, "thread")
    message = (
        "thread: the provider of this model does not keep threads; "
        "send the whole conversation without `thread`"
    )
    raise ThreadUnsupported(message, "thread")
