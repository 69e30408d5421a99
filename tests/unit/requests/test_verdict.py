"""What an upstream's failure means."""

import pytest

from serve_app.exchange import FaultKind, UpstreamFault
from serve_app.requests.verdict import Verdict, judge_fault, judge_status


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        (range(200, 300), Verdict.GOOD),
        (range(300, 400), Verdict.FINAL),
        ([*range(400, 429), *range(430, 500)], Verdict.FINAL),
        ([429], Verdict.NEXT),
        (range(500, 600), Verdict.NEXT),
        ([100, 199, 600, 999], Verdict.FINAL),
    ],
)
def test_a_status_has_a_verdict(statuses: range | list[int], verdict: Verdict) -> None:
    """Success is good, trouble of the server is the next one's chance, the rest is final."""
    assert {judge_status(status) for status in statuses} == {verdict}


@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_has_a_verdict(kind: FaultKind) -> None:
    """A reset is tried once more, every other fault goes to the next candidate."""
    expected = Verdict.AGAIN if kind is FaultKind.RESET else Verdict.NEXT
    assert judge_fault(UpstreamFault(kind, "x")) is expected
