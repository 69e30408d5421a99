"""Attempts to get past access, to reach another address, and to smuggle a second request."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.api.surfaces import SURFACES
from tests.scripted_provider import ScriptedProvider
from tests.site import CHAT, MESSAGES, RESPONSES, SECRET, Site, eventually, write_config
from tests.wire.conftest import serve_api

KEY: Final = "fp-client-key-0123456789"
ENVIRON: Final = {"FINGERPOST_TEST_KEY": SECRET}
GOOD: Final = b'{"model": "dedicated/parrot", "messages": []}'


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway with a client key, and with a provider of Anthropic's dialect."""
    url = providers["shared"].url
    more = [
        {"model": "claude/*", "base_url": url, "provider_interface": "anthropic", "access_key": "k"}
    ]
    file = write_config(tmp_path_factory.mktemp("guarded"), providers, more)
    file.write_text(json.dumps({**json.loads(file.read_text()), "client_keys": [KEY]}))
    with serve_api(file, providers, ENVIRON) as running:
        yield running


def asked_providers(site: Site) -> int:
    """How many requests providers have got."""
    return sum(len(provider.ledger.exchanges) for provider in site.providers.values())


def send_raw(site: Site, data: bytes, wait_s: float = 0.3) -> bytes:
    """Everything that comes back for these bytes on one connection; the first bytes without a wait."""
    with socket.create_connection((site.host, site.port), timeout=5) as line:
        line.sendall(data)
        if not wait_s:
            return line.recv(65536)
        line.settimeout(wait_s)
        received = b""
        try:
            while chunk := line.recv(65536):
                received += chunk
        except TimeoutError:
            pass
        return received


PATHS: Final = [
    "/v1/models",
    "/v1//models",
    "//v1/models",
    "/V1/Models",
    "/v1/models/",
    "/%76%31/models",
    "/v1%2Fmodels",
    "/healthz/../v1/models",
    "/healthz/..%2fv1/models",
    "/healthz/%2e%2e/v1/models",
    "/healthz%2f..%2fv1%2fmodels",
    "/healthz/",
    "/healthz;/v1/models",
    "/healthz%00",
    "/healthz%0a",
    "/healthz%20",
    "/HEALTHZ",
    "//healthz",
    "//",
    "/./",
    "/../",
    "/%2f",
    "/prefix//healthz",
    "/prefix/healthz/../v1/models",
    "/v1/models?path=/healthz",
    "/v1/models#/healthz",
    "http://127.0.0.1/v1/models",
    "/v1/responses/..%2f..%2fhealthz",
    "/docs",
    "/openapi.json",
    "/metrics",
    "/ui/api/config",
    "/UI/api/config",
    "//ui/api/config",
    "/ui%2fapi/config",
]
"""Other spellings of guarded paths, and mixtures with open ones."""


@pytest.mark.parametrize("path", [*SURFACES, *PATHS])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS", "PROPFIND"])
def test_no_spelling_of_a_path_is_open(guarded: Site, path: str, method: str) -> None:
    """Only exactly `/` and `/healthz` are answered without a key."""
    line = f"{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {len(GOOD)}\r\n\r\n".encode()
    before = asked_providers(guarded)
    answer = send_raw(guarded, line + GOOD, 0)
    assert answer.startswith(b"HTTP/1.1 401 "), answer[:200]
    assert asked_providers(guarded) == before


