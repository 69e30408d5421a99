"""Reads the content blocks of a client's messages into parts.

Source: Anthropic API reference, "Messages", content blocks.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from serve_app.dialects import ir
from serve_app.dialects.cache_marks import cache_of
from serve_app.dialects.json_values import json_text, object_of, objects_of, text_of
from serve_app.dialects.signatures import unwrap
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

DIALECT: Final = "messages"
"""The name of this dialect, which is the origin of its signatures."""

_Block: TypeAlias = dict[str, Json]


class BlockReader:
    """Reads blocks, and notes in ``unsaid`` the paths of what has no place in ``ir``.

    Its methods raise InvalidRequest that names the block.
    """

    def __init__(self) -> None:
        self.unsaid: list[str] = []
        self._readers: Mapping[str, Callable[[_Block, str], list[ir.Part]]] = {
            "text": self._text,
            "image": self._image,
            "document": self._document,
            "tool_use": self._call,
            "tool_result": self._result,
            "thinking": self._thinking,
            "redacted_thinking": self._redacted,
            "search_result": self._search_result,
            "tool_reference": self._tool_reference,
            "compaction": self._compaction,
        }

    def read(self, content: Json, at: str, *, is_user: bool = False) -> tuple[ir.Part, ...]:
        """The parts of a content, which is a string or a list of blocks.

        Raises InvalidRequest for what a user (``is_user``) shows and only Anthropic's models see.
        """
        if isinstance(content, str):
            return (ir.Text(content),) if content else ()
        if not isinstance(content, list):
            raise InvalidRequest(f"{at} must be a string or a list of content blocks", at)
        parts: list[ir.Part] = []
        for position, block in enumerate(content):
            place = f"{at}[{position}]"
            if not isinstance(block, dict):
                raise InvalidRequest(f"{place} must be an object with a type", place)
            kind = block.get("type")
            if not isinstance(kind, str):
                raise InvalidRequest(f"{place}.type is required", f"{place}.type")
            read = self._readers.get(kind)
            if read is None and is_user:
                message = (
                    f"{place}: the provider of this model does not take a block of type {kind!r}"
                )
                raise InvalidRequest(
                    f"{message}; leave it out, or choose a model of Anthropic", place
                )
            parts += [ir.Foreign(kind)] if read is None else read(block, place)
        return tuple(parts)

    def _text(self, block: _Block, at: str) -> list[ir.Part]:
        text = _required(block, "text", at)
        return [ir.Text(text, read_citations(block.get("citations")), cache=cache_of(block))]

    def _image(self, block: _Block, at: str) -> list[ir.Part]:
        source = object_of(block.get("source"))
        return [ir.Image(_media(source, f"{at}.source"), cache=cache_of(block))]

    def _document(self, block: _Block, at: str) -> list[ir.Part]:
        source = object_of(block.get("source"))
        images: list[ir.Part] = []
        if source.get("type") == "content":
            media, images = self._content_source(source, f"{at}.source.content")
        else:
            media = _media(source, f"{at}.source")
        if object_of(block.get("citations")).get("enabled"):
            self.unsaid.append(f"{at}.citations")
        name, context = block.get("title"), block.get("context")
        file = ir.File(
            media,
            name if isinstance(name, str) else None,
            context if isinstance(context, str) else None,
            cache_of(block),
        )
        return [file, *images]

    def _content_source(self, source: _Block, at: str) -> tuple[ir.Media, list[ir.Part]]:
        """The text of a document that is given as blocks, and its images, which go behind it."""
        parts = self.read(source.get("content"), at)
        text = "\n\n".join(part.text for part in parts if isinstance(part, ir.Text))
        images: list[ir.Part] = [part for part in parts if isinstance(part, ir.Image)]
        return ir.Media(text=text, media_type="text/plain"), images

    def _call(self, block: _Block, at: str) -> list[ir.Part]:
        arguments = block.get("input")
        if arguments is not None and not isinstance(arguments, dict):
            raise InvalidRequest(f"{at}.input must be an object", f"{at}.input")
        call = ir.ToolCall(
            _required(block, "id", at),
            _required(block, "name", at),
            json_text(arguments or {}),
            cache=cache_of(block),
        )
        return [call]

    def _result(self, block: _Block, at: str) -> list[ir.Part]:
        call_id = _required(block, "tool_use_id", at)
        content = block.get("content")
        inner = () if content is None else self.read(content, f"{at}.content")
        parts = tuple(part for part in inner if isinstance(part, ir.Text | ir.Image | ir.File))
        if len(parts) < len(inner):
            self.unsaid.append(f"{at}.content")
        is_error = block.get("is_error") is True
        return [ir.ToolResult(call_id, parts, is_error, cache=cache_of(block))]

    def _thinking(self, block: _Block, at: str) -> list[ir.Part]:
        origin, signature = read_signature(text_of(block.get("signature")))
        return [ir.Thinking(_required(block, "thinking", at), signature, origin)]

    def _redacted(self, block: _Block, at: str) -> list[ir.Part]:
        origin, signature = read_signature(_required(block, "data", at))
        return [ir.Thinking("", signature, origin, is_redacted=True)]

    def _search_result(self, block: _Block, at: str) -> list[ir.Part]:
        head = [text_of(block.get("title")), text_of(block.get("source"))]
        texts = [text_of(entry.get("text")) for entry in objects_of(block.get("content"))]
        if object_of(block.get("citations")).get("enabled"):
            self.unsaid.append(f"{at}.citations")
        whole = "\n".join([*filter(None, head), *filter(None, texts)])
        return [ir.Text(whole, cache=cache_of(block))]

    def _tool_reference(self, block: _Block, at: str) -> list[ir.Part]:
        """What a client's search for tools found; every tool is offered to the model anyway."""
        return [ir.Text(f"Tool found: {_required(block, 'tool_name', at)}", cache=cache_of(block))]

    def _compaction(self, block: _Block, at: str) -> list[ir.Part]:
        """A summary that may stand for messages which the client no longer sends."""
        del at
        summary = text_of(block.get("content"))
        return [ir.Text(summary, cache=cache_of(block))] if summary else [ir.Foreign("compaction")]


