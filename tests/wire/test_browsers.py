"""Web pages in browsers: preflights, answers that pages may read, and pages that may not call."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.api.surfaces import SURFACES
from serve_app.config.locations import ConfigError
from serve_app.snapshot import compile_snapshot
from tests.scripted_provider import ScriptedProvider
from tests.site import CHAT, MESSAGES, RESPONSES, SECRET, Answered, Site, write_config
from tests.wire.conftest import serve_api

KEY: Final = "fp-client-key-1"
LISTED: Final = "https://app.example.com"
OWN: Final = "http://localhost:5173"
FOREIGN: Final = "https://elsewhere.example"
ENVIRON: Final = {"FINGERPOST_TEST_KEY": SECRET}
SDK_HEADERS: Final = (
    "authorization,anthropic-dangerous-direct-browser-access,anthropic-version,content-type,"
    "x-api-key,x-fingerpost-key,x-stainless-arch,x-stainless-retry-count"
)
"""What the official SDKs ask for in a browser."""


def _site_config(folder: Path, providers: dict[str, ScriptedProvider], **changes: Any) -> Path:
    file = write_config(folder, providers)
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return file


@pytest.fixture(scope="module")
def open_site(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway without client keys, with one listed page."""
    cors = {"allow_origins": ["https://APP.example.com:443/"]}
    file = _site_config(tmp_path_factory.mktemp("open"), providers, cors=cors)
    with serve_api(file, providers, ENVIRON) as running:
        yield running


