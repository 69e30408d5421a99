"""Bad input: a clear refusal in the OpenAI shape, and a gateway that goes on unharmed."""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.site import CHAT, MESSAGES, RESPONSES, Site

GOOD = b'{"model": "dedicated/parrot", "messages": []}'
LIMIT = 32 << 20


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        (b"", 400, "invalid_json", "empty"),
        (b"  \n", 400, "invalid_json", "empty"),
        (b"hello", 400, "invalid_json", "object"),
        (b'{"model": "x",', 400, "invalid_json", "line 1, column"),
        (b'{"model": "x"} trailing', 400, "invalid_json", "follows"),
        (b"[1, 2]", 400, "invalid_json", "object"),
        (b'"text"', 400, "invalid_json", "object"),
        (b'{"model": "caf\xe9", "messages": []}', 400, "invalid_json", "UTF-8"),
        (b'{"x": NaN, "messages": []}', 400, "invalid_json", "NaN"),
        (b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", 400, "nesting_too_deep", "nested"),
        (b'{"x": ' + b'{"a":' * 200_000, 400, "nesting_too_deep", "nested"),
        (b'{"model": "a", "model": "b", "messages": []}', 400, "duplicate_key", "'model'"),
        (b'{"model": "a", "Model": "b", "messages": []}', 400, "duplicate_key", "'model'"),
        (b'{"model": 5, "messages": []}', 400, "invalid_request", "model"),
        (b'{"model": ["a"], "messages": []}', 400, "invalid_request", "model"),
        (b'{"model": "fast", "messages": "hi"}', 400, "invalid_request", "messages"),
        (b'{"model": "fast"}', 400, "invalid_request", "messages"),
        (b'{"model": "fast", "messages": [], "stream": "yes"}', 400, "invalid_request", "stream"),
        (b'{"model": "fast", "messages": [], "models": "x"}', 400, "invalid_request", "models"),
        (b'{"model": "fast", "messages": [], "fallbacks": [1]}', 400, "invalid_request", "fallbacks"),
        (b'{"model": "fast", "messages": [], "models": ["no/pe"]}', 404, "model_not_found", "no/pe"),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused(site: Site, body: bytes, status: int, code: str, said: str) -> None:
    """What is wrong is named, with its place."""
    answer = site.send(body)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert said in answer.error["message"]
    assert answer.error["type"] == "invalid_request_error"
    assert answer.headers["x-fingerpost-policy"]
    site.alive()


def test_too_large_a_body_is_refused_by_its_length(site: Site) -> None:
    """An announced length over the limit is refused before it is read."""
    answer = site.send(GOOD + b" " * LIMIT)
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    assert "limits.body_bytes" in answer.error["message"]
    site.alive()


def test_too_large_a_body_is_refused_while_it_comes(site: Site) -> None:
    """Without Content-Length the bytes are counted as they come."""

    def parts() -> Iterator[bytes]:
        yield GOOD
        for _ in range(40):
            yield b" " * (1 << 20)

    try:
        answer = site.send(parts(), headers={"transfer-encoding": "chunked"})
    except (BrokenPipeError, ConnectionResetError):
        pass  # the refusal closed the connection while we were still sending
    else:
        assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    site.alive()


def test_a_body_at_the_limit_passes(site: Site) -> None:
    """The limit itself is allowed."""
    body = GOOD + b" " * (LIMIT - len(GOOD))
    assert site.send(body).status == 200


@pytest.mark.parametrize(("kilobytes", "status"), [(60, 200), (100, 431)])
def test_headers_have_a_limit(site: Site, kilobytes: int, status: int) -> None:
    """60 KB of headers pass, 100 KB are refused in our own words."""
    answer = site.send(GOOD, headers={"x-large": "h" * (kilobytes * 1024)})
    assert answer.status == status
    if status == 431:
        assert answer.error["code"] == "headers_too_large"
    site.alive()


def test_an_unknown_path_is_a_404(site: Site) -> None:
    """The answer is in the shape of all other errors and says where to go."""
    answer = site.send(GOOD, path="/v1/nothing")
    assert (answer.status, answer.error["code"]) == (404, "unknown_path")
    assert "/v1/chat/completions" in answer.error["message"]
    body = site.send(GOOD, path="/v1/messages/batches").json
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/healthz", "GET"),
    ],
)
def test_a_wrong_method_is_a_405(site: Site, method: str, path: str, allow: str) -> None:
    """The answer says which method is right, in the header too."""
    answer = site.send(GOOD, method=method, path=path)
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert allow in answer.headers["allow"]


