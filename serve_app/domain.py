"""The values that everything else speaks in; frozen, free of I/O, and picklable.

The words are those of docs/design/glossary.md: a *model* is ``provider/name``, a *candidate* is a
model in a decision, a *route* is a described list of models, a *dialect* is a wire format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, Protocol, TypeAlias

Json: TypeAlias = Any
Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Header pairs in order; names are lower case."""

AUTO = "auto"
AUTO_NAMES = frozenset({"", "none", AUTO})
"""What a client may write in ``model`` to leave the choice to the gateway."""

HINT_HEADER = "x-arch-llm-provider-hint"
"""Names a model, and wins over the body's; source: Plano 0.4."""


FALLBACK_HEADER: Final = "x-fingerpost-fallback"
"""``off`` in it means that the first candidate alone may answer, as ``fallbacks: []`` does."""


class Reason(StrEnum):
    """Why a decision came out as it did; the closed set behind ``x-fingerpost-reason``."""

    EXPLICIT = "explicit"
    ALIAS = "alias"
    ROUTE = "route"
    AFFINITY = "affinity"
    NO_MATCH = "no_match"
    DEFAULT = "default"
    RULE = "rule"
    STATE = "state"
    CACHED = "cached"
    ESCALATION = "escalation"
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


class Effort(StrEnum):
    """How much a model is to think before it answers."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


class Need(StrEnum):
    """What a request may contain and some models do not take."""

    IMAGES = "images"
    TOOLS = "tools"
    STRUCTURED_OUTPUT = "structured_output"


class Setback(StrEnum):
    """What shows in a conversation that its model does not get on."""

    TOOL_FAILS = "tool_fails"
    STILL_WRONG = "still_wrong"


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """One model of one provider; written ``provider/name``, where the name may hold slashes."""

    provider: str
    name: str

    def __post_init__(self) -> None:
        if not self.provider or not self.name or "/" in self.provider:
            message = f"a model is written provider/name, not {self.provider!r}/{self.name!r}"
            raise ValueError(message)

    def __hash__(self) -> int:
        return hash(self.name)  # takes half the time of hashing both, and rarely collides

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """``"openai/gpt-4o"`` as a value; ValueError when there is no provider or no name."""
        provider, _, name = text.partition("/")
        return cls(provider, name)


OWN_MODEL: Final = ModelRef("fingerpost", "route")
"""The gateway's own orchestrator, where it answers typed questions like a model."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The text of one message of a user or an assistant, as the orchestrator sees it."""

    role: Literal["user", "assistant"]
    text: str


