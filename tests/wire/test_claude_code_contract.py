"""What Claude Code needs of a gateway, point by point: input, streams, models, headers, paths.

Errors are in test_claude_code_errors.py.
"""

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.scripted_provider import Exchange, ScriptedProvider
from tests.site import MESSAGES, Answered, Site
from tests.wire.claude_code import (
    BETAS,
    BODY,
    DISCOVERY,
    ENVIRON,
    FIRST_EVENTS,
    GATE,
    HINTS,
    KEY,
    LAST_EVENTS,
    MAIN,
    MESSAGE,
    PROVIDER_KEY,
    SAFEGUARDS,
    STAINLESS,
    SUBAGENT,
    script_for,
    write_contract_config,
)
from tests.wire.conftest import serve_api

COUNT = f"{MESSAGES}/count_tokens"
LIST = "/v1/models?limit=1000"


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    """A provider that speaks three dialects."""
    with ScriptedProvider(find=script_for) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, provider: ScriptedProvider) -> Iterator[Site]:
    """The gateway that Claude Code is pointed to."""
    config = write_contract_config(tmp_path_factory.mktemp("contract"), provider.url)
    with serve_api(config, {"all": provider}, ENVIRON) as running:
        yield running


def send(
    site: Site, fields: dict[str, Any], headers: dict[str, str] = MAIN, path: str = MESSAGES
) -> Answered:
    """Sends a request as the program does, with ``?beta=true``."""
    body = json.dumps({**BODY, **fields}, ensure_ascii=False).encode()
    return site.send(body, path=f"{path}?beta=true", headers=headers)


def upstream(site: Site) -> Exchange:
    """The last request that the provider got."""
    return site.exchange("all")


@pytest.mark.parametrize("headers", [MAIN, SUBAGENT], ids=["main", "subagent"])
def test_unknown_input_passes_unchanged(headers: dict[str, str], site: Site) -> None:
    """Fields, betas and headers that the gateway does not know do not fail a request."""
    answer = send(site, {}, {**headers, "x-unheard-of": "1"})
    assert answer.status == 200
    assert answer.json == MESSAGE
    got = upstream(site)
    assert got.json == {**BODY, "model": "claude-sonnet-4-5"}
    assert got.path == "/v1/messages?beta=true"
    assert got.headers["anthropic-beta"] == BETAS
    assert answer.headers["request-id"] == "req_1"


def test_unknown_input_does_not_fail_a_translated_request(site: Site) -> None:
    """A provider of another dialect gets what it can take, and none of Anthropic's betas."""
    answer = send(site, {"model": "chat/m"})
    assert answer.status == 200
    assert answer.json["type"] == "message"
    assert "anthropic-beta" not in upstream(site).headers
    assert "diagnostics" not in upstream(site).json


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
def test_body_goes_to_both_paths(path: str, site: Site) -> None:
    """The body of a message is answered on both paths, whatever the query."""
    answer = send(site, {}, path=path)
    assert answer.status == 200
    assert upstream(site).path == f"{path}?beta=true"
    assert answer.json == ({"input_tokens": 77} if path == COUNT else MESSAGE)


@pytest.mark.parametrize("model", ["native/gated", "chat/gated"])
def test_streams_are_not_buffered(model: str, site: Site) -> None:
    """The first words reach the client while the provider still holds the last ones back."""
    GATE.clear()
    body = json.dumps({**BODY, "model": model, "stream": True}).encode()
    line = http.client.HTTPConnection(site.host, site.port, timeout=10)
    with contextlib.closing(line):
        line.request("POST", f"{MESSAGES}?beta=true", body, MAIN)
        answer = line.getresponse()
        first = b""
        while b"Hello" not in first:
            first += answer.read1()
        assert b"message_stop" not in first
        GATE.set()
        assert answer.read().rstrip().endswith(b'"message_stop"}')


