"""The envelopes that Anthropic clients expect."""

import json

import pytest

from serve_app.dialects.anthropic_messages.dialect import render_error, render_models
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
def test_an_error_is_rendered_in_anthropics_shape(error: GatewayError, kind: str) -> None:
    """An outer type, and inside the type of the status and the message."""
    body = json.loads(render_error(error))
    assert body == {"type": "error", "error": {"type": kind, "message": str(error)}}


def test_models_are_one_page() -> None:
    """Names in order, with the first and the last as cursors."""
    page = render_models(["a/b", "c"])
    assert [entry["id"] for entry in page["data"]] == ["a/b", "c"]
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("a/b", "c", False)


def test_no_models_are_an_empty_page() -> None:
    """A page without entries has no cursors."""
    assert render_models([]) == {"data": [], "has_more": False, "first_id": None, "last_id": None}
