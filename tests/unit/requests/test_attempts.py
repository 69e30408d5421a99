"""The order of a request's exchanges with providers."""

import pytest

from serve_app.domain import ModelRef
from serve_app.requests.attempts import MAX_ATTEMPTS, Attempts, Try
from serve_app.requests.verdict import FINAL, GOOD, NEXT, Action, Verdict

A, B, C = (ModelRef("p", name) for name in "abc")
AGAIN = Verdict(Action.AGAIN)
ENDPOINTS = {A: (0,), B: (1, 0), C: (0,)}


def tries(*verdicts: Verdict, limit: int = MAX_ATTEMPTS) -> list[tuple[str, int, bool]]:
    """The attempts that follow from these verdicts, in order."""
    attempts = Attempts((A, B, C), ENDPOINTS.__getitem__, limit)
    attempted = []
    for verdict in (*verdicts, GOOD):
        attempt = attempts.next()
        if attempt is None:
            break
        attempted.append((attempt.candidate.name, attempt.endpoint, attempt.fresh))
        attempts.record(verdict)
    return attempted


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((), [("a", 0, False)]),
        ((FINAL, NEXT), [("a", 0, False)]),
        ((NEXT,), [("a", 0, False), ("b", 1, False)]),
        ((AGAIN,), [("a", 0, False), ("a", 0, True)]),
        ((AGAIN, AGAIN), [("a", 0, False), ("a", 0, True), ("b", 1, True)]),
        ((AGAIN, NEXT), [("a", 0, False), ("a", 0, True), ("b", 1, False)]),
        ((NEXT, AGAIN), [("a", 0, False), ("b", 1, False), ("b", 0, True)]),
        ((NEXT,) * 9, [("a", 0, False), ("b", 1, False), ("b", 0, False), ("c", 0, False)]),
        ((NEXT, NEXT, NEXT, AGAIN), [("a", 0, False), ("b", 1, False), ("b", 0, False), ("c", 0, False)]),
    ],
)  # fmt: skip
def test_attempts_try_all_endpoints_before_next_candidate(
    verdicts: tuple[Verdict, ...], expected: list[tuple[str, int, bool]]
) -> None:
    """A request tries each endpoint of a candidate once, and repeats a reset attempt on a new
    connection if the candidate has one endpoint.
    """
    assert tries(*verdicts) == expected


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_attempts_stop_at_limit(limit: int) -> None:
    """A request never makes more attempts than the limit, however many candidates it has."""
    assert len(tries(*(NEXT,) * 9, limit=limit)) == limit


def test_attempts_end_with_last_candidate() -> None:
    """Attempts end when the last candidate has failed."""
    assert tries(*(NEXT,) * 9, limit=99)[-1] == ("c", 0, False)


def test_full_endpoints_come_last_and_are_exchanged() -> None:
    """After those that rest; the caller may try any of them in place of the first."""
    attempts = Attempts(
        (A, B, C),
        ENDPOINTS.__getitem__,
        99,
        rests=lambda candidate, _: candidate in (A, C),
        is_full=lambda candidate, endpoint: candidate == C or endpoint == 1,
    )
    made = []
    for _ in range(2):
        made.append(attempts.next())
        attempts.record(NEXT)
    tried = attempts.next()
    assert tried == Try(B, 1)
    assert attempts.full == (Try(C, 0),)
    made.append(attempts.swap(tried, 0))
    attempts.record(AGAIN)
    made.append(attempts.next())
    assert attempts.full == (Try(B, 1),)
    attempts.record(NEXT)
    made.append(attempts.next())
    attempts.record(NEXT)
    assert made == [Try(B, 0), Try(A, 0), Try(C, 0), Try(C, 0, fresh=True), Try(B, 1)]
    assert attempts.next() is None


def test_refused_candidate_is_not_waited_for() -> None:
    """Its full endpoints are left out once one of them has refused the request."""
    refused = Verdict(Action.OTHER_MODEL)
    attempts = Attempts((B,), ENDPOINTS.__getitem__, is_full=lambda _, endpoint: endpoint == 1)
    assert attempts.next() == Try(B, 0)
    attempts.record(refused)
    assert attempts.next() is None
    assert attempts.full == ()
