"""Images and files in a conversation, as every dialect has them.

Sources: OpenAI API reference, "Chat" and "Responses"; Anthropic API reference, "Messages".
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from serve_app.dialects.json_values import object_of, objects_of, text_of
from serve_app.domain import Json

_DATA: Final = ("data", "file_data", "image_url", "url")
_WRAPPERS: Final = ("image_url", "source", "file", "input_audio")
"""Keys of a part whose value holds the data in a key of its own."""
_TEXTS: Final = ("text", "content")
"""Types of a source that is text."""
_PLACES: Final = ("content", "output")
"""Keys of a message or an item with parts."""
_MARKS: Final = ("image", "base64", "file_data", "input_audio")
"""Words of which a body with attachments has one at least."""


class Attachments(NamedTuple):
    """What a conversation has besides text."""

    has_images: bool = False
    characters: int = 0
    """Those of the body that are encoded data, or the addresses of it."""


def read_attachments(messages: Json, text: str) -> Attachments:
    """The attachments of messages, or of the items of OpenAI responses, tool results included.

    ``text`` is the body that they are in, which a search excludes faster than a walk.
    """
    has_images, characters = False, 0
    if not any(mark in text for mark in _MARKS):
        return Attachments()
    for part in _parts(messages):
        kind = text_of(part.get("type"))
        if kind in ("text", "input_text", "output_text"):
            continue
        has_images = has_images or "image" in kind or kind == "computer_screenshot"
        characters += _data_in(part)
    return Attachments(has_images, characters)


def _parts(messages: Json) -> Iterator[dict[str, Json]]:
    for message in objects_of(messages):
        for place in _PLACES:
            value = message.get(place)
            if value is None or isinstance(value, str):
                continue
            if isinstance(value, dict):
                yield value
            for part in objects_of(value):
                yield part
                if part.get("type") == "tool_result":
                    yield from objects_of(part.get("content"))


def _data_in(part: dict[str, Json]) -> int:
    inner = (object_of(part.get(key)) for key in _WRAPPERS)
    places = [part, *(one for one in inner if text_of(one.get("type")) not in _TEXTS)]
    return sum(len(text_of(place.get(key))) for place in places for key in _DATA)
