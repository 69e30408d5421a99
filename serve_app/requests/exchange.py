"""Opens one exchange of a request with one endpoint of a candidate."""

from dataclasses import replace
from typing import TypeAlias

from serve_app.dialects import registry
from serve_app.domain import DataPath
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
)
from serve_app.requests.progress import RequestProgress
from serve_app.requests.verdict import FINAL

Outcome: TypeAlias = Held | CompleteAnswer | Failure
"""What came of an exchange: a stream at its commit point, a complete answer, or a failure."""


async def open_exchange(
    progress: RequestProgress, tried: Try, upstream: Upstream, left_s: float
) -> Outcome:
    """Asks one endpoint for an answer, up to the commit point.

    ``left_s``: seconds until the request's total timeout.
    """
    snapshot, candidate = progress.request.snapshot, tried.candidate
    endpoint = snapshot.providers.endpoint(candidate, tried.endpoint)
    if endpoint is None or left_s <= 0:
        return Failure(FINAL, _not_asked(endpoint))
    dialects = registry.pair(progress.request.dialect, endpoint.operations)
    operation = dialects.upstream.operation
    quirk = endpoint.quirk(candidate.name, operation)
    stream = progress.intent.stream
    reply = await upstream.open(
        UpstreamRequest(
            provider=endpoint.slug,
            model=candidate,
            operation=operation,
            path=dialects.upstream.address(candidate.name, stream=stream),
            headers=progress.request.headers,
            body=dialects.request_body(progress.request.document, candidate.name, quirk),
            stream=stream,
            deadline_s=left_s,
            policy=snapshot.version,
            fresh=tried.fresh,
            inline=endpoint.data_path is DataPath.INLINE,
            endpoint=tried.endpoint,
            credential=progress.request.credential if endpoint.passthrough_auth else None,
        )
    )
    if isinstance(reply, UpstreamFault):
        return failure_of_fault(reply)
    outcome: Outcome
    if isinstance(reply.body, bytes):
        outcome = judge_answer(
            reply, reply.body, dialect=dialects.upstream, candidate=candidate, stream=stream
        )
    else:
        outcome = await hold(reply, reply.body, dialects.pipe(progress.intent))
    if isinstance(outcome, Failure) and outcome.fault is None:
        return replace(outcome, client_body=dialects.error_body(outcome.body))
    return outcome


def _not_asked(endpoint: Endpoint | None) -> UpstreamFault:
    if endpoint is None:
        return UpstreamFault(FaultKind.UNSUPPORTED, "no provider serves it")
    return UpstreamFault(FaultKind.TIMEOUT, "no time was left to ask it")
