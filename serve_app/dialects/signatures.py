"""The envelope in which the proof of a model's thoughts travels through another dialect.

A provider signs or encrypts what its model thought, and wants it back unchanged in the next turn.
A client that speaks another dialect returns it, in that dialect's own field for such proofs; the
envelope says whose it is, so that only its provider gets it.
"""

import base64
from typing import Final

PREFIX: Final = "fingerpost."
"""No provider's own proof begins so: these are base64, which has no dot."""


def wrap(origin: str, signature: str) -> str:
    """A signature with the name of the dialect that it belongs to, as printable ASCII."""
    packed = base64.urlsafe_b64encode(signature.encode("utf-8", "surrogatepass")).decode()
    return f"{PREFIX}{origin}.{packed}"


def unwrap(text: str) -> tuple[str, str] | None:
    """Origin and signature of an envelope; None if the text is not one."""
    if not text.startswith(PREFIX):
        return None
    origin, _, packed = text[len(PREFIX) :].rpartition(".")
    if not origin:
        return None
    try:
        signature = base64.b64decode(packed, b"-_", validate=True)
        return origin, signature.decode("utf-8", "surrogatepass")
    except ValueError:
        return None