class Conversation(Protocol):
    """What a request's body says of its conversation, read lazily by its dialect.

    Deciding and sessions read a conversation through this alone, so they know no dialect.
    """

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The text of user and assistant, in order. Raises InvalidRequest."""
        ...

    @property
    def system_text(self) -> str:
        """All system and developer text, joined by line breaks."""
        ...

    @property
    def tool_names(self) -> tuple[str, ...]:
        """The names of the tools that the client offers, in order."""
        ...

    @property
    def first_user_text(self) -> str | None:
        """The text of the first user message, empty if it has none; None without a message."""
        ...

    @property
    def user_spoke_last(self) -> bool:
        """True if the last message is the user's own, not a tool result."""
        ...

    @property
    def has_open_tool_loop(self) -> bool:
        """True while tool calls or their results are the last thing in the conversation."""
        ...

    @property
    def setback(self) -> Setback | None:
        """What has just gone wrong for the third time, or what the user says of it; None for nothing."""
        ...

    @property
    def has_provider_state(self) -> bool:
        """True if an earlier answer is referred to that only its provider has."""
        ...

    @property
    def cache_lifetime_s(self) -> float:
        """How long the client asks the provider to cache the prompt, in seconds; 0 if it does not."""
        ...

    @property
    def characters(self) -> int:
        """The length of the whole body, for estimates of its tokens."""
        ...

    @property
    def max_output_tokens(self) -> int:
        """The limit of output that the client sets, tokens; 0 if it sets none."""
        ...

    @property
    def needs(self) -> frozenset[Need]:
        """What it contains that some models do not take."""
        ...

    @property
    def attached_characters(self) -> int:
        """Those of ``characters`` that are data of images and files, not text."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """A described list of models; the first is the best unless ``prefer`` orders them anew."""

    name: str
    description: str
    models: tuple[ModelRef, ...]
    prefer: Prefer = Prefer.NONE
    examples: tuple[str, ...] = ()
    """What users say when they mean this route."""
    efforts: tuple[tuple[ModelRef, Effort], ...] = ()
    """The reasoning effort of each model that the route gives one."""
    escalates: bool = False
    """True if ``models`` begin with the first to ask, and setbacks move a conversation up the list."""


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """Which models may answer, best first, and why. There is always at least one."""

    candidates: tuple[ModelRef, ...]
    reason: Reason
    route: str | None = None
    confidence: float | None = None
    """0..1, or None when nothing was scored."""
    tier: str = ""
    """Which tier of the orchestrator decided, as ``Scores.tier``; empty if none did."""
    rule: str = ""
    """The name of the routing rule that decided; empty if none did."""
    efforts: tuple[tuple[ModelRef, Effort], ...] = ()
    """The reasoning effort that the route asks of some of the candidates."""

    def __post_init__(self) -> None:
        if not self.candidates:
            message = "a decision needs at least one candidate"
            raise ValueError(message)

    def effort_of(self, model: ModelRef) -> Effort | None:
        """The reasoning effort that the route asks of a candidate; None if it asks for none."""
        return next((effort for other, effort in self.efforts if other == model), None)


@dataclass(frozen=True, slots=True)
class Question:
    """What an orchestrator is asked: which of these routes is this conversation about?"""

    turns: tuple[Turn, ...]
    """The conversation as far as the engine looks at it."""
    routes: tuple[Route, ...]
    """At least one, in configuration order."""
    key: str
    """Identifies the routes: equal keys mean equal routes."""
    within_s: float | None = None
    """How long the caller still waits; None where the engine's own deadline applies."""
    no_route_examples: tuple[str, ...] = ()
    """What users say when they mean none of these routes."""
    is_inline: bool = False
    """True for routes in the body of a request, to which nothing learned applies."""
    wants_probabilities: bool = False
    """True if the name of the best route alone is not an answer, as for typed questions.

    While the engine is busy, such a question is asked again.
    """
    is_trial: bool = False
    """True if no request waits for the answer: it is asked only while the engine is idle, and its
    scores are not cached.
    """


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The tokens that questions to a model took, as its server counts them."""

    input_tokens: int
    """All tokens of the prompts, cached ones included."""
    output_tokens: int = 0
    cached_tokens: int = 0
    """Those of the input that the server had cached."""

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        """The tokens of both."""
        return TokenUsage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Scores:
    """The result of an orchestrator: the probability of each route, and of no route.

    The probabilities mean the same for every engine that has them, however many routes there are.
    """

    routes: Mapping[str, float]
    """By name, in configuration order; empty for an engine that only names the winner."""
    threshold: float
    """The probability that the best route has to reach to win."""
    winner: str | None
    required_margin: float = 0.0
    """The lead over the second route that the best route needs to win."""
    cached: bool = False
    """Taken from the cache of an equal question."""
    none: float | None = None
    """The probability that no route matches; None where the engine has none."""
    doubt: float | None = None
    """The probability of any answer outside the allowed ones; None if unknown."""
    named: tuple[str, ...] = ()
    """All routes that the model named, in its order, if it may name several."""
    unreadable: bool = False
    """No route wins, because the engine does not read the script of the conversation."""
    stand_in: str = ""
    """Why the configured engine did not answer, if the embedded one did in its place."""
    tier: str = ""
    """Who decided: the name of an engine, or ``when_unsure`` for the one of that section."""
    fell_back: str = ""
    """Why the engine of ``when_unsure`` did not decide, if it was to."""
    usage: TokenUsage | None = None
    """The tokens that this answer took; None if unknown, or if it was cached."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """An orchestrator that cannot answer now, and why; a value, because it is expected."""

    reason: Reason
    detail: str
    usage: TokenUsage | None = None
    """The tokens of an answer that could not be used; None if unknown."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A model that a session used: when it was last used, and how many tokens it had cached."""

    model: str
    last_used: float
    """Seconds since the epoch."""
    cached_tokens: int = 0


MAX_VISITS = 8


@dataclass(frozen=True, slots=True)
class Spend:
    """The cost of a session's switches between models so far, in US dollars."""

    baseline_usd: float = 0.0
    switch_spend_usd: float = 0.0
    session_cost_usd: float = 0.0
    switches: int = 0
    history: tuple[Visit, ...] = ()
    """At most MAX_VISITS, the newest last."""


@dataclass(frozen=True, slots=True)
class SpentCap:
    """A client's spending cap that is used up."""

    period: Literal["daily", "weekly", "monthly"]
    resets_at: float
    """When the next period begins, in seconds since the epoch."""
    left_s: float
    """Seconds until then."""
    message: str
    """One sentence for the user: which cap, when it resets, and what to do."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The memory that a session stays on a model."""

    model: ModelRef
    route: str | None = None
    """The route that a turn matched; None as long as none did, so that the binding is provisional."""
    lane: str = ""
    """The requested name: an alias, or empty."""
    last_used: float = 0.0
    """Seconds since the epoch."""
    default_model: str | None = None
    prefix_hash: str | None = None
    cached_tokens: int = 0
    """Cached tokens of the last answer, as the provider counted them."""
    spend: Spend = Spend()
    ttl_s: float = 0.0
    """The least time that a store keeps it after its last use, in seconds; 0: the store's own."""

    @property
    def is_provisional(self) -> bool:
        """True if no turn of the session has matched a route yet; the first that does replaces it."""
        return self.route is None
