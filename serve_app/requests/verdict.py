"""What an upstream's failure means for the request: this one table decides.

So far: connection faults, 5xx and rate limits go to the next candidate, everything else is the
client's answer, and nothing rests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from serve_app.domain import Headers
from serve_app.exchange import FaultKind, UpstreamFault

_RATE_LIMITED = 429
_SERVER_ERRORS = range(500, 600)
_SUCCESS = range(200, 300)


class Action(StrEnum):
    """What to do next."""

    GOOD = "good"
    AGAIN = "again"
    """Ask the same candidate once more: the provider cannot have worked on the request."""
    NEXT = "next"
    FINAL = "final"
    """The client's own mistake, or an answer that no other candidate would improve."""


class Rests(StrEnum):
    """What is left alone for a while after a failure."""

    NOTHING = "nothing"
    MODEL = "model"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do next, what rests, and for how long the provider asks to be left alone."""

    action: Action
    rests: Rests = Rests.NOTHING
    retry_after_s: float | None = None


GOOD: Final = Verdict(Action.GOOD)
FINAL: Final = Verdict(Action.FINAL)
NEXT: Final = Verdict(Action.NEXT)
_ACTION_OF_FAULT: Final[Mapping[FaultKind, Action]] = {FaultKind.RESET: Action.AGAIN}


def judge_status(status: int, headers: Headers = ()) -> Verdict:
    """The verdict on a complete answer with this status."""
    if status in _SUCCESS:
        return GOOD
    if status == _RATE_LIMITED or status in _SERVER_ERRORS:
        return Verdict(Action.NEXT, retry_after_s=_retry_after_s(headers))
    return FINAL


def judge_fault(fault: UpstreamFault) -> Verdict:
    """The verdict on an exchange without an answer.

    A connection that closed without a byte is most often a kept one that the provider gave up
    while it was idle. It is tried once more, on a new connection, because other idle ones are as
    likely to be dead.
    """
    return Verdict(_ACTION_OF_FAULT.get(fault.kind, Action.NEXT))


def _retry_after_s(headers: Headers) -> float | None:
    """Seconds of ``retry-after`` (RFC 9110, section 10.2.3); None if absent, or if it is a date."""
    value = next((value for name, value in headers if name == "retry-after"), "")
    return float(value) if value.isdecimal() else None
