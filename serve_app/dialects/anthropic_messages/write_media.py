"""Writes images and documents as blocks for an Anthropic provider.

Source: Anthropic API reference, "Messages", image and document blocks.
"""

from collections.abc import Mapping
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.data_urls import PDF, decoded
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_IMAGE_STARTS: Final[Mapping[str, str]] = {
    "/9j/": "image/jpeg",
    "iVBORw": "image/png",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
}
"""How images of these types begin in base64."""
_PDF_START: Final = "JVBERi"
_TEXTS: Final = ("application/json", "application/xml", "application/x-yaml")


def image_block(image: ir.Image, at: str) -> dict[str, Json]:
    """The block of an image. Raises InvalidRequest for a format that the API does not take."""
    media = image.media
    source: Json
    if media.data is not None:
        kind = _image_type(media, at)
        source = {"type": "base64", "media_type": kind, "data": media.data}
    else:
        source = _remote(media, at)
    return with_cache({"type": "image", "source": source}, image.cache)


def document_block(file: ir.File, at: str) -> dict[str, Json] | None:
    """The block of a document; None for an empty one, which the API refuses.

    Raises InvalidRequest for a format that the API does not take.
    """
    media = file.media
    source: Json
    if media.text is not None:
        source = _text(media.text)
    elif media.data is None:
        source = _remote(media, at)
    elif _is_pdf(media):
        source = {"type": "base64", "media_type": PDF, "data": media.data}
    else:
        source = _text(_decoded(media, at))
    if source is None:
        return None
    block = {"type": "document", "source": source}
    if file.name:
        block["title"] = file.name
    if file.context:
        block["context"] = file.context
    return with_cache(block, file.cache)


def with_cache(block: dict[str, Json], cache: Json) -> dict[str, Json]:
    """A block with the marker that caches the prompt up to it, if there is one."""
    return {**block, "cache_control": cache} if isinstance(cache, dict) else block


def _image_type(media: ir.Media, at: str) -> str:
    named = (media.media_type or "").lower().replace("image/jpg", "image/jpeg")
    if named in _IMAGES:
        return named
    data = media.data or ""
    for start, kind in _IMAGE_STARTS.items():
        if data.startswith(start):
            return kind
    message = f"{at}: the image must be JPEG, PNG, GIF or WebP; convert it"
    raise InvalidRequest(message, at)


def _is_pdf(media: ir.Media) -> bool:
    if media.media_type is None or media.media_type == "application/octet-stream":
        return (media.data or "").startswith(_PDF_START)
    return media.media_type == PDF


def _decoded(media: ir.Media, at: str) -> str:
    """The text of a document that came as base64."""
    kind = media.media_type or ""
    if kind.startswith("text/") or kind in _TEXTS:
        text = decoded(media.data or "")
        if text is not None:
            return text
        raise InvalidRequest(f"{at}: the document must be UTF-8 text in base64", at)
    message = f"{at}: the document must be a PDF or plain text; convert it"
    raise InvalidRequest(message, at)


def _text(text: str) -> Json:
    if not text.strip():
        return None
    return {"type": "text", "media_type": "text/plain", "data": text}


def _remote(media: ir.Media, at: str) -> Json:
    """The source of what the provider fetches, or has already."""
    if media.url is not None:
        return {"type": "url", "url": media.url}
    if media.file_id is not None:
        return {"type": "file", "file_id": media.file_id}
    raise InvalidRequest(f"{at}: an image or a file has no content; send its data", at)
