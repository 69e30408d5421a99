"""Placeholders of examples, such as ``<your-key>``: values that cannot be meant."""

import re
from typing import Final

_KEY: Final = re.compile(
    r"<[^<>]*>|\{\{.*\}\}|(?:sk-)?(?:(?:ant|proj)-)?your[-_ ].*", re.IGNORECASE
)
_SCHEME: Final = re.compile(r"(?:bearer|basic)\s+", re.IGNORECASE)
_IN_URL: Final = re.compile(r"<[^<>/]*>|(?<!\$)\{[^{}/]*\}")
_HOST: Final = re.compile(r"your[-_][^/:?#]*", re.IGNORECASE)
"""How a host of an example begins, such as ``your-resource.openai.azure.com``."""
_FIX: Final = "write the real value in its place"


def key_fault(key: str) -> str | None:
    """Why a key, or a header with one, cannot be meant. Returns None for any other."""
    if not _KEY.fullmatch(_SCHEME.sub("", key.strip(), count=1)):
        return None
    return "is a placeholder of an example; write $NAME, and set NAME where the gateway runs"


def url_fault_of_example(url: str) -> str | None:
    """Why a URL cannot be meant. Returns None for any other.

    Without the user and the password, which may be real.
    """
    user, at, rest = url.rpartition("@")
    if at and any(map(_IN_URL.fullmatch, re.split("://|:", user))):
        return f"contains a placeholder before '@'; {_FIX}"
    found = _IN_URL.search(rest) or _HOST.match(rest.rpartition("://")[2])
    return f"contains the placeholder {found[0]!r}; {_FIX}" if found else None
