"""The client's own credential, read from a header."""

import pytest

from serve_app.api.headers import read_headers


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ([], None),
        ([(b"authorization", b"Bearer  sk-1 ")], "sk-1"),
        ([(b"x-api-key", b" sk-2 ")], "sk-2"),
        ([(b"x-api-key", b"sk-2"), (b"authorization", b"bearer sk-1")], "sk-1"),
        ([(b"authorization", b"Basic abc"), (b"x-api-key", b"sk-2")], "sk-2"),
        ([(b"authorization", b"Basic abc")], None),
        ([(b"authorization", b"Bearer "), (b"x-api-key", b"sk-2")], "sk-2"),
        ([(b"x-api-key", b"")], None),
        ([(b"x-api-key", "clé".encode())], "clé"),
        ([(b"x-api-key", b"\xff")], "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_credential_is_bearer_token_or_x_api_key(
    headers: list[tuple[bytes, bytes]], credential: str | None
) -> None:
    """The credential is the bearer token, or else `x-api-key`; an empty value is ignored."""
    assert read_headers(headers, 1000).credential == credential


def test_repr_of_request_headers_hides_keys() -> None:
    """The repr of a request's headers does not contain keys, so it can be logged."""
    facts = read_headers([(b"authorization", b"Bearer sk-1"), (b"x-api-key", b"sk-2")], 1000)
    assert "sk-" not in repr(facts)
