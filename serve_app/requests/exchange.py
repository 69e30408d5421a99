"""Opens one exchange of a request with one endpoint of a candidate."""

from dataclasses import replace
from typing import NamedTuple, TypeAlias

from serve_app.dialects import registry
from serve_app.dialects.pipe import SameDialect
from serve_app.dialects.protocol import Asked, UpstreamDialect
from serve_app.dialects.token_counter import TokenCounter
from serve_app.domain import DataPath
from serve_app.errors import InvalidRequest, StateUnavailable
from serve_app.exchange import FaultKind, UpstreamFault, UpstreamRequest
from serve_app.ports import Upstream
from serve_app.providers.endpoints import Endpoint
from serve_app.requests.attempts import Try
from serve_app.requests.commit import Held, hold
from serve_app.requests.failures import (
    CompleteAnswer,
    Failure,
    failure_of_fault,
    judge_answer,
    unusable,
)
from serve_app.requests.intent import intent_at
from serve_app.requests.progress import RequestProgress
from serve_app.requests.state import document_at, may_be_elsewhere
from serve_app.requests.verdict import ELSEWHERE, FINAL, NEXT, of_clients_key

Outcome: TypeAlias = Held | CompleteAnswer | Failure
"""What came of an exchange: a stream at its commit point, a complete answer, or a failure."""


class TimeLeft(NamedTuple):
    """The time of one exchange, seconds."""

    total_s: float
    """Until the request's total timeout."""
    share_s: float
    """For a complete answer, or the first content of a stream, unless ``attempt_s`` says so."""


async def open_exchange(
    progress: RequestProgress, tried: Try, upstream: Upstream, left: TimeLeft
) -> Outcome:
    """Asks the request's endpoint for an answer, up to the commit point."""
    snapshot, candidate, endpoint = progress.request.snapshot, tried.candidate, progress.endpoint
    if endpoint is None or left.total_s <= 0:
        return Failure(FINAL, _not_asked(endpoint))
    dialects = registry.pair(progress.request.dialect, endpoint.operations)
    operation = dialects.upstream.operation
    progress.is_native = isinstance(dialects, SameDialect)
    quirk = endpoint.quirk(candidate.name, operation)
    quirk = progress.home.with_cache_key(quirk, endpoint, operation)
    stream = progress.intent.stream
    try:
        intent = intent_at(progress.intent, endpoint, operation)
        effort = progress.decision.effort_of(candidate)
        intent = intent if effort is None else intent._replace(effort=effort)
        document = document_at(progress, endpoint, is_native=progress.is_native)
        asked = dialects.ask(document, intent, candidate.name, quirk)
    except (InvalidRequest, StateUnavailable) as error:  # another candidate may be able to
        return Failure(NEXT, error=error)
    progress.dropped = asked.dropped
    path = dialects.upstream.address(candidate.name, stream=stream)
    reply = await upstream.open(
        UpstreamRequest(
            provider=endpoint.slug,
            model=candidate,
            operation=operation,
            path=f"{path}{progress.request.query_for(operation)}",
            headers=progress.request.headers_for(progress.attempts),
            body=asked.body,
            stream=stream,
            deadline_s=left.total_s,
            attempt_s=_attempt_s(progress, endpoint, left),
            policy=snapshot.version,
            fresh=tried.fresh,
            inline=endpoint.data_path is DataPath.INLINE,
            endpoint=tried.endpoint,
            credential=progress.request.credential if endpoint.passthrough_auth else None,
        )
    )
    if isinstance(reply, UpstreamFault):
        return failure_of_fault(reply)
    if isinstance(reply.body, bytes):
        outcome: Outcome = judge_answer(reply, reply.body, dialect=dialects.upstream, stream=stream)
    else:
        outcome = await hold(reply, reply.body, asked.pipe())
        if isinstance(outcome, Failure) and outcome.fault is not None and outcome.body:
            outcome = judge_answer(reply, outcome.body, dialect=dialects.upstream, stream=True)
    if isinstance(outcome, Failure):
        failure = _for_client(outcome, dialects.upstream, asked)
        if endpoint.passthrough_auth:
            return replace(failure, verdict=of_clients_key(failure.verdict))
        if may_be_elsewhere(progress, failure):
            return replace(failure, verdict=ELSEWHERE)
        return failure
    if isinstance(outcome, CompleteAnswer):
        return _translated(outcome, dialects.upstream, asked, progress)
    progress.counter = outcome.pipe.counter
    return outcome


def _attempt_s(progress: RequestProgress, endpoint: Endpoint, left: TimeLeft) -> float:
    """Seconds for a complete answer, or until the first content of a stream."""
    if progress.intent.stream:
        return left.share_s
    general = progress.request.snapshot.config.timeouts.attempt_s
    return min(left.total_s, endpoint.timeouts.attempt_s or general or left.share_s)


def _for_client(failure: Failure, dialect: UpstreamDialect, asked: Asked) -> Failure:
    """The failure with the provider's error in the client's dialect, if it is an error."""
    if failure.fault is not None:
        return failure
    reported = failure.reported or dialect.read_error(failure.body)
    if reported is None:
        return failure
    body = asked.error_body(failure.status, reported)
    return replace(failure, client_body=body, reported=reported)


def _translated(
    answer: CompleteAnswer, dialect: UpstreamDialect, asked: Asked, progress: RequestProgress
) -> CompleteAnswer | Failure:
    """The answer in the client's dialect, its tokens counted."""
    progress.counter = TokenCounter(dialect.read_usage)
    progress.counter.feed_body(answer.body)
    try:
        body, dropped = asked.answer(answer.body)
    except ValueError as error:
        return unusable(str(error))
    if dropped or asked.dropped:
        progress.dropped = tuple(dict.fromkeys((*asked.dropped, *dropped)))
    return answer if body is answer.body else answer._replace(body=body)


def _not_asked(endpoint: Endpoint | None) -> UpstreamFault:
    if endpoint is None:
        return UpstreamFault(FaultKind.UNSUPPORTED, "no provider serves it")
    return UpstreamFault(FaultKind.TIMEOUT, "no time was left to ask it")