def test_streams_keep_pings_and_all_bytes(site: Site) -> None:
    """A stream of the same dialect is relayed byte for byte, its pings included."""
    answer = send(site, {"stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body == FIRST_EVENTS + LAST_EVENTS
    assert answer.body.count(b"event: ping") == 2


def test_safety_check_passes_both_ways(site: Site) -> None:
    """The field, the beta and the results of the safety check are the provider's own."""
    betas = f"{BETAS},dangerous-tool-use-2026-09-09"
    answer = send(site, SAFEGUARDS, {**MAIN, "anthropic-beta": betas})
    assert upstream(site).json["safeguards"] == SAFEGUARDS["safeguards"]
    assert upstream(site).headers["anthropic-beta"] == betas
    assert answer.json["safeguard_results"] == MESSAGE["safeguard_results"]
    stream = send(site, {**SAFEGUARDS, "stream": True})
    assert b'"safeguard_results"' in stream.body


@pytest.mark.parametrize("model", ["chat/m", "responses/m"])
@pytest.mark.parametrize("stream", [False, True])
def test_safety_check_is_refused_by_name_elsewhere(model: str, stream: bool, site: Site) -> None:
    """Where it can't pass, the error names the field, and the client sends it again without."""
    answer = send(site, {**SAFEGUARDS, "model": model, "stream": stream})
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert "safeguards" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "keys",
    [
        {"authorization": f"Bearer {KEY}"},
        {"x-api-key": KEY},
        {"authorization": f"Bearer {KEY}", "x-api-key": KEY},
        {"authorization": "Bearer sk-ant-other", "x-api-key": KEY},
        {"authorization": f"Bearer {KEY}", "x-api-key": "sk-ant-other"},
    ],
)
def test_model_discovery_takes_either_key(keys: dict[str, str], site: Site) -> None:
    """One right key is enough, whatever the other header has."""
    headers = {**{name: DISCOVERY[name] for name in DISCOVERY if name != "authorization"}, **keys}
    assert site.send(method="GET", path=LIST, headers=headers).status == 200


def test_model_discovery_shows_names_for_people(site: Site) -> None:
    """Aliases show routing policies in ``/model``; what is configured wins over what follows."""
    answer = site.send(method="GET", path=LIST, headers=DISCOVERY)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    shown = {entry["id"]: entry for entry in answer.json["data"]}
    assert [name for name in shown if "claude" in name] == [
        "native/claude-sonnet-4-5",
        "chat/claude-sonnet-4-5",
        "responses/claude-sonnet-4-5",
        "claude-auto",
        "claude-work",
        "claude-chat",
    ]
    assert shown["native/claude-sonnet-4-5"] == {
        "type": "model",
        "id": "native/claude-sonnet-4-5",
        "display_name": "Sonnet",
        "created_at": "1970-01-01T00:00:00Z",
        "description": "Everyday work",
        "max_input_tokens": 150_000,
        "max_tokens": 64_000,
    }
    routed = shown["claude-auto"]
    assert routed["display_name"] == "claude-auto (routed)"
    about = "Chooses between code and poems by what the conversation is about"
    assert routed["description"] == about
    assert routed["max_input_tokens"] == 150_000
    assert (shown["claude-work"]["display_name"], shown["claude-work"]["description"]) == (
        "Work",
        "For work",
    )


def test_model_discovery_answers_within_three_seconds(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    """The first list of a gateway comes in time, and does not redirect."""
    with serve_api(write_contract_config(tmp_path, provider.url), {}, ENVIRON) as fresh:
        started = time.monotonic()
        answer = fresh.send(method="GET", path=LIST, headers=DISCOVERY)
        assert time.monotonic() - started < 3.0
        assert answer.status == 200


def test_model_discovery_pages_for_anthropic_clients_only(site: Site) -> None:
    """The official SDK follows the pages; a client of OpenAI gets the whole list."""
    with anthropic.Anthropic(base_url=site.url, api_key=KEY) as client:
        names = [model.id for model in client.models.list(limit=2)]
        page = client.models.list(limit=2)
    assert page.has_more
    assert page.last_id == names[1]
    with site.client(api_key=KEY) as other:
        whole = [model.id for model in other.models.list(extra_query={"limit": 2})]
    assert names == whole


def test_model_discovery_refuses_impossible_limits(site: Site) -> None:
    """The error has Anthropic's shape."""
    answer = site.send(method="GET", path="/v1/models?limit=0", headers=DISCOVERY)
    assert answer.status == 400
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == "invalid_request_error"


def test_hint_headers_stay_here(site: Site) -> None:
    """They are for the gateway, and tell a provider nothing about the user's work."""
    assert send(site, {}, SUBAGENT).status == 200
    assert not [name for name in upstream(site).headers if name.startswith("x-claude-")]
    assert HINTS.keys() <= SUBAGENT.keys()


def test_to_upstream_goes_an_allow_list(site: Site) -> None:
    """The provider gets its own key, and of the client's headers those of the API."""
    assert send(site, {}, {**MAIN, "cookie": "a=b", "x-forwarded-for": "1.2.3.4"}).status == 200
    got = upstream(site).headers
    kept = ("accept", "anthropic-beta", "anthropic-version", "user-agent", "x-app")
    assert {name: got[name] for name in kept} == {name: MAIN[name] for name in kept}
    assert {name: got[name] for name in STAINLESS} == STAINLESS
    assert got["content-type"] == "application/json"
    assert got["x-api-key"] == PROVIDER_KEY
    assert "authorization" not in got
    assert KEY not in str(got)
    assert not {"cookie", "x-forwarded-for", "anthropic-dangerous-direct-browser-access"} & set(got)


def test_to_upstream_goes_the_clients_key_only_where_configured(site: Site) -> None:
    """A key of the provider's, sent beside the gateway's, goes to a provider that wants it."""
    own = {**MAIN, "authorization": "Bearer sk-ant-api-own", "x-api-key": KEY}
    assert send(site, {"model": "theirs/m"}, own).status == 200
    assert upstream(site).headers["x-api-key"] == "sk-ant-api-own"
    assert send(site, {}, own).status == 200
    assert "sk-ant-api-own" not in str(upstream(site).headers)
    asked = len(site.providers["all"].ledger.exchanges)
    assert send(site, {"model": "theirs/m"}).status == 503  # the gateway's key is not the client's
    assert len(site.providers["all"].ledger.exchanges) == asked


def test_betas_are_neither_checked_nor_invented(site: Site) -> None:
    """The list goes on as it came; without one, none is sent."""
    without = {name: value for name, value in MAIN.items() if name != "anthropic-beta"}
    assert send(site, {}, without).status == 200
    assert "anthropic-beta" not in upstream(site).headers


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_probes_need_no_key(method: str, site: Site) -> None:
    """The program asks for ``/`` before its first request."""
    assert site.send(method=method, path="/").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/oauth/usage",
        "/login",
        "/managed/settings",
        "/.well-known/oauth-authorization-server",
        "/v1/metrics",
        "/v1/messages/batches",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_optional_paths_are_not_found(path: str, method: str, site: Site) -> None:
    """Sign-in, managed settings, telemetry and the budget are answered with a clean no."""
    answer = site.send(method=method, path=path, headers=DISCOVERY)
    assert answer.status == 404
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == "not_found_error"
    bare = site.send(method=method, path=path, headers={"x-api-key": KEY})
    assert (bare.status, bool(bare.json["error"]["message"])) == (404, True)


@pytest.mark.parametrize("path", ["/v1/v1/messages", "/v1/v1/messages/count_tokens"])
def test_base_url_with_version_is_explained(path: str, site: Site) -> None:
    """A base URL that ends in /v1 is the usual mistake; the error says so."""
    answer = site.send(b"{}", path=f"{path}?beta=true", headers={"x-api-key": KEY})
    assert answer.status == 404
    assert answer.json["error"]["type"] == "not_found_error"
    message = answer.json["error"]["message"]
    assert "ANTHROPIC_BASE_URL" in message
    assert "does not end in /v1" in message
    assert repr(path.removeprefix("/v1")) in message