@pytest.mark.parametrize(
    "path",
    [
        "/ui/api",
        "/ui//api/config",
        "/ui/./api/config",
        "/ui/x/../api/config",
        "/ui/%2e%2e/v1/models",
        "/ui/..%2fv1/models",
        "/ui/../../etc/passwd",
        "/ui/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/ui//etc/passwd",
        "/ui/API/config",
        "/ui/;/api/config",
        "/ui/page.py",
        "/ui/__init__.py",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD"])
def test_files_of_the_page_lead_nowhere_else(guarded: Site, path: str, method: str) -> None:
    """They are open, and no spelling below them reads data or another file."""
    line = f"{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n".encode()
    status = send_raw(guarded, line, 0).split(b" ")[1]
    assert status in {b"401", b"404", b"405"}


@pytest.mark.parametrize(
    "headers",
    [
        {"x-http-method-override": "GET"},
        {"x-original-url": "/healthz"},
        {"x-rewrite-url": "/healthz"},
        {"x-forwarded-prefix": "/healthz"},
        {"x-forwarded-for": "127.0.0.1"},
        {"x-real-ip": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1;host=localhost"},
        {"host": "localhost"},
        {"authorization": f"Bearer  {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY},x"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"x-api-key": KEY.upper()},
        {"x-api-key": f"{KEY}\t{KEY}"},
        {"x-api-key": "' OR '1'='1"},
        {"x-api-key": "$FINGERPOST_TEST_KEY"},
        {"x-api-key": "null"},
        {"cookie": f"key={KEY}"},
        {"x-fingerpost-key": "", "x-api-key": ""},
        {"x-fingerpost-client": KEY},
    ],
)
def test_no_header_stands_in_for_a_key(guarded: Site, headers: dict[str, str]) -> None:
    """Neither headers of proxies, nor parts and variants of a key."""
    for path in (CHAT, f"/v1/models?api_key={KEY}"):
        method = "POST" if path == CHAT else "GET"
        answer = guarded.send(GOOD, path=path, method=method, headers=headers)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


SMUGGLED: Final = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nx-api-key: %s\r\ncontent-length: %d\r\n\r\n%s"
    % (
        KEY.encode(),
        len(GOOD),
        GOOD,
    )
)
"""A whole request that is hidden in the body of another one."""
FRAMINGS: Final = {
    "two lengths": "content-length: {n}\r\ncontent-length: 0",
    "two lengths in one": "content-length: {n}, 0",
    "signed length": "content-length: +{n}",
    "hexadecimal length": "content-length: 0x{n}",
    "length and chunks": "content-length: {n}\r\ntransfer-encoding: chunked",
    "chunks and length": "transfer-encoding: chunked\r\ncontent-length: {n}",
    "unknown coding": "transfer-encoding: xchunked",
    "two codings": "transfer-encoding: chunked\r\ntransfer-encoding: identity",
    "coding after chunks": "transfer-encoding: chunked, identity",
    "space before colon": "content-length : {n}",
    "folded line": "content-length:\r\n {n}",
    "line feed only": "x: y\ncontent-length: {n}",
    "return only": "x: y\rcontent-length: {n}",
    "null in name": "content\x00-length: {n}",
    "no length": "x: y",
}


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_ambiguous_framing_smuggles_nothing(guarded: Site, framing: str) -> None:
    """At most one request is answered well for what HAProxy may have taken for one request."""
    length = len(GOOD)
    head = f"POST {CHAT} HTTP/1.1\r\nhost: h\r\nx-api-key: {KEY}\r\n{framing.format(n=length)}"
    before = asked_providers(guarded)
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (length, GOOD)
    send_raw(guarded, head.encode() + b"\r\n\r\n" + (chunk if "chunked" in framing else GOOD))
    assert asked_providers(guarded) - before <= 1
    guarded.send(GOOD, headers={"x-api-key": KEY})


@pytest.mark.parametrize(
    "framing",
    [
        "two lengths",
        "two lengths in one",
        "length and chunks",
        "chunks and length",
        "unknown coding",
        "two codings",
        "coding after chunks",
        "space before colon",
        "null in name",
        "return only",
    ],
)
def test_conflicting_framing_is_refused(guarded: Site, framing: str) -> None:
    """The connection is closed after a 400, so what follows is not read as a request."""
    head = f"POST {CHAT} HTTP/1.1\r\nhost: h\r\n{FRAMINGS[framing].format(n=4)}\r\n\r\n0\r\n\r\n"
    before = asked_providers(guarded)
    answer = send_raw(guarded, head.encode() + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert asked_providers(guarded) == before


class Canary:
    """A server that nothing may connect to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.callers = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            self.callers += 1
            line.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def watched_canary() -> Iterator[Canary]:
    """Fails if anything has connected to the canary."""
    canary = Canary()
    try:
        yield canary
        assert canary.callers == 0
    finally:
        canary.close()


def test_canary_notices_a_caller() -> None:
    """Else the tests with it could not fail."""
    canary = Canary()
    socket.create_connection(("127.0.0.1", canary.port)).close()
    eventually(lambda: canary.callers == 1, 5)
    canary.close()


def body_of(path: str, model: str, **fields: Any) -> bytes:
    """A request on a surface."""
    words = [{"role": "user", "content": "hi"}]
    asked = {"input": "hi"} if path == RESPONSES else {"messages": words, "max_tokens": 9}
    return json.dumps({"model": model, **asked, **fields}).encode()


FIELDS: Final = (
    "base_url",
    "api_base",
    "api_base_url",
    "host",
    "endpoint",
    "url",
    "proxy",
    "server",
)


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, "/v1/route", "/routing/v1/messages"])
@pytest.mark.parametrize("model", ["dedicated/parrot", "claude/parrot", "auto"])
def test_client_does_not_choose_the_address(guarded: Site, path: str, model: str) -> None:
    """No field and no header of a request leads the gateway, or its key, to another server."""
    with watched_canary() as canary:
        url = f"http://127.0.0.1:{canary.port}"
        headers = {
            "x-api-key": KEY,
            "x-forwarded-host": f"127.0.0.1:{canary.port}",
            "x-base-url": url,
            "x-portkey-custom-host": url,
            "helicone-target-url": url,
            "forwarded": f"host=127.0.0.1:{canary.port}",
            "host": f"127.0.0.1:{canary.port}",
            "x-arch-upstream": url,
        }
        fields = dict.fromkeys(FIELDS, url)
        extra = {"extra_body": fields, "litellm_params": fields, "metadata": fields}
        guarded.send(body_of(path, model, **fields, **extra), path=path, headers=headers)


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
@pytest.mark.parametrize("where", ["hint", "model", "models", "fallbacks", "routes"])
def test_name_of_a_model_is_no_address(guarded: Site, path: str, where: str) -> None:
    """The name stays a word in the body: the provider's path and host are the configured ones."""
    with watched_canary() as canary:
        at = f"127.0.0.1:{canary.port}"
        for name in (
            f"http://{at}/v1",
            f"//{at}",
            f"dedicated/parrot@{at}",
            f"dedicated/@{at}/x",
            "dedicated/../../admin",
            "dedicated/parrot?x=1",
            "dedicated/parrot#x",
            "dedicated/%2e%2e%2fadmin",
            "dedicated/parrot\\..\\x",
        ):
            fields: dict[str, Any] = {}
            headers = {"x-api-key": KEY}
            if where == "hint":
                headers["x-arch-llm-provider-hint"] = name
            elif where == "routes":
                route = {"name": "r", "description": "d", "models": [name]}
                fields["routing_preferences"] = [route]
            elif where != "model":
                fields[where] = [name]
            model = name if where == "model" else "nothing/at-all"
            sent = guarded.send(body_of(path, model, **fields), path=path, headers=headers)
            assert sent.status in {200, 400, 404, 501}, name
    for provider in guarded.providers.values():
        allowed = {f"/v1{end}" for end in ("/chat/completions", "/messages", "/responses")}
        assert {exchange.path for exchange in provider.ledger.exchanges} <= allowed


@pytest.mark.parametrize("model", ["dedicated/parrot", "claude/parrot"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_linked_images_and_files_are_not_fetched(guarded: Site, path: str, model: str) -> None:
    """Neither passed through nor translated: a provider that takes links fetches them itself."""
    with watched_canary() as canary:
        url = f"http://127.0.0.1:{canary.port}/latest/meta-data"
        parts: Any = {
            CHAT: [{"type": "image_url", "image_url": {"url": url}}],
            MESSAGES: [
                {"type": "image", "source": {"type": "url", "url": url}},
                {"type": "document", "source": {"type": "url", "url": url}},
            ],
            RESPONSES: [
                {"type": "input_image", "image_url": url},
                {"type": "input_file", "file_url": url},
            ],
        }[path]
        turn = [{"role": "user", "content": parts}]
        field = "input" if path == RESPONSES else "messages"
        before = asked_providers(guarded)
        sent = guarded.send(
            body_of(path, model, **{field: turn}), path=path, headers={"x-api-key": KEY}
        )
        if sent.status != 400:  # chat has no part for a file behind a link
            assert asked_providers(guarded) == before + 1


def test_kept_answers_are_no_paths(guarded: Site, tmp_path: Path) -> None:
    """An id with a path in it is an id that is not known, and opens no file."""
    (tmp_path / "secret").write_text("s3cret-content")
    before = asked_providers(guarded)
    for name in (
        "..",
        "..%2f..%2fv1%2fmodels",
        f"%2f{tmp_path}%2fsecret",
        "file:%2f%2f%2fetc%2fpasswd",
    ):
        for below in ("", "/input_items", "/cancel"):
            method = "POST" if below == "/cancel" else "GET"
            answer = guarded.send(
                method=method, path=f"/v1/responses/{name}{below}", headers={"x-api-key": KEY}
            )
            assert answer.status in {404, 405}
            assert b"s3cret" not in answer.body
    assert asked_providers(guarded) == before
