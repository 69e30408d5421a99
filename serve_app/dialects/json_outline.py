"""The outline of a JSON text that comes in pieces: all of it but its long strings.

For events that are too large to be kept: what their fields say is still known at their end.
"""

import re
from typing import Final

MAX_STRING_BYTES: Final = 1024
"""A longer string is three dots in the outline."""
MAX_OUTLINE_BYTES: Final = 1 << 20
"""What exceeds it is left out, so that the outline is not JSON any more."""

_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
"""The rest of a string, without its closing quote."""


class JsonOutline:
    """Takes the pieces of one text; lines around the JSON are kept, too."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._string: bytearray | None = None
        """The begin of the string that is open; None outside of strings."""
        self._escape = b""
        """A backslash whose character is in the next piece."""

    @property
    def text(self) -> bytes:
        """The outline so far; without a string that is open."""
        return bytes(self._kept)

    def add(self, piece: bytes) -> None:
        """The next piece, cut anywhere."""
        piece, self._escape = self._escape + piece, b""
        at = 0
        while at < len(piece):
            at = self._outside(piece, at) if self._string is None else self._inside(piece, at)

    def _outside(self, piece: bytes, at: int) -> int:
        quote = piece.find(b'"', at)
        end = len(piece) if quote < 0 else quote + 1
        self._keep(piece[at:end])
        self._string = None if quote < 0 else bytearray()
        return end

    def _inside(self, piece: bytes, at: int) -> int:
        string = self._string or bytearray()
        rest = _STRING.match(piece, at)
        end = at if rest is None else rest.end()
        string += piece[at : min(end, at + MAX_STRING_BYTES + 1 - len(string))]
        self._string = string
        if piece[end : end + 1] == b'"':
            self._keep((string if len(string) <= MAX_STRING_BYTES else b"...") + b'"')
            self._string = None
        else:
            self._escape = piece[end : end + 1]
        return end + 1

    def _keep(self, part: bytes | bytearray) -> None:
        self._kept += part[: max(0, MAX_OUTLINE_BYTES - len(self._kept))]
