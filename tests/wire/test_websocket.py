"""WebSocket handshakes at a gateway with a client key."""

import json
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response
from websockets.sync.client import connect

from serve_app.telemetry.metrics import Metric
from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, Site, write_config
from tests.wire.conftest import FakeMeter, serve_api

KEY = "fp-client-key-1"
ENVIRON = {"FINGERPOST_TEST_KEY": SECRET, "CLIENT_KEY": KEY}
METER = FakeMeter()


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway that requires a key, and whose samples are in ``METER``."""
    file = write_config(tmp_path_factory.mktemp("websocket"), providers)
    file.write_text(json.dumps({**json.loads(file.read_text()), "client_keys": ["$CLIENT_KEY"]}))
    with serve_api(file, providers, ENVIRON, METER) as site:
        yield site


def refused(site: Site, path: str, headers: dict[str, str]) -> Response:
    """The answer to a handshake."""
    url = f"{site.url.replace('http', 'ws', 1)}{path}"
    with pytest.raises(InvalidStatus) as caught:
        connect(url, additional_headers=headers, proxy=None)
    return caught.value.response


def test_handshake_without_a_key_is_a_401(guarded: Site) -> None:
    """Access is decided before everything else, so the client hears of its key first."""
    answer = refused(guarded, "/v1/responses", {"x-api-key": "wrong"})
    error = json.loads(answer.body)["error"]
    assert (answer.status_code, error["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses?x=1", "/v1/realtime"])
def test_handshake_with_a_key_is_a_426(guarded: Site, path: str) -> None:
    """No path supports WebSocket; the message names the path and what to do."""
    answer = refused(guarded, path, {"authorization": f"Bearer {KEY}"})
    error = json.loads(answer.body)["error"]
    assert (answer.status_code, error["code"]) == (426, "websocket_unsupported")
    assert f"{path.partition('?')[0]} does not support WebSocket; send" in error["message"]


def test_handshake_of_an_anthropic_client_is_refused_in_its_shape(guarded: Site) -> None:
    """The header of its version says how it reads errors."""
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    body = json.loads(refused(guarded, "/v1/responses", headers).body)
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")


def test_handshake_counts_as_a_failed_request(guarded: Site) -> None:
    """The metrics have it under its surface."""
    before = dict(METER.counts)
    refused(guarded, "/v1/responses", {"x-api-key": KEY})
    new = {key for key, count in METER.counts.items() if count != before.get(key)}
    assert any("426" in labels and "responses" in labels for _, labels in new), new
    assert all(isinstance(metric, Metric) for metric, _ in new)