def test_a_client_that_speaks_no_http_harms_nothing(site: Site) -> None:
    """Header values beyond ASCII and odd names are passed over."""
    headers = {"X-Odd": "caf\xe9", "x-arch-llm-provider-hint": "caf\xe9"}
    answer = site.send(json.dumps({"messages": []}).encode(), headers=headers)
    assert answer.status == 404
    site.alive()


def test_a_websocket_is_refused_with_the_status_that_codex_obeys(site: Site) -> None:
    """After 426 it goes on over HTTP at once; a plain GET of the same path is a 405."""
    url = f"{site.url.replace('http', 'ws', 1)}{RESPONSES}"
    with pytest.raises(InvalidStatus) as caught, connect(url, proxy=None):
        pass
    answer = caught.value.response
    error = json.loads(answer.body)["error"]
    assert (answer.status_code, error["code"]) == (426, "websocket_unsupported")
    assert f"{RESPONSES} does not support WebSocket" in error["message"]
    assert answer.headers["upgrade"] == "HTTP/1.1"
    assert answer.headers["x-should-retry"] == "false"
    assert site.send(method="GET", path=RESPONSES).status == 405
    site.alive()


LATIN_1 = [
    "x-session-id",
    "X-Request-Id",
    "x-model-affinity",
    "x-client-request-id",
    "x-request-timeout-seconds",
    "x-request-disconnect-disabled",
    "serve_multiplexed_model_id",
    "serve-multiplexed-model-id",
    "traceparent",
    "tracestate",
    "user-agent",
    "origin-agent-cluster",
    "x-arch-llm-provider-hint",
    "anthropic-version",
    "accept",
    "cookie",
]
"""Headers that the gateway, Serve or a provider reads, and others."""


@pytest.mark.parametrize("name", LATIN_1)
@pytest.mark.parametrize("value", ["Zo\xeb", "Zo\xc3\xab", "\xff\xfe", "\xa0"])
def test_a_header_in_latin_1_is_no_fault(site: Site, name: str, value: str) -> None:
    """The request is answered, or refused in its dialect: never by a 500 in plain text."""
    for path, body in ((CHAT, GOOD), (MESSAGES, GOOD), ("/v1/models", None), ("/v1/none", GOOD)):
        method = "POST" if body else "GET"
        answer = site.send(body, path=path, method=method, headers={name: value})
        assert answer.status in ({404} if path == "/v1/none" else {200, 400, 404}), path
        assert isinstance(answer.json, dict)
        if answer.status != 200:
            assert answer.json["error"]["message"]


def test_sessions_in_latin_1_are_told_apart(site: Site) -> None:
    """Characters that are not UTF-8 are not all one and the same."""
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hi"}]}).encode()
    for header in ("x-session-id", "x-model-affinity"):
        run = uuid4().hex
        names = [f"Zo\xeb-{run}", f"Zo\xea-{run}"]
        states = [
            site.send(body, headers={header: name}).headers["x-fingerpost-affinity"]
            for name in (*names, *names)
        ]
        assert states == ["miss", "miss", "hit", "hit"], header


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, "/v1/models"])
def test_preflight_of_own_page_is_answered(site: Site, path: str) -> None:
    """A page on this machine may then call the gateway and read what it answers, errors too."""
    page = {"origin": "http://localhost:5173"}
    wanted = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key",
    }
    allowed = site.send(method="OPTIONS", path=path, headers={**page, **wanted})
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-headers"] == "x-api-key"
    method = "GET" if path == "/v1/models" else "POST"
    for answer in (allowed, site.send(b"", method=method, path=path, headers=page)):
        assert answer.headers["access-control-allow-origin"] == page["origin"]


def test_foreign_host_is_refused(site: Site) -> None:
    """The gateway has no client keys, and the name of another machine may be a page's."""
    answer = site.send(GOOD, headers={"host": "evil.example"})
    assert (answer.status, answer.error["code"]) == (403, "anonymous_refused")
    site.alive()
