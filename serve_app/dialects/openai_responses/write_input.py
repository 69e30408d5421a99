"""Writes the messages of a request as input items for a provider.

Source: OpenAI API reference, "Responses", "Create a model response".

System and developer messages stay items, each where the client put it. Only what a client of this
dialect says in ``instructions`` is written there: the API puts that text before all items, and
does the same with items that come first.
"""

from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.data_urls import DOCUMENT_NAME, PDF, PNG, data_url, text_of_document
from serve_app.dialects.openai_requests import OPENAI, needs_error_mark
from serve_app.dialects.openai_responses.output_items import (
    CUSTOM_CALL,
    FUNCTION_CALL,
    item_id,
    kind_of,
    message_item,
    refusal_content,
    restore_signed,
    text_content,
    whole_arguments,
)
from serve_app.dialects.stable_ids import digest_of
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_MAX_CALL_ID: Final = 64
_NO_IMAGE: Final = "could not process image"
"""By these words agents know that they have to leave it out."""


class InputWriter:
    """Writes the input of one request, and notes what it leaves out."""

    def __init__(self, request: ir.Request) -> None:
        self._request = request
        self._items: list[Json] = []
        self.dropped: list[str] = []

    def write(self) -> dict[str, Json]:
        """The fields ``instructions``, if the client has them, and ``input``."""
        body: dict[str, Json] = {}
        for message in self._request.messages:
            if message.at == "instructions" and message.role is ir.Role.SYSTEM:
                texts = [part.text for part in message.parts if isinstance(part, ir.Text)]
                body["instructions"] = "\n\n".join(texts)
            else:
                self._message(message)
        return {**body, "input": self._items}

    def _message(self, message: ir.Message) -> None:
        """Adds the items of a message; parts in a row that are said are one item."""
        said: list[Json] = []
        for part in message.parts:
            if getattr(part, "cache", None):
                self._drop("cache_control")
            if isinstance(part, ir.ToolCall | ir.ToolResult | ir.Thinking):
                self._flush(message.role, said)
                said = []
                self._item(part, message.at)
            elif isinstance(part, ir.Foreign):
                self._drop(part.kind)
            else:
                said += self._contents(part, message)
        self._flush(message.role, said)

    def _flush(self, role: ir.Role, said: list[Json]) -> None:
        if not said:
            return
        if role is ir.Role.ASSISTANT:  # strict servers want an id, and none looks it up
            position = len(self._items)
            item = message_item(item_id("msg", "input", position), said, "completed")
        else:
            item = {"type": "message", "role": str(role), "content": said}
        self._items.append(item)

    def _item(self, part: ir.ToolCall | ir.ToolResult | ir.Thinking, at: str) -> None:
        if isinstance(part, ir.ToolCall):
            self._items.append(_call(part))
        elif isinstance(part, ir.ToolResult):
            self._items.append(self._result(part, at))
        elif (signed := restore_signed(part)) is not None:
            self._items.append(signed)
        else:
            self._drop("thinking")

    def _result(self, result: ir.ToolResult, at: str) -> dict[str, Json]:
        kind = CUSTOM_CALL if result.is_custom else FUNCTION_CALL
        texts = [part.text for part in result.parts if isinstance(part, ir.Text)]
        error = ["Error:"] if needs_error_mark(result, texts) else []
        output: Json = "\n".join([*error, *texts])
        if len(texts) < len(result.parts):
            output = [{"type": "input_text", "text": text} for text in error]
            for part in result.parts:
                output += self._input(part, at)
        return {
            "type": f"{kind.item}_output",
            "call_id": _call_id(result.call_id),
            "output": output,
        }

    def _contents(
        self, part: ir.Text | ir.Image | ir.File | ir.Audio | ir.Refusal, message: ir.Message
    ) -> list[Json]:
        if isinstance(part, ir.Refusal):
            return [refusal_content(part.text)]
        if isinstance(part, ir.Audio):
            text = f"{message.at}: this model's dialect takes no audio; send it as text"
            raise InvalidRequest(text, message.at)
        if message.role is not ir.Role.ASSISTANT:
            return self._input(part, message.at)
        if isinstance(part, ir.Text):
            content = text_content(part.text, part.citations)
            del content["logprobs"]
            return [content] if part.text else []
        self._drop(message.at)  # the API takes no images of the model's
        return []

    def _input(self, part: ir.Text | ir.Image | ir.File, at: str) -> list[Json]:
        if isinstance(part, ir.Text):
            return [{"type": "input_text", "text": part.text}]
        media = part.media
        if media.file_id is not None and self._request.dialect not in OPENAI:
            why = (
                _NO_IMAGE
                if isinstance(part, ir.Image)
                else "the provider does not support PDF input"
            )
            file = f"from the file {media.file_id!r}, which is another provider's"
            raise InvalidRequest(f"{at}: {why} {file}; send its content", at)
        if isinstance(part, ir.Image):
            return [_image(part, at)]
        return _file(part)

    def _drop(self, name: str) -> None:
        """Notes the kind of a part, not each place: a conversation may have hundreds of them."""
        if name not in self.dropped:
            self.dropped.append(name)


def _call(call: ir.ToolCall) -> dict[str, Json]:
    kind = kind_of(call)
    item: dict[str, Json] = {
        "type": kind.item,
        "call_id": _call_id(call.id),
        "name": call.name,
        kind.content: whole_arguments(call, call.arguments),
    }
    if call.namespace:
        item["namespace"] = call.namespace
    return item


def _call_id(name: str) -> str:
    """The id of a call; the API refuses those of more than 64 characters."""
    if len(name) <= _MAX_CALL_ID:
        return name
    return f"call_{digest_of(name, 32)}"


def _image(part: ir.Image, at: str) -> dict[str, Json]:
    media, detail = part.media, part.detail or "auto"
    image: dict[str, Json] = {"type": "input_image", "detail": detail}
    if media.file_id is not None:
        return {**image, "file_id": media.file_id}
    url = media.url
    if media.data is not None:
        url = data_url(media, PNG)
    if url is None:
        raise InvalidRequest(f"{at}: {_NO_IMAGE}: it has neither a URL nor data; send one", at)
    return {**image, "image_url": url}


def _file(part: ir.File) -> list[Json]:
    """A document; what the client says about it goes before it as a text."""
    media = part.media
    text = text_of_document(part)
    if text is not None:
        return [{"type": "input_text", "text": text}]
    file: dict[str, Json] = {"type": "input_file"}
    if media.file_id is not None:
        file["file_id"] = media.file_id
    elif media.url is not None:
        file["file_url"] = media.url
    else:
        file["filename"] = part.name or DOCUMENT_NAME
        file["file_data"] = data_url(media, PDF)
    return [{"type": "input_text", "text": part.context}, file] if part.context else [file]
