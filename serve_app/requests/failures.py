"""What a failed exchange means for the client."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from serve_app.dialects.openai_chat import dialect
from serve_app.domain import Headers
from serve_app.errors import (
    GatewayError,
    HopTooSmall,
    KeyMissing,
    UpstreamFailed,
    UpstreamTimeout,
)
from serve_app.exchange import FaultKind, UpstreamFault, UpstreamReply
from serve_app.requests.answer import (
    _JSON,
    Answer,
    _returned,
)
from serve_app.requests.commit import Failure, Held
from serve_app.requests.progress import RequestProgress
from serve_app.requests.verdict import Verdict, judge_status

_FRAMING = frozenset({"content-length", "transfer-encoding"})
_ERROR_OF_FAULT: Final[Mapping[FaultKind, type[UpstreamFailed]]] = {
    FaultKind.NO_KEY: KeyMissing,
    FaultKind.TIMEOUT: UpstreamTimeout,
    FaultKind.TOO_LARGE: HopTooSmall,
}


Attempt: TypeAlias = Held | UpstreamReply | Failure


def _judge(run: RequestProgress, reply: UpstreamReply, body: bytes) -> Attempt:
    """The verdict on a complete answer; one that was asked for as a stream is none.

    An error under a status of success counts as the status that it stands for.
    """
    verdict, status = judge_status(reply.status), reply.status
    error = None
    if verdict is Verdict.GOOD:
        sure = not _FRAMING.isdisjoint(name for name, _ in reply.headers)
        error = dialect.answer_error(body, sure_of_end=sure)
        if error is None and not run.stream:
            return reply
        if dialect.is_error(body):
            status = dialect.error_status(error)
            verdict = judge_status(status)
    if verdict is not Verdict.GOOD:
        return Failure(verdict, status=status, headers=reply.headers, body=body)
    error = error or {"message": "a stream was asked for, and a complete answer came"}
    text = dialect.error_message(error)
    fault = UpstreamFault(FaultKind.BAD_ANSWER, f"{run.candidate} gave no usable answer: {text}")
    return Failure(Verdict.NEXT, fault)


def _failed(run: RequestProgress, failure: Failure, headers: Headers) -> Answer:
    """The last candidate's failure, in the client's dialect: its own words where it had some."""
    if failure.fault is not None:
        error = _error_of(run, failure.fault)
        return Answer(error.status, (_JSON, *headers), dialect.render_error(error))
    passed = _returned(failure.headers)
    kept = tuple(pair for pair in passed if pair[0] != "content-type")
    if dialect.is_error(failure.body):
        return Answer(failure.status, (_JSON, *kept, *headers), failure.body)
    text = dialect.plain_text(failure.body)
    error = UpstreamFailed(f"{run.candidate} answered {failure.status}{text and ': '}{text}")
    body = dialect.render_error(error, status=failure.status)
    return Answer(failure.status, (_JSON, *kept, *headers), body)


def _error_of(run: RequestProgress, fault: UpstreamFault) -> GatewayError:
    text = f"{run.candidate}: {fault.detail}"
    if run.attempts > 1:
        text = f"{text} (after {run.attempts} attempts)"
    return _ERROR_OF_FAULT.get(fault.kind, UpstreamFailed)(text)