def read_signature(text: str) -> tuple[str, str | None]:
    """Whose a signature is, and the signature without its envelope; None for an empty one."""
    return unwrap(text) or (DIALECT, text or None)


def read_citations(citations: Json) -> tuple[ir.Citation, ...]:
    """The web sources of a text; places in the client's own documents are left out."""
    read = (read_citation(citation) for citation in objects_of(citations))
    return tuple(citation for citation in read if citation is not None)


def read_citation(citation: Json) -> ir.Citation | None:
    """A web source; None for a source of another kind."""
    fields = object_of(citation)
    url = text_of(fields.get("url"))
    if not url:
        return None
    return ir.Citation(url, text_of(fields.get("title")), cited=text_of(fields.get("cited_text")))


def _media(source: _Block, at: str) -> ir.Media:
    """Where an image or a document is."""
    media_type = text_of(source.get("media_type")) or None
    match source.get("type"):
        case "base64":
            return ir.Media(data=_required(source, "data", at), media_type=media_type)
        case "text":
            return ir.Media(text=_required(source, "data", at), media_type=media_type)
        case "url":
            return ir.Media(url=_required(source, "url", at), media_type=media_type)
        case "file":
            return ir.Media(file_id=_required(source, "file_id", at), media_type=media_type)
        case _:
            message = f"{at}.type must be base64, url, text, content or file"
            raise InvalidRequest(message, f"{at}.type")


def _required(block: _Block, key: str, at: str) -> str:
    value = block.get(key)
    if not isinstance(value, str):
        raise InvalidRequest(f"{at}.{key} is required and must be a string", f"{at}.{key}")
    return value
