"""Access control against the API alone: client keys, the loopback rule and configured limits."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, Site, write_config
from tests.wire.conftest import FakeMeter, serve_api

KEY = "fp-client-key-1"
ENVIRON = {"FINGERPOST_TEST_KEY": SECRET, "CLIENT_KEY": KEY}


def _configured(folder: Path, providers: dict[str, ScriptedProvider], **changes: Any) -> Path:
    file = write_config(folder, providers)
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, **changes}))
    return file


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway with two client keys, one of which is not set."""
    keys = ["$CLIENT_KEY", "$CLIENT_KEY_UNSET"]
    config = _configured(tmp_path_factory.mktemp("keys"), providers, client_keys=keys)
    with serve_api(config, providers, ENVIRON) as running:
        yield running


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"Authorization": f"bearer {KEY}"}, 200),
        ({"x-api-key": KEY}, 200),
        ({}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": f"Basic {KEY}"}, 401),
        ({"x-api-key": f"{KEY}x"}, 401),
        ({"x-api-key": "$CLIENT_KEY_UNSET"}, 401),
        ({"x-api-key": ""}, 401),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/nothing"])
def test_every_path_except_probes_requires_client_key(
    guarded: Site, headers: dict[str, str], status: int, path: str
) -> None:
    """Every path except the probes requires a client key in either header, even a path that does
    not exist.
    """
    body = b'{"model": "fast", "messages": []}'
    answer = guarded.send(body, path=path, headers=headers, method="POST")
    if status == 401:
        assert answer.status == 401
        assert answer.error["code"] == "invalid_api_key"
        assert answer.error["type"] == "authentication_error"
    else:
        assert answer.status != 401
    assert guarded.send(method="GET", path="/healthz").status == 200
    assert guarded.send(method="HEAD", path="/").status == 200


def test_client_key_is_not_forwarded(guarded: Site) -> None:
    """The provider gets the gateway's key; the client's key is not in any forwarded header."""
    body = b'{"model": "fast", "messages": []}'
    guarded.send(body, headers={"x-api-key": KEY, "cookie": "a=b", "x-forwarded-for": "1.2.3.4"})
    headers = guarded.exchange("dedicated").headers
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert KEY not in json.dumps(headers)
    assert not {"cookie", "x-forwarded-for", "x-api-key"} & set(headers)


def test_anthropic_client_gets_anthropic_error(guarded: Site) -> None:
    """A rejected request gets an error in the dialect of its client."""
    answer = guarded.send(b"{}", headers={"anthropic-version": "2023-06-01"})
    assert answer.status == 401
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(("peer", "status"), [("203.0.113.9", 403), ("127.0.0.1", 200)])
@pytest.mark.parametrize("allowed", [False, True])
def test_other_machine_without_client_keys_is_rejected(
    tmp_path: Path, providers: dict[str, ScriptedProvider], peer: str, status: int, allowed: bool
) -> None:
    """Without client keys, a peer on another machine gets 403 with the key to set, unless anonymous
    access is allowed.
    """
    config = _configured(tmp_path, providers, allow_anonymous=allowed)
    with serve_api(config, providers, ENVIRON, peer=peer) as site:
        answer = site.ask("fast")
        assert answer.status == (200 if allowed else status)
        if answer.status == 403:
            assert answer.error["code"] == "anonymous_refused"
            assert "client_keys" in answer.error["message"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://elsewhere.example", 403),
        ("null", 403),
        ("http://[", 403),
        ("http://localhost:5173", 200),
        ("http://127.0.0.1:8000", 200),
        ("app://desktop", 200),
    ],
)
def test_foreign_origin_without_client_keys_is_rejected(
    tmp_path: Path, providers: dict[str, ScriptedProvider], origin: str, status: int
) -> None:
    """Without client keys, a request that a browser sends for a foreign page gets 403."""
    with serve_api(write_config(tmp_path, providers), providers, ENVIRON) as site:
        body = b'{"model": "fast", "messages": []}'
        assert site.send(body, headers={"origin": origin}).status == status


def test_configured_limits_apply(tmp_path: Path, providers: dict[str, ScriptedProvider]) -> None:
    """The configured limits of bodies and headers apply."""
    limits = {"body_bytes": 1000, "header_bytes": 2048}
    config = _configured(tmp_path, providers, limits=limits)
    with serve_api(config, providers, ENVIRON) as site:
        assert site.ask("fast").status == 200
        assert site.ask("fast", x="y" * 1000).error["code"] == "body_too_large"
        refused = site.send(b"{}", headers={"x-large": "h" * 2048})
        assert refused.error["code"] == "headers_too_large"


def test_route_prefix_is_stripped_from_path(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> None:
    """Under the application's route prefix every path keeps its name."""
    with serve_api(write_config(tmp_path, providers), providers, ENVIRON) as site:
        body = b'{"model": "fast", "messages": []}'
        assert site.send(body, path="/prefix/v1/chat/completions").status == 200
        assert site.send(method="GET", path="/prefix/v1/models").status == 200
        assert site.send(method="GET", path="/prefix/healthz").status == 200


def test_errors_under_route_prefix(tmp_path: Path, providers: dict[str, ScriptedProvider]) -> None:
    """Under it errors are in the dialect of the path, too, before and after it is looked up."""
    with serve_api(write_config(tmp_path, providers), providers, ENVIRON) as site:
        for path, method in (("/v1/messages", "POST"), ("/v1/messages/batches", "GET")):
            answer = site.send(b"", method=method, path=f"/prefix{path}")
            assert answer.json["type"] == "error", path
        answer = site.send(b"", path="/prefix/v1/responses")
        assert answer.error["code"] == "invalid_json"


def test_metric_labels_are_bounded(tmp_path: Path, providers: dict[str, ScriptedProvider]) -> None:
    """A model name that only a wildcard matches is not a metric label."""
    meter = FakeMeter()
    config = write_config(tmp_path, providers)
    with serve_api(config, providers, ENVIRON, meter) as site:
        site.ask("dedicated/some-name-of-a-client")
        site.ask("fast", stream=True)
        site.ask("nobody")
    labels = {label for _, labels in meter.counts for label in labels}
    assert "other" in labels
    assert "dedicated/parrot" in labels
    assert not any("some-name" in label or "nobody" in label for label in labels)
