"""What an upstream's failure means for the request."""

import pytest

from serve_app.exchange import FaultKind, UpstreamFault
from serve_app.requests.verdict import Action, Rests, judge_fault, judge_status


@pytest.mark.parametrize(
    ("statuses", "action"),
    [
        (range(200, 300), Action.GOOD),
        (range(300, 400), Action.FINAL),
        ([*range(400, 429), *range(430, 500)], Action.FINAL),
        ([429], Action.NEXT),
        (range(500, 600), Action.NEXT),
        ([100, 199, 600, 999], Action.FINAL),
    ],
)
def test_a_status_has_a_verdict(statuses: range | list[int], action: Action) -> None:
    """Success is good, a failing server gives the next candidate a chance, the rest is final."""
    verdicts = {judge_status(status) for status in statuses}
    assert {verdict.action for verdict in verdicts} == {action}
    assert {verdict.rests for verdict in verdicts} == {Rests.NOTHING}


@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_has_a_verdict(kind: FaultKind) -> None:
    """A reset is tried once more, every other fault goes to the next candidate."""
    expected = Action.AGAIN if kind is FaultKind.RESET else Action.NEXT
    assert judge_fault(UpstreamFault(kind, "x")).action is expected


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [
        (429, "7", 7.0),
        (503, "120", 120.0),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", None),
        (429, "-1", None),
        (429, "", None),
        (400, "7", None),
        (200, "7", None),
    ],
)
def test_a_verdict_has_the_seconds_of_retry_after(
    status: int, value: str, seconds: float | None
) -> None:
    """Where the next candidate is asked, and the provider names a number."""
    verdict = judge_status(status, (("content-type", "x"), ("retry-after", value)))
    assert verdict.retry_after_s == seconds
