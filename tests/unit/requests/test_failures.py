"""The error that the client gets for a failed exchange."""

import pytest

from serve_app.domain import ModelRef
from serve_app.errors import (
    HopTooSmall,
    KeyMissing,
    NotSupported,
    UpstreamFailed,
    UpstreamTimeout,
)
from serve_app.exchange import FaultKind, UpstreamFault
from serve_app.requests.failures import Failure, error_of_fault, error_of_status
from serve_app.requests.verdict import NEXT

MODEL = ModelRef("openai", "a")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b" no such thing\n", ": no such thing"),
        (b"<!doctype html><p>no", ""),
        (b"\n <html>", ""),
        (b"", ""),
        (b"a\xff", ": a\ufffd"),
        (b"x" * 2000, ": " + "x" * 512),
    ],
)
def test_error_of_status_shows_plain_text_only(body: bytes, text: str) -> None:
    """The error message contains at most 512 bytes of a plain text body, and nothing of an HTML
    page.
    """
    error = error_of_status(MODEL, Failure(NEXT, status=503, body=body))
    assert str(error) == f"openai/a answered 503{text}"


@pytest.mark.parametrize("kind", FaultKind)
def test_error_of_fault_follows_fault_kind(kind: FaultKind) -> None:
    """A missing key, a timeout and a body too large for the hop have their own errors; all other
    faults share one.
    """
    expected = {
        FaultKind.NO_KEY: KeyMissing,
        FaultKind.TIMEOUT: UpstreamTimeout,
        FaultKind.TOO_LARGE: HopTooSmall,
        FaultKind.UNSUPPORTED: NotSupported,
    }
    error = error_of_fault(UpstreamFault(kind, "why"))
    assert type(error) is expected.get(kind, UpstreamFailed)
    assert str(error) == "why"
    assert str(error_of_fault(UpstreamFault(kind, "why"), "more")) == "more"
