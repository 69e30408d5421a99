"""Fields of a provider's own API that have the name of one of the gateway's."""

import json
from collections.abc import Iterator

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.site import Site
from tests.wire.conftest import serve_api

REST = b'"provider": { "only":["xai"] },"route":"fallback","messages":[ ] }'


@pytest.fixture(scope="module")
def router_site(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway before OpenRouter and a server of its own."""
    entries = [
        {"model": "openrouter/*", "base_url": providers["inline"].url, "access_key": "sk-router"},
        {"model": "vllm/*", "base_url": providers["shared"].url},
    ]
    file = tmp_path_factory.mktemp("own-fields") / "gateway.yaml"
    file.write_text(json.dumps({"version": "v0.4.0", "model_providers": entries}))
    with serve_api(file, providers, {}) as running:
        yield running


def test_list_of_openrouter_reaches_it(router_site: Site) -> None:
    """Byte for byte, while the gateway's own list is cut out."""
    sent = b'{"model":"openrouter/parrot", "models": ["x-ai/grok-4"],"fallbacks":[], ' + REST
    assert router_site.send(sent).status == 200
    got = b'{"model":"parrot", "models": ["x-ai/grok-4"], ' + REST
    assert router_site.exchange("inline").body == got


def test_list_of_known_names_is_the_gateways(router_site: Site) -> None:
    """It names the fallbacks, and OpenRouter does not see it."""
    sent = b'{"model":"openrouter/status-503", "models": ["vllm/parrot"], ' + REST
    answer = router_site.send(sent)
    assert (answer.status, answer.headers["x-fingerpost-model"]) == (200, "vllm/parrot")
    assert router_site.exchange("inline").body == b'{"model":"status-503", ' + REST
    assert router_site.exchange("shared").body == b'{"model":"parrot", ' + REST


def test_list_of_unknown_names_is_an_error_elsewhere(router_site: Site) -> None:
    """Another provider has no such field."""
    answer = router_site.send(b'{"model":"vllm/parrot", "models": ["x-ai/grok-4"], ' + REST)
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
