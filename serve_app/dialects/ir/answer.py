"""Complete answers, and the events of streamed ones.

The events of a stream come in this order: ``Started``, then for each part ``PartStarted``, any
number of ``Delta``, ``Signed`` and ``Cited``, and ``PartEnded``; then ``Finished`` and ``Ended``.
Parts never overlap. ``Counted`` may come anywhere, the last one counts. ``Failed`` may come at any
time, and nothing follows it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from serve_app.dialects.ir.parts import AnswerPart, Citation
from serve_app.domain import Json


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    """The model was done."""
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    """It reached the limit of output tokens."""
    CONTEXT_FULL = "context_full"
    """It reached the end of the model's context."""
    TOOL_CALLS = "tool_calls"
    FILTERED = "filtered"
    """The provider's filter cut it off."""
    REFUSED = "refused"
    """The model declined."""
    PAUSED = "paused"
    """The provider wants the answer sent back to it to go on."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one exchange in four classes that do not overlap."""

    uncached_input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    """Reasoning included."""
    reasoning: int | None = None
    """Those of the output that are reasoning; None if unknown."""
    cache_write_1h: int = 0
    """Those of ``cache_write`` that are kept for an hour."""

    @property
    def all_input(self) -> int:
        """All tokens of the prompt."""
        return self.uncached_input + self.cache_read + self.cache_write


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    id: str
    model: str
    parts: tuple[AnswerPart, ...]
    finish: Finish
    stop_sequence: str | None = None
    usage: Usage | None = None
    """None if the provider did not count."""
    created: int | None = None
    """Seconds since the epoch; None if the provider does not say."""
    service_tier: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A stream begins."""

    id: str
    model: str
    created: int | None = None
    usage: Usage | None = None
    """What is known of it already, usually the input."""


@dataclass(frozen=True, slots=True)
class PartStarted:
    """A part begins; ``part`` has what is known of it, its text or arguments are empty."""

    part: AnswerPart


@dataclass(frozen=True, slots=True)
class Delta:
    """More text of the open part: of its text, its thoughts or its arguments."""

    text: str
    logprobs: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Signed:
    """The signature of the open Thinking."""

    signature: str


@dataclass(frozen=True, slots=True)
class Cited:
    """A source of the open Text."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The open part is complete."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The usage so far: cumulative, so the last one counts."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Finished:
    """Why the answer ended; no part follows."""

    reason: Finish
    stop_sequence: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream is complete, its usage included."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider reports an error in its stream."""

    message: str
    status: int | None = None
    """The HTTP status that it means, if it says."""
    code: str | None = None


Event: TypeAlias = (
    Started | PartStarted | Delta | Signed | Cited | PartEnded | Counted | Finished | Ended | Failed
)
