"""The error envelopes that Anthropic clients expect."""

import json

import pytest

from serve_app.dialects.anthropic_messages.errors import MessagesErrors
from serve_app.errors import (
    AnonymousRefused,
    BodyTooLarge,
    GatewayError,
    InvalidClientKey,
    InvalidRequest,
    MethodNotAllowed,
    UnknownModel,
    UpstreamFailed,
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("é"), "invalid_request_error"),
        (InvalidClientKey(), "authentication_error"),
        (AnonymousRefused(), "permission_error"),
        (UnknownModel("x"), "not_found_error"),
        (MethodNotAllowed("GET", "/", "POST"), "invalid_request_error"),
        (BodyTooLarge(1), "request_too_large"),
        (UpstreamFailed("no"), "api_error"),
        (GatewayError(), "api_error"),
    ],
)
def test_messages_error_has_anthropic_shape(error: GatewayError, kind: str) -> None:
    """An error has the outer type `error`, and inside it the type of the status and the message."""
    body = json.loads(MessagesErrors().render_error(error))
    assert body == {"type": "error", "error": {"type": kind, "message": str(error)}}


def test_messages_error_event_names_its_type() -> None:
    """The error of a stream is an event of type error with the same body."""
    event = MessagesErrors().render_error_event(UpstreamFailed("no"))
    head, data, end = event.split(b"\n", 2)
    assert (head, end) == (b"event: error", b"\n")
    assert json.loads(data.removeprefix(b"data: "))["error"]["message"] == "no"
