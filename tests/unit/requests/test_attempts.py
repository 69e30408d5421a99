"""The plan of a request's exchanges."""

import pytest

from serve_app.domain import ModelRef
from serve_app.requests.attempts import MAX_ATTEMPTS, Attempts
from serve_app.requests.verdict import FINAL, GOOD, NEXT, Action, Verdict

A, B, C = (ModelRef("p", name) for name in "abc")
AGAIN = Verdict(Action.AGAIN)
ENDPOINTS = {A: (0,), B: (1, 0), C: (0,)}


def tries(*verdicts: Verdict, limit: int = MAX_ATTEMPTS) -> list[tuple[str, int, bool]]:
    """What is tried if these verdicts come, one after the other."""
    attempts = Attempts((A, B, C), ENDPOINTS.__getitem__, limit)
    made = []
    for verdict in (*verdicts, GOOD):
        tried = attempts.next()
        if tried is None:
            break
        made.append((tried.candidate.name, tried.endpoint, tried.fresh))
        attempts.record(verdict)
    return made


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
def test_attempts_go_from_endpoint_to_candidate(
    verdicts: tuple[Verdict, ...], expected: list[tuple[str, int, bool]]
) -> None:
    """Each endpoint of a candidate once; its only endpoint again, on a new connection, if reset."""
    assert tries(*verdicts) == expected


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_attempts_stop_at_the_limit(limit: int) -> None:
    """However many candidates there are."""
    assert len(tries(*(NEXT,) * 9, limit=limit)) == limit


def test_attempts_end_with_the_last_candidate() -> None:
    """Then the last outcome is the answer."""
    assert tries(*(NEXT,) * 9, limit=99)[-1] == ("c", 0, False)
