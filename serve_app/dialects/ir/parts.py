"""Messages, and the parts that they and answers consist of."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from serve_app.domain import Json


class Role(StrEnum):
    """Who speaks. Results of tools are parts of a user's message."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Media:
    """Where an image or a file is: exactly one of ``url``, ``data``, ``text`` and ``file_id``."""

    url: str | None = None
    data: str | None = None
    """Base64."""
    text: str | None = None
    """A document as plain text."""
    file_id: str | None = None
    """Uploaded to the provider before."""
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Citation:
    """A web source of a text. ``start`` and ``end`` count characters of the text, if known."""

    url: str
    title: str = ""
    start: int | None = None
    end: int | None = None
    cited: str = ""
    """What the source says."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text of anyone."""

    text: str
    citations: tuple[Citation, ...] = ()
    logprobs: tuple[Json, ...] = ()
    """Of each token: ``token``, ``logprob``, ``bytes``, ``top_logprobs``, as OpenAI has them."""
    cache: Json = None
    """The object ``cache_control`` of Anthropic; so for every part that has it."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image for the model."""

    media: Media
    detail: str | None = None
    """``low``, ``high`` or ``auto``, as OpenAI has it."""
    cache: Json = None


@dataclass(frozen=True, slots=True)
class File:
    """A document for the model, usually a PDF."""

    media: Media
    name: str | None = None
    """The file's name, or the document's title."""
    context: str | None = None
    """What else the client says about it."""
    cache: Json = None


@dataclass(frozen=True, slots=True)
class Audio:
    """Sound for the model, as base64."""

    data: str
    format: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool of the client."""

    id: str
    name: str
    """As the client calls the tool; see ``client_tools.py`` for dialects with narrower names."""
    arguments: str = ""
    """JSON text of an object; of a custom tool, its input as it is."""
    is_custom: bool = False
    """A tool that takes any text, as the responses dialect has them."""
    namespace: str | None = None
    """The namespace of the tool, as the responses dialect has them."""
    cache: Json = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned."""

    call_id: str
    parts: tuple["Text | Image | File", ...] = ()
    is_error: bool = False
    is_custom: bool = False
    cache: Json = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """What the model thought, or a summary of it.

    ``signature`` is what proves it to its provider. It goes through other dialects in an envelope
    that names its origin (``signatures.py``), so that no other provider gets it.
    """

    text: str
    signature: str | None = None
    origin: str = ""
    """The name of the dialect that the signature belongs to."""
    is_redacted: bool = False
    """The text is hidden in the signature."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the model declines."""

    text: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """A part that only its own dialect has, such as a provider-side search and its result.

    It is left out of every other dialect, and named in ``x-fingerpost-dropped``. It never becomes a
    call of a client's tool.
    """

    kind: str
    """Its type in its own dialect."""


Part: TypeAlias = Text | Image | File | Audio | ToolCall | ToolResult | Thinking | Refusal | Foreign
AnswerPart: TypeAlias = Text | ToolCall | Thinking | Refusal | Foreign


@dataclass(frozen=True, slots=True)
class Message:
    """One message. System messages stand where the client put them."""

    role: Role
    parts: tuple[Part, ...]
    at: str = "messages"
    """Where it is in the client's body, for errors: ``messages[3]``, ``input[4]``, ``system``."""
