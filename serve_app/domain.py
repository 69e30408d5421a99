"""The values that everything else speaks in; frozen, free of I/O, and picklable.

The words are those of docs/architecture.md: a *model* is ``provider/name``, a *candidate* is a
model in a decision, a *route* is a described list of models, a *dialect* is a wire format.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, Self, TypeAlias

Json: TypeAlias = Any
Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Header pairs in order; names are lower case."""

AUTO = "auto"
AUTO_NAMES = frozenset({"", "none", AUTO})
"""What a client may write in ``model`` to leave the choice to the gateway."""


class Dialect(StrEnum):
    """A wire format that clients and providers speak."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_RESPONSES = "openai_responses"
    ANTHROPIC_MESSAGES = "anthropic_messages"


class Reason(StrEnum):
    """Why a decision came out as it did; the closed set behind ``x-fingerpost-reason``."""

    EXPLICIT = "explicit"
    ALIAS = "alias"
    ROUTE = "route"
    AFFINITY = "affinity"
    NO_MATCH = "no_match"
    DEFAULT = "default"
    CACHED = "cached"
    ALWAYS_ROUTE = "always_route"
    FAILOVER = "failover"
    ORCHESTRATOR_TIMEOUT = "orchestrator_timeout"
    ORCHESTRATOR_ERROR = "orchestrator_error"
    ORCHESTRATOR_BUSY = "orchestrator_busy"
    BREAKER_OPEN = "breaker_open"


class DataPath(StrEnum):
    """Where a provider's requests run: own deployment, shared deployment, or in the ingress."""

    DEDICATED = "dedicated"
    SHARED = "shared"
    INLINE = "inline"


class Prefer(StrEnum):
    """How the models of a route are ordered."""

    NONE = "none"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """One model of one provider; written ``provider/name``, where the name may hold slashes."""

    provider: str
    name: str

    def __post_init__(self) -> None:
        if not self.provider or not self.name or "/" in self.provider:
            message = f"a model is written provider/name, not {self.provider!r}/{self.name!r}"
            raise ValueError(message)

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """``"openai/gpt-4o"`` as a value; ValueError when there is no provider or no name."""
        provider, _, name = text.partition("/")
        return cls(provider, name)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said, as the orchestrator sees it: text of a user or an assistant only."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Route:
    """A described list of models; the first is the best unless ``prefer`` orders them anew."""

    name: str
    description: str
    models: tuple[ModelRef, ...]
    prefer: Prefer = Prefer.NONE
    examples: tuple[str, ...] = ()
    """What users say when they mean this route."""


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """Which models may answer, best first, and why. There is always at least one."""

    candidates: tuple[ModelRef, ...]
    reason: Reason
    route: str | None = None
    confidence: float | None = None
    """0..1, or None when nothing was scored."""

    def __post_init__(self) -> None:
        if not self.candidates:
            message = "a decision needs at least one candidate"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Question:
    """What an orchestrator is asked: which of these routes is this conversation about?"""

    turns: tuple[Turn, ...]
    """The conversation as far as the engine looks at it."""
    routes: tuple[Route, ...]
    """At least one, in configuration order."""
    key: str
    """Stands for the routes: equal keys mean equal routes."""
    within_s: float | None = None
    """How long whoever asks still waits; None where an engine's own deadline says it."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What an orchestrator thinks of a conversation: a score per route name and for none.

    Scores of one engine compare with one another; those of different engines do not.
    """

    routes: Mapping[str, float]
    """In configuration order; an engine that only names the winner has no others."""
    no_match: float
    """What the best route has to reach to win."""
    winner: str | None
    margin: float = 0.0
    """What the best route has to be ahead of the second to win."""
    cached: bool = False
    """Remembered from an equal question."""
    doubt: float | None = None
    """How likely the model, left to itself, would have said something else; None: not known."""
    named: tuple[str, ...] = ()
    """All routes that the model named, in its order, where it could have named several."""
    stand_in: str = ""
    """Why the engine that was to answer did not, where the embedded one did in its place."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """An orchestrator that cannot answer now, and why; a value, because it is expected."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Visit:
    """A model that a session was on, when it was used last, and what it then had cached."""

    model: str
    last_used: float
    """Seconds since the epoch."""
    cached_tokens: int = 0


MAX_VISITS = 8


@dataclass(frozen=True, slots=True)
class Spend:
    """What switching models has cost a session so far, in US dollars, against staying."""

    baseline_usd: float = 0.0
    switch_spend_usd: float = 0.0
    session_cost_usd: float = 0.0
    switches: int = 0
    history: tuple[Visit, ...] = ()
    """At most MAX_VISITS, the newest last."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The memory that a session stays on a model."""

    model: ModelRef
    route: str | None = None
    lane: str = ""
    """The name that was asked for: empty for none, or an alias."""
    last_used: float = 0.0
    """Seconds since the epoch."""
    default_model: str | None = None
    prefix_hash: str | None = None
    cached_tokens: int = 0
    """Of the last answer, as the provider counted them."""
    spend: Spend = Spend()


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One exchange to open with a provider. ``body`` already names the provider's model."""

    provider: str
    """The slug that says which provider client carries it."""
    model: ModelRef
    path: str
    """Below the provider's base URL, for example ``/chat/completions``."""
    headers: Headers
    body: bytes
    stream: bool
    deadline_s: float
    """Seconds that are left for the whole exchange."""
    policy: str = ""
    """The version of the configuration that the request is answered by."""
    endpoint: int = 0
    """Which of the model's endpoints it is for, in the configuration's order."""
    credential: str | None = field(default=None, repr=False)
    """The client's own key, where the provider wants that one."""
    fresh: bool = False
    """On a connection of its own: one that was kept open has just turned out to be dead."""
    inline: bool = False
    """No hop: the exchange runs where the request is. Does not cross the hop itself."""


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
    UNKNOWN_MODEL = "unknown_model"
    TOO_LARGE = "too_large"
    """The request does not fit through the hop as Serve was started."""
    HOP = "hop"
    """The deployment between us and the provider failed."""


@dataclass(frozen=True, slots=True)
class UpstreamFault:
    """An exchange without an answer. ``detail`` is safe to show to a client."""

    kind: FaultKind
    detail: str


class StreamBrokenError(Exception):
    """Raised by the body of an answer that stopped before its end; carries the fault."""

    def __init__(self, fault: UpstreamFault) -> None:
        super().__init__(fault)
        self.fault = fault


class Chunks(Protocol):
    """The bytes of an answer as they come.

    Raises StreamBrokenError when they stop early. Whoever holds it closes it, also when nothing
    was read yet, which is why this is no plain generator: closing one that was never started
    runs none of its code.
    """

    def __aiter__(self) -> Self:
        """Itself."""
        ...

    async def __anext__(self) -> bytes:
        """What has arrived, never empty; StopAsyncIteration at the end."""
        ...

    async def aclose(self) -> None:
        """Gives the exchange up and closes its connection; more than once does no harm."""
        ...


@dataclass(frozen=True, slots=True)
class UpstreamReply:
    """The head of an answer and its body: bytes when complete, else chunks as they come."""

    status: int
    headers: Headers
    body: bytes | Chunks
