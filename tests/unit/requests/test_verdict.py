"""The verdict on an upstream's reply or fault."""

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
def test_verdict_follows_status(statuses: range | list[int], action: Action) -> None:
    """A 2xx status is good, 429 and 5xx go to the next candidate, and every other status is final."""
    verdicts = {judge_status(status) for status in statuses}
    assert {verdict.action for verdict in verdicts} == {action}
    assert {verdict.rests for verdict in verdicts} == {Rests.NOTHING}


@pytest.mark.parametrize("kind", FaultKind)
def test_verdict_retries_reset_only(kind: FaultKind) -> None:
    """A reset is retried, and every other fault goes to the next candidate."""
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
def test_verdict_reads_seconds_of_retry_after(
    status: int, value: str, seconds: float | None
) -> None:
    """A verdict for the next candidate contains the seconds of `retry-after` if the header is a
    number.
    """
    verdict = judge_status(status, (("content-type", "x"), ("retry-after", value)))
    assert verdict.retry_after_s == seconds
