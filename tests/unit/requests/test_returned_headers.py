"""The headers of a provider that a client gets, and those of the gateway's own errors."""

import pytest

from serve_app.domain import Headers
from serve_app.errors import (
    GatewayError,
    MethodNotAllowed,
    UnknownPath,
    UnsupportedEncoding,
    WebSocketUnsupported,
)
from serve_app.requests.answer import error_headers, returned_headers

OURS, ANTHROPICS, OTHERS = "x-fingerpost-upstream-request-id", "request-id", "x-request-id"


@pytest.mark.parametrize(
    ("sent", "anyone", "anthropics"),
    [
        ((), (), ()),
        (((OTHERS, "r1"),), ((OURS, "r1"),), ((OURS, "r1"), (ANTHROPICS, "r1"))),
        (((ANTHROPICS, "r2"),), ((OURS, "r2"), (ANTHROPICS, "r2")), ((OURS, "r2"), (ANTHROPICS, "r2"))),
        (
            ((ANTHROPICS, "r2"), (OTHERS, "r1")),
            ((OURS, "r1"), (ANTHROPICS, "r2")),
            ((OURS, "r1"), (ANTHROPICS, "r2")),
        ),
        (((OTHERS, ""),), (), ()),
        (((OTHERS, ""), (ANTHROPICS, "r2")), ((OURS, "r2"), (ANTHROPICS, "r2")), ((OURS, "r2"), (ANTHROPICS, "r2"))),
        (((OURS, "forged"), (OTHERS, "r1")), ((OURS, "r1"),), ((OURS, "r1"), (ANTHROPICS, "r1"))),
    ],
)  # fmt: skip
def test_request_id_has_names_that_clients_read(
    sent: Headers, anyone: Headers, anthropics: Headers
) -> None:
    """Each name comes once; clients of Anthropic find the id of any provider in `request-id`."""
    assert returned_headers(sent) == anyone
    assert returned_headers(sent, as_anthropic=True) == anthropics


@pytest.mark.parametrize("as_anthropic", [False, True])
def test_cookies_and_the_like_do_not_come_back(as_anthropic: bool) -> None:
    """What a provider sets for its own domain, or says of its connection, stays here."""
    names = ("set-cookie", "set-cookie2", "connection", "keep-alive", "transfer-encoding", "trailer",
             "upgrade", "proxy-authenticate", "www-authenticate", "strict-transport-security",
             "anthropic-organization-id", "openai-organization", "cf-ray", "via")  # fmt: skip
    sent = tuple((name, "1") for name in names)
    assert returned_headers(sent, as_anthropic=as_anthropic) == ()


@pytest.mark.parametrize(
    "value", ["a\r\nset-cookie: x=y", "a\nb", "a\rb", "a\x00b", "a\x1b[2J", "\x7f"]
)
@pytest.mark.parametrize(
    "name", [OTHERS, ANTHROPICS, "retry-after", "x-ratelimit-a", "content-type"]
)
def test_header_with_control_characters_does_not_come_back(name: str, value: str) -> None:
    """The server would close the connection to the client in place of an answer."""
    assert returned_headers(((name, value),), as_anthropic=True) == ()
    assert returned_headers(((name, "a\tb"),))[0][1] == "a\tb"


def test_request_id_is_not_crowded_out() -> None:
    """It comes back even if the other headers of the provider fill the space."""
    sent = (*((f"x-ratelimit-{n}", "v" * 1000) for n in range(100)), (OTHERS, "r1"))
    assert returned_headers(sent, as_anthropic=True)[:2] == ((OURS, "r1"), (ANTHROPICS, "r1"))


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (UnsupportedEncoding("br", ("gzip", "deflate")), (("accept-encoding", "gzip, deflate"),)),
        (MethodNotAllowed("GET", "/v1/x", "POST"), (("allow", "POST"),)),
        (WebSocketUnsupported("/v1/x"), (("x-should-retry", "false"), ("upgrade", "HTTP/1.1"))),
        (UnknownPath("/v1/x"), ()),
    ],
)
def test_error_says_in_headers_what_would_do(error: GatewayError, headers: Headers) -> None:
    """A wrong method and a wrong encoding name the right ones."""
    assert error_headers(error) == headers
