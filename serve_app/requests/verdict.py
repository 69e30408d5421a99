"""What an upstream's failure means for the request: this one table decides.

So far: connection faults, 5xx and rate limits go to the next candidate, everything else is the
client's answer.
"""

from enum import StrEnum

from serve_app.exchange import FaultKind, UpstreamFault

_RATE_LIMITED = 429
_SERVER_ERRORS = range(500, 600)
_SUCCESS = range(200, 300)


class Verdict(StrEnum):
    """What to do next."""

    GOOD = "good"
    AGAIN = "again"
    """The same candidate once more: nothing of the request can have been worked on."""
    NEXT = "next"
    FINAL = "final"
    """The client's own mistake, or an answer that no other candidate would better."""


def judge_status(status: int) -> Verdict:
    """The verdict on a complete answer with this status."""
    if status in _SUCCESS:
        return Verdict.GOOD
    if status == _RATE_LIMITED or status in _SERVER_ERRORS:
        return Verdict.NEXT
    return Verdict.FINAL


def judge_fault(fault: UpstreamFault) -> Verdict:
    """The verdict on an exchange without an answer.

    A connection that closed without a byte is most often a kept-alive one that the provider had
    given up while it lay idle, hence once more, then on a new one: others that lay idle as long
    are as dead.
    """
    return Verdict.AGAIN if fault.kind is FaultKind.RESET else Verdict.NEXT
