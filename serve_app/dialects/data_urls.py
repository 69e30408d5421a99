"""Images and documents inside a request: as data URLs, and as text.

Source: RFC 2397.
"""

import base64
from typing import Final
from urllib.parse import unquote

from serve_app.dialects import ir

PDF: Final = "application/pdf"
PNG: Final = "image/png"
DOCUMENT_NAME: Final = "document.pdf"
"""The name of a document that has none, where a dialect requires one."""

_SCHEME: Final = "data:"
_TEXT: Final = "text/plain"


def is_data_url(url: str) -> bool:
    """True for a URL that holds what it names."""
    return url[: len(_SCHEME)].lower() == _SCHEME


def read_url(url: str) -> ir.Media:
    """What a URL names, or what a data URL holds: ``data`` if it is base64, else ``text``."""
    if not is_data_url(url):
        return ir.Media(url=url)
    head, _, content = url[len(_SCHEME) :].partition(",")
    kind, *parameters = (piece.strip() for piece in head.split(";"))
    if "base64" in map(str.lower, parameters):
        return ir.Media(data=content, media_type=kind or None)
    return ir.Media(text=unquote(content), media_type=kind or _TEXT)


def data_url(media: ir.Media, default: str) -> str:
    """The data URL of something in base64; ``default`` is its type where it has none."""
    return f"{_SCHEME}{media.media_type or default};base64,{media.data or ''}"


def text_in(media: ir.Media) -> str | None:
    """The text of a document that is plain text, also if it came as base64; None for others."""
    if media.text is not None:
        return media.text
    if media.data is None or not (media.media_type or "").startswith("text/"):
        return None
    return decoded(media.data)


def decoded(data: str) -> str | None:
    """The text in base64, which may have line breaks; None if it is not UTF-8."""
    try:
        return base64.b64decode("".join(data.split()), validate=True).decode()
    except ValueError:
        return None


def text_of_document(file: ir.File) -> str | None:
    """A document of plain text with its name and context before it; None for others."""
    text = text_in(file.media)
    if text is None:
        return None
    return "\n\n".join(piece for piece in (file.name, file.context, text) if piece)
