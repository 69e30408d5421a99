"""The client's keys: the one of this gateway, and the one for a provider."""

import pytest

from serve_app.api.headers import HeaderFacts, read_headers


def credential_of(facts: HeaderFacts, *ours: bytes) -> str | None:
    """The credential, where the gateway has these client keys."""
    return facts.credential(lambda key: key in ours)


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
    facts = read_headers(headers, 1000)
    assert credential_of(facts) == credential
    assert facts.keys == facts.other_keys


OWN, BEARER, API = (b"x-fingerpost-key", b"fp-1"), (b"authorization", b"Bearer sk-1"), (b"x-api-key", b"sk-2")  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "keys", "credential"),
    [
        ([OWN], (b"fp-1",), None),
        ([OWN, BEARER], (b"fp-1", b"sk-1"), "sk-1"),
        ([BEARER, OWN], (b"fp-1", b"sk-1"), "sk-1"),
        ([API, OWN], (b"fp-1", b"sk-2"), "sk-2"),
        ([API, OWN, BEARER], (b"fp-1", b"sk-1", b"sk-2"), "sk-1"),
        ([(b"x-fingerpost-key", b" fp-1 ")], (b"fp-1",), None),
        ([(b"x-fingerpost-key", b""), BEARER], (b"sk-1",), "sk-1"),
        ([(b"x-fingerpost-key", b"sk-1"), BEARER], (b"sk-1", b"sk-1"), None),
        ([(b"x-fingerpost-key", b"sk-1"), BEARER, API], (b"sk-1", b"sk-1", b"sk-2"), "sk-2"),
    ],
)
def test_key_of_gateway_has_header_of_its_own(
    headers: list[tuple[bytes, bytes]], keys: tuple[bytes, ...], credential: str | None
) -> None:
    """It comes first among the keys that admit the client, and is never the credential."""
    facts = read_headers(headers, 1000)
    assert facts.keys == keys
    assert credential_of(facts) == credential
    assert facts.forwarded == ()


def test_client_key_of_gateway_is_no_credential() -> None:
    """A key that the gateway knows is not passed on, in whichever header it comes."""
    facts = read_headers([OWN, BEARER, API], 1000)
    assert credential_of(facts, b"sk-1") == "sk-2"
    assert credential_of(facts, b"sk-1", b"sk-2") is None
    assert credential_of(read_headers([BEARER], 1000), b"sk-1") is None


def test_repr_of_request_headers_hides_keys() -> None:
    """The repr of a request's headers does not contain keys, so it can be logged."""
    facts = read_headers([BEARER, API, (b"x-fingerpost-key", b"sk-3")], 1000)
    assert "sk-" not in repr(facts)
