"""Which proxy an address is reached through, and how a bad one is reported."""

from pathlib import Path

import pytest

from serve_app.domain import ModelRef
from serve_app.providers.proxies import (
    UnusableProxyError,
    is_exempt,
    proxy_at,
    proxy_fault,
    proxy_of_environment,
)
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of
from tests.unit.providers.test_checks import problems_of

SECRET = "pa55-w0rd"


@pytest.mark.parametrize(
    ("environ", "base_url", "expected"),
    [
        ({}, "https://h", None),
        ({"https_proxy": "http://p:1"}, "https://h", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "https://h", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://h", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://h", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "http://h", "http://p:1"),
        ({"all_proxy": "http://p:1"}, "https://h", "http://p:1"),
        ({"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:2"}, "https://h", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "all_proxy": "http://q:2"}, "https://h", "http://p:1"),
        ({"https_proxy": "", "ALL_PROXY": "http://q:2"}, "https://h", None),
        ({"https_proxy": " p:3128 "}, "https://h", "http://p:3128"),
        ({"https_proxy": "http://p"}, "https://h", "http://p"),
        ({"https_proxy": "https://p"}, "https://h", "https://p"),
        ({"https_proxy": "http://[::1]:8/x?y"}, "https://h", "http://[::1]:8"),
        ({"https_proxy": "http://p:1", "no_proxy": "h"}, "https://h", None),
        ({"https_proxy": "http://p:1", "NO_PROXY": "h:443"}, "https://h/v1", None),
        ({"https_proxy": "http://p:1", "NO_PROXY": "h:443"}, "https://h:8443", "http://p:1"),
        ({"https_proxy": "http://p:1", "no_proxy": "", "NO_PROXY": "h"}, "https://h", "http://p:1"),
    ],
)
def test_environment_names_the_proxy_of_an_address(
    environ: dict[str, str], base_url: str, expected: str | None
) -> None:
    """The variable of the scheme counts before that of all, and lower case before upper case."""
    proxy = proxy_of_environment(base_url, environ)
    assert (None if proxy is None else str(proxy.url).rstrip("/")) == expected


@pytest.mark.parametrize(
    ("exceptions", "host", "port", "expected"),
    [
        ("", "h", 80, False),
        (",  ,", "h", 80, False),
        ("*", "anything", 80, True),
        ("x, *", "anything", 80, True),
        ("example.com", "example.com", 80, True),
        ("example.com", "api.example.com", 80, True),
        (".example.com", "api.example.com", 80, True),
        (".example.com", "example.com", 80, True),
        ("*.example.com", "api.example.com", 80, True),
        ("EXAMPLE.com", "Api.Example.COM.", 80, True),
        ("example.com", "notexample.com", 80, False),
        ("a b,c", "b", 80, True),
        ("h:8000", "h", 8000, True),
        ("h:8000", "h", 80, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.1.2.3/8", "10.9.9.9", 80, True),
        ("10.0.0.0/8", "ten.example", 80, False),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1:9", "127.0.0.1", 80, False),
        ("127.0.0.1:9", "127.0.0.1", 9, True),
        ("::1", "::1", 80, True),
        ("[::1]", "0:0::1", 80, True),
        ("fd00::/8", "fd12::3", 80, True),
        ("fd00::/8", "10.0.0.1", 80, False),
        ("*.", "h", 80, False),
    ],
)
def test_exceptions_have_every_usual_form(
    exceptions: str, host: str, port: int, *, expected: bool
) -> None:
    """Names with their subdomains, addresses, networks, ports and a star exempt a host."""
    assert is_exempt(host, port, exceptions) is expected


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (f"socks5://u:{SECRET}@p:1", "has the scheme 'socks5'; only HTTP proxies are supported"),
        (f"http://u:{SECRET}@p:99999", "is not a URL"),
        (f"http://u:{SECRET}@p:0", "is not a URL with a host"),
        (f"http://u:{SECRET}@", "is not a URL with a host"),
        (f"http://u:{SECRET}@p x", "is not a URL with a host"),
        (f"http://[u:{SECRET}@p", "is not a URL"),
    ],
)
def test_unusable_proxy_is_named_without_its_value(url: str, text: str) -> None:
    """The message names the variable or the key, and contains no password."""
    with pytest.raises(UnusableProxyError) as caught:
        proxy_at(url, "the environment variable HTTPS_PROXY")
    message = str(caught.value)
    assert message.startswith(f"the environment variable HTTPS_PROXY {text}")
    assert SECRET not in message
    assert message.endswith(str(proxy_fault(url)))


def test_credentials_are_kept_apart_from_the_address() -> None:
    """User and password are decoded, sent as UTF-8, and not shown."""
    proxy = proxy_at(f"http://us%40r:{SECRET}%C3%A9@p:1", "proxy")
    assert proxy.authorization == "Basic dXNAcjpwYTU1LXcwcmTDqQ=="
    assert proxy.secrets == ("dXNAcjpwYTU1LXcwcmTDqQ==", f"{SECRET}é")
    assert SECRET not in repr(proxy)
    assert "dXNA" not in repr(proxy)
    assert proxy_at("http://p:1", "proxy").authorization is None
    assert proxy_at("http://user@p:1", "proxy").authorization == "Basic dXNlcjo="


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (f"socks5://u:{SECRET}@p:1", "has the scheme 'socks5'; only HTTP proxies are supported, such as http://host:port, or `off` to use none"),
        (f"http://u:{SECRET}@:1", "is not a URL with a host; write it as http://host:port, or `off` to use none"),
        ("true", "must be a string, not true or false"),
        ("''", "must not be empty"),
    ],
)  # fmt: skip
def test_configured_proxy_is_checked(value: str, text: str, tmp_path: Path) -> None:
    """A value that can't be used is a problem of its key, and is not repeated."""
    assert problems_of(tmp_path, f"model: openai/a, proxy: {value}") == [("[0].proxy", text)]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("off", "off"),
        ("'off'", "off"),
        ("$PROXY", "$PROXY"),
        ("http://$USER:$PASSWORD@p:1", "http://$USER:$PASSWORD@p:1"),
        ("p:3128", "p:3128"),
    ],
)
def test_endpoint_keeps_the_proxy_as_configured(value: str, kept: str, tmp_path: Path) -> None:
    """References stay unexpanded, ``off`` needs no quotes, and unset variables are reported."""
    text = f"{V}model_providers: [{{model: openai/a, access_key: k, proxy: {value}}}]\n"
    endpoint = snapshot_of(tmp_path, text).providers.endpoint(ModelRef("openai", "a"))
    assert endpoint is not None
    assert endpoint.proxy == kept
    assert "PASSWORD" not in repr(endpoint)
    names = [name for name in ("PASSWORD", "PROXY", "USER") if f"${name}" in kept]
    assert endpoint.missing({}) == names
