"""What a failed exchange means: for the request, and for the client."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from serve_app.dialects.protocol import ErrorInfo, UpstreamDialect
from serve_app.domain import Headers, ModelRef
from serve_app.errors import (
    GatewayError,
    HopTooSmall,
    KeyMissing,
    NotSupported,
    UpstreamFailed,
    UpstreamTimeout,
)
from serve_app.exchange import FaultKind, UpstreamFault, UpstreamReply
from serve_app.requests.verdict import GOOD, NEXT, Verdict, judge_fault, judge_status

_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_UNKNOWN_STATUS: Final = 502
_SHOWN_BYTES: Final = 512
_ERROR_OF_FAULT: Final[Mapping[FaultKind, type[UpstreamFailed]]] = {
    FaultKind.NO_KEY: KeyMissing,
    FaultKind.TIMEOUT: UpstreamTimeout,
    FaultKind.TOO_LARGE: HopTooSmall,
    FaultKind.UNSUPPORTED: NotSupported,
}
_NOT_A_STREAM: Final = "a stream was requested, and a complete answer came"


@dataclass(frozen=True, slots=True)
class Failure:
    """An exchange that gave no answer: a fault, or an answer that is an error."""

    verdict: Verdict
    fault: UpstreamFault | None = None
    status: int = 0
    headers: Headers = ()
    body: bytes = b""
    client_body: bytes | None = None
    """The provider's error in the client's dialect; None if there is none that it can read."""
    reported: ErrorInfo | None = None
    """The provider's error, if its dialect can read it."""
    error: GatewayError | None = None
    """Why the candidate was not asked."""

    @property
    def outcome(self) -> str:
        """For the record: the kind of fault, the status, or the error's code."""
        if self.error is not None:
            return self.error.code
        return self.fault.kind if self.fault is not None else str(self.status)


class CompleteAnswer(NamedTuple):
    """A complete answer that is good."""

    status: int
    headers: Headers
    body: bytes


def failure_of_fault(fault: UpstreamFault) -> Failure:
    """A fault with its verdict."""
    return Failure(judge_fault(fault), fault)


def failure_of_error(error: ErrorInfo, headers: Headers) -> Failure:
    """An error that came under a status of success: it counts as the status that it means."""
    status = error.status or _UNKNOWN_STATUS
    verdict = judge_status(status, headers, error)
    return Failure(verdict, None, status, headers, error.body, reported=error)


def judge_answer(
    reply: UpstreamReply,
    body: bytes,
    *,
    dialect: UpstreamDialect,
    stream: bool,
) -> CompleteAnswer | Failure:
    """The answer, or why it is not usable; a request for a stream needs a stream."""
    if judge_status(reply.status) is not GOOD:
        reported = dialect.read_error(body)
        verdict = judge_status(reply.status, reply.headers, reported)
        return Failure(verdict, None, reply.status, reply.headers, body, reported=reported)
    may_be_torn = _FRAMING.isdisjoint([name for name, _ in reply.headers])
    error = dialect.check_answer(body, may_be_torn=may_be_torn)
    if error is None and not stream:
        return CompleteAnswer(reply.status, reply.headers, body)
    if error is not None and error.status is not None:
        return failure_of_error(error, reply.headers)
    return unusable(_NOT_A_STREAM if error is None else error.message)


def unusable(why: str) -> Failure:
    """The failure for an answer that is not one of the provider's dialect."""
    detail = f"its answer is not usable: {why}"
    return Failure(NEXT, UpstreamFault(FaultKind.BAD_ANSWER, detail))


def error_of_fault(fault: UpstreamFault, text: str | None = None) -> GatewayError:
    """The error that a client gets for a fault; its text is the fault's own by default."""
    return _ERROR_OF_FAULT.get(fault.kind, UpstreamFailed)(text or fault.detail)


def error_of_status(candidate: ModelRef, failure: Failure) -> GatewayError:
    """The error for an answer that is not an error of its dialect; web pages are left out."""
    text = failure.body[:_SHOWN_BYTES].decode("utf-8", "replace").strip()
    text = "" if text.startswith("<") else text
    return UpstreamFailed(f"{candidate} answered {failure.status}{text and ': '}{text}")
