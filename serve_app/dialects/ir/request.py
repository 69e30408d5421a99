"""Requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from serve_app.dialects.ir.parts import Message
from serve_app.domain import Json


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of the client."""

    name: str
    description: str | None = None
    schema: Json = None
    """JSON Schema of its arguments; None for a tool without any."""
    strict: bool | None = None
    is_custom: bool = False
    custom_format: Json = None
    """The grammar of a custom tool's input, as OpenAI has it."""
    namespace: str | None = None
    cache: Json = None
    at: str = ""
    """Where the client's body has its fields, ``tools[2]`` or ``tools[2].custom``; empty: where
    it is in ``Request.tools``."""


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool that the provider runs itself; only its own dialect has it."""

    kind: str
    at: str
    """Where it is in the client's body: ``tools[2]``."""


class ToolMode(StrEnum):
    """Whether the model calls tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    """At least one."""
    NAMED = "named"
    """The one that is named."""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools the model calls."""

    mode: ToolMode
    name: str | None = None
    """For NAMED."""
    allowed: tuple[str, ...] = ()
    """Only these may be called; empty for no such limit."""


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """The answer is to be JSON, by a schema if there is one."""

    schema: Json = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How the model is to think. All fields None: as it likes."""

    enabled: bool | None = None
    effort: str | None = None
    """``none``, ``minimal``, ``low``, ``medium``, ``high``, ``xhigh`` or ``max``."""
    budget_tokens: int | None = None
    summary: str | None = None
    """What the client wants to see of it: ``auto``, ``concise``, ``detailed`` or ``none``."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Numbers that steer the choice of tokens; None where the client says nothing."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Json = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request for an answer."""

    dialect: str
    """The name of the dialect that it was read from."""
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    server_tools: tuple[ServerTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    sampling: Sampling = Sampling()
    reasoning: Reasoning | None = None
    json_format: JsonFormat | None = None
    verbosity: str | None = None
    user: str | None = None
    """The client's name of its end user."""
    metadata: Mapping[str, str] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    store: bool | None = None
    stream: bool = False
    include_usage: bool = True
    """A stream ends with the usage; only a chat client may leave it out."""
    echo: Mapping[str, Json] = field(default_factory=dict)
    """Top-level fields as the client sent them, which answers of its dialect repeat."""
    unsaid: tuple[str, ...] = ()
    """Paths of what this form cannot hold and an answer can do without."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The client's path of a field here where it has another name; see ``path_of``."""

    def path_of(self, field_name: str) -> str:
        """The client's path of a field of this class, for errors and ``x-fingerpost-dropped``."""
        return self.names.get(field_name, field_name)
