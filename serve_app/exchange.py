"""One exchange with a provider, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, Self

from serve_app.domain import (
    Headers,
    ModelRef,
)


class Operation(StrEnum):
    """What an upstream is asked to do: the key of addresses, quirks and authentication."""

    CHAT = "chat"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    COMPLETIONS = "completions"
    DECISIONS = "decisions"


PATHS: Final[Mapping[Operation, str]] = MappingProxyType(
    {
        Operation.CHAT: "/chat/completions",
        Operation.MESSAGES: "/messages",
        Operation.COUNT_TOKENS: "/messages/count_tokens",
        Operation.RESPONSES: "/responses",
        Operation.EMBEDDINGS: "/embeddings",
        Operation.COMPLETIONS: "/completions",
        Operation.DECISIONS: "/decisions",
    }
)
"""Where the APIs of OpenAI and Anthropic have each operation, below the base URL."""


class UpstreamRequest(NamedTuple):
    """One exchange to open with a provider. ``body`` already names the provider's model.

    A named tuple, because making one is part of every request.
    """

    provider: str
    """The slug that says which provider client carries it."""
    model: ModelRef
    operation: Operation
    path: str
    """The address below the provider's base URL, for example ``/chat/completions``."""
    headers: Headers
    body: bytes
    stream: bool
    deadline_s: float
    """Seconds that are left for the whole exchange."""
    attempt_s: float | None = None
    """Seconds for a complete answer, or until the first content of a stream, so that another
    endpoint can still be asked; None: as many as are left."""
    policy: str = ""
    """The version of the configuration that the request is answered by."""
    endpoint: int = 0
    """Which of the model's endpoints it is for, in the configuration's order."""
    credential: str | None = None
    """The client's own key, where the provider wants that one."""
    fresh: bool = False
    """On a connection of its own: one that was kept open has just turned out to be dead."""
    inline: bool = False
    """No hop: the exchange runs where the request is. Does not cross the hop itself."""
    method: str = "POST"

    def __repr__(self) -> str:
        return f"<UpstreamRequest {self.operation} of {self.model} at {self.provider}>"


class FaultKind(StrEnum):
    """What went wrong with an upstream that gave no usable answer."""

    CONNECT = "connect"
    RESET = "reset"
    """The connection closed before the head of an answer arrived."""
    TIMEOUT = "timeout"
    BROKEN = "broken"
    """It ended in the middle of an answer."""
    BAD_ANSWER = "bad_answer"
    """It answered, but not in the dialect asked for."""
    NO_KEY = "no_key"
    STALE_POLICY = "stale_policy"
    """The provider client has read another configuration file than the ingress."""
    UNSUPPORTED = "unsupported"
    """The endpoint does not have the operation asked for."""
    TOO_LARGE = "too_large"
    """The request does not fit through the hop as Serve was started."""
    HOP = "hop"
    """The deployment between us and the provider failed."""


@dataclass(frozen=True, slots=True)
class UpstreamFault:
    """An exchange without an answer. ``detail`` is safe to show to a client."""

    kind: FaultKind
    detail: str


class RestReport(NamedTuple):
    """An endpoint that rests after failures, as other processes and health reports read it."""

    endpoint: str
    """Its fingerprint."""
    model: str
    """Empty if it rests for every model."""
    left_s: float
    """For how many seconds still."""
    why: str


class StreamBrokenError(Exception):
    """Raised by the body of an answer that stopped before its end; carries the fault."""

    def __init__(self, fault: UpstreamFault) -> None:
        super().__init__(fault)
        self.fault = fault


class Chunks(Protocol):
    """The bytes of an answer as they come.

    Raises StreamBrokenError when they stop early. The holder closes it, also before the first
    read. A generator does not do: closing one that was never started runs none of its code.
    """

    def __aiter__(self) -> Self:
        """Itself."""
        ...

    async def __anext__(self) -> bytes:
        """What has arrived, never empty; StopAsyncIteration at the end."""
        ...

    async def aclose(self) -> None:
        """Ends the exchange and closes its connection; may be called more than once."""
        ...


@dataclass(frozen=True, slots=True)
class UpstreamReply:
    """The head of an answer and its body: bytes when complete, else chunks as they come."""

    status: int
    headers: Headers
    body: bytes | Chunks