@pytest.fixture(scope="module")
def keyed_site(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway with a client key, with one listed page."""
    cors = {"allow_origins": [LISTED]}
    folder = tmp_path_factory.mktemp("keyed")
    file = _site_config(folder, providers, cors=cors, client_keys=[KEY])
    with serve_api(file, providers, ENVIRON) as running:
        yield running


def preflight(site: Site, path: str, origin: str, method: str = "POST", **more: str) -> Answered:
    """The question of a browser, which carries no key."""
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": SDK_HEADERS,
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return site.send(method="OPTIONS", path=path, headers=headers)


@pytest.mark.parametrize("path", [*SURFACES, "/v1/models", "/v1/responses/x", "/healthz", "/none"])
@pytest.mark.parametrize("origin", [OWN, LISTED, "http://127.0.0.1:3000", "app://desktop"])
def test_preflight_is_answered_without_a_key(keyed_site: Site, path: str, origin: str) -> None:
    """On every path, with every header that an SDK sends and every method that the path has."""
    answer = preflight(keyed_site, path, origin)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-allow-headers"] == SDK_HEADERS
    assert {"GET", "POST", "DELETE"} <= set(
        answer.headers["access-control-allow-methods"].split(", ")
    )
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-private-network" not in answer.headers


def test_preflight_of_a_public_page_to_a_private_address_is_answered(open_site: Site) -> None:
    """Browsers ask for it when a listed page of the internet calls this machine."""
    answer = preflight(open_site, CHAT, LISTED, access_control_request_private_network="true")
    assert answer.headers["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize("origin", [FOREIGN, "null", "https://app.example.com.evil.example"])
def test_preflight_of_another_page_allows_nothing(
    keyed_site: Site, open_site: Site, origin: str
) -> None:
    """With client keys the answer says nothing; without them it is refused like the request."""
    answer = preflight(keyed_site, CHAT, origin)
    assert [name for name in answer.headers if name.startswith("access-control-")] == []
    refused = preflight(open_site, CHAT, origin)
    assert (refused.status, refused.error["code"]) == (403, "anonymous_refused")
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("names", ["x-a\tb", "x a", "x-a,,x-b", "é", "x" * 9000, ""])
def test_preflight_echoes_header_names_only(keyed_site: Site, names: str) -> None:
    """Whatever else the browser's header contains does not come back."""
    answer = preflight(
        keyed_site, CHAT, OWN, access_control_request_headers=names.encode().decode("latin-1")
    )
    assert answer.status == 200
    assert "access-control-allow-headers" not in answer.headers


def test_options_without_origin_is_no_preflight(keyed_site: Site) -> None:
    """It needs a key and is refused as a method, as before."""
    headers = {"access-control-request-method": "POST"}
    assert keyed_site.send(method="OPTIONS", headers=headers).status == 401
    mine = {"x-api-key": KEY, "origin": OWN}
    assert keyed_site.send(method="OPTIONS", headers=mine).status == 405


def _body(path: str, model: str, *, stream: bool = False) -> bytes:
    asked = (
        {"input": "hi"} if path == RESPONSES else {"messages": [{"role": "user", "content": "hi"}]}
    )
    return json.dumps({"model": model, "max_tokens": 9, "stream": stream, **asked}).encode()


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
@pytest.mark.parametrize(
    ("model", "stream", "status"),
    [
        ("dedicated/parrot", False, 200),
        ("dedicated/parrot", True, 200),
        ("dedicated/status-429", False, 429),
        ("dedicated/die-midstream", True, 200),
        ("nothing/at-all", False, 404),
        ("keyless/any", False, 503),
    ],
)
def test_page_reads_every_answer(
    open_site: Site, path: str, model: str, stream: bool, status: int
) -> None:
    """Complete ones, streams, streams that break, and errors of providers and of the gateway."""
    answer = open_site.send(
        _body(path, model, stream=stream), path=path, headers={"origin": LISTED}
    )
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert answer.headers["access-control-expose-headers"] == "*"
    assert answer.names.count("vary") == 1
    assert answer.headers["vary"] == "origin"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/models", {"x-api-key": KEY}, 200),
        ("GET", "/v1/models", {}, 401),
        ("GET", "/v1/none", {"x-api-key": KEY}, 404),
        ("GET", CHAT, {"x-api-key": KEY}, 405),
        ("POST", CHAT, {"x-api-key": KEY}, 400),
        ("POST", CHAT, {"x-api-key": KEY, "x-big": "h" * 70_000}, 431),
        ("GET", "/healthz", {}, 200),
    ],
)
def test_page_reads_errors_before_any_decision(
    keyed_site: Site, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """A page that cannot read an error shows only that the network failed."""
    answer = keyed_site.send(b"", method=method, path=path, headers={**headers, "origin": OWN})
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == OWN
    assert answer.headers["access-control-expose-headers"] == "*"


def test_page_that_is_not_listed_reads_nothing(keyed_site: Site) -> None:
    """With a key its request is answered, as that of any program, but its browser keeps the answer."""
    answer = keyed_site.send(
        _body(CHAT, "dedicated/parrot"), headers={"origin": FOREIGN, "x-api-key": KEY}
    )
    assert answer.status == 200
    assert answer.headers["vary"] == "origin"
    assert [name for name in answer.headers if name.startswith("access-control-")] == []


def test_programs_get_no_headers_for_pages(open_site: Site) -> None:
    """A request without an origin is answered as before."""
    headers = open_site.ask("dedicated/parrot").headers
    assert "vary" not in headers
    assert [name for name in headers if name.startswith("access-control-")] == []


def test_every_page_may_call_where_keys_are_required(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> None:
    """`*` echoes the origin, also that of files, and never allows cookies."""
    everyone = {"allow_origins": ["*"]}
    file = _site_config(tmp_path, providers, cors=everyone, client_keys=[KEY])
    with serve_api(file, providers, ENVIRON) as site:
        for origin in (FOREIGN, "null"):
            answer = site.send(
                _body(CHAT, "dedicated/parrot"), headers={"origin": origin, "x-api-key": KEY}
            )
            assert answer.headers["access-control-allow-origin"] == origin
            assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("origins", "message"),
    [
        (["*"], "'*' lets every web page use this gateway without a key"),
        (["https://app.example.com/path"], "must be scheme://host"),
        (["app.example.com"], "must be scheme://host"),
        (["https://*.example.com"], "must be scheme://host"),
        (["null"], "must be scheme://host"),
        ([""], "must not be empty"),
    ],
)
def test_invalid_origin_is_a_problem(origins: list[str], message: str, tmp_path: Path) -> None:
    """An origin that no browser sends would never match, and `*` needs keys."""
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps({"version": "v0.4.0", "cors": {"allow_origins": origins}}))
    with pytest.raises(ConfigError, match=message.replace("*", r"\*")):
        compile_snapshot(file, {})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LOCALHOST.:8000", 200),
        ("[::1]:8000", 200),
        ("fingerpost.localhost", 200),
        ("host.docker.internal:8000", 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("gateway:8000", 200),
        ("[2001:db8::1]:8000", 403),
        ("192.168.1.5:8000", 403),
        ("0.0.0.0:8000", 403),
        ("127.0.0.1@evil.example", 403),
        ("[::1", 403),
    ],
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/v1/models", "/v1/route", "/none"])
def test_host_of_another_name_is_refused_without_keys(
    open_site: Site, path: str, host: str, status: int
) -> None:
    """A page whose own name was made to mean this machine (DNS rebinding) sends that name."""
    method = "GET" if path == "/v1/models" else "POST"
    body = None if method == "GET" else _body(path, "dedicated/parrot")
    answer = open_site.send(body, method=method, path=path, headers={"host": host})
    if status == 403:
        assert answer.status == 403
        assert b"client_keys" in answer.body
        if path == MESSAGES:
            assert answer.json["error"]["type"] == "permission_error"
    else:
        assert answer.status == (404 if path == "/none" else 200)


def test_host_does_not_matter_with_keys(keyed_site: Site) -> None:
    """Behind a load balancer it is the name of the gateway."""
    headers = {"host": "llm.example.com", "x-api-key": KEY}
    assert keyed_site.send(_body(CHAT, "dedicated/parrot"), headers=headers).status == 200


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
@pytest.mark.parametrize("origin", [FOREIGN, "null", "http://127.0.0.1.evil.example"])
def test_forged_form_of_a_page_spends_nothing(
    open_site: Site, providers: dict[str, ScriptedProvider], content_type: str, origin: str
) -> None:
    """Browsers send such forms without asking first, but with the page's origin."""
    before = len(providers["dedicated"].ledger.exchanges)
    headers = {"origin": origin, "content-type": content_type}
    answer = open_site.send(_body(CHAT, "dedicated/parrot"), headers=headers)
    assert (answer.status, answer.error["code"]) == (403, "anonymous_refused")
    assert len(providers["dedicated"].ledger.exchanges) == before
