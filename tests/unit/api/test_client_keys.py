"""The client's own key, as a header shows it."""

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
def test_a_clients_own_key_is_its_bearer_token(
    headers: list[tuple[bytes, bytes]], credential: str | None
) -> None:
    """Else its ``x-api-key``; what is empty is none."""
    assert read_headers(headers, 1000).credential == credential


def test_what_was_read_hides_the_keys() -> None:
    """A repr of a request's headers can be logged."""
    facts = read_headers([(b"authorization", b"Bearer sk-1"), (b"x-api-key", b"sk-2")], 1000)
    assert "sk-" not in repr(facts)
