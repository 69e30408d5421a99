"""Clients' own keys, and several endpoints of one model, through the API and over the hop."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, Answered, Site, closed_port
from tests.wire.conftest import serve_api

ENTRIES: list[dict[str, Any]] = [
    {"model": "own/*", "provider_interface": "openai", "passthrough_auth": True},
    {"model": "inline/*", "provider_interface": "openai", "passthrough_auth": True},
    {"model": "twice/x", "provider_interface": "vllm", "access_key": "$KEY_1"},
    {"model": "twice/x", "provider_interface": "vllm", "access_key": "$KEY_2"},
    {"model": "half/x", "provider_interface": "vllm"},
    {"model": "half/x", "provider_interface": "vllm", "access_key": "$KEY_2"},
    {"model": "mine/gpt-5", "provider_interface": "openai", "access_key": "$KEY_1"},
]
ENVIRON = {"KEY_1": SECRET, "KEY_2": "sk-second-key-000000"}


@pytest.fixture(scope="module")
def keys_site(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway with providers that use the client's key, and models with two endpoints."""
    entries = [{**entry, "base_url": providers["shared"].url} for entry in ENTRIES]
    entries[4]["base_url"] = f"http://127.0.0.1:{closed_port()}"
    file = tmp_path_factory.mktemp("keys") / "gateway.yaml"
    file.write_text(json.dumps({"version": "v0.4.0", "model_providers": entries}))
    with serve_api(file, providers, ENVIRON) as running:
        yield running


def ask(site: Site, model: str, **headers: str) -> Answered:
    """Requests an answer with these headers, in which `_` stands for `-`."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.send(json.dumps(body).encode(), headers=shown)


@pytest.mark.parametrize("model", ["own/x", "inline/x"])
@pytest.mark.parametrize(
    "shown", [{"authorization": "Bearer sk-mine-1"}, {"x-api-key": "sk-mine-1"}]
)
def test_passthrough_provider_gets_client_key(
    model: str, shown: dict[str, str], keys_site: Site
) -> None:
    """A provider with `passthrough_auth` gets the client's key in its own header, inside the
    ingress and over the hop.
    """
    body = json.dumps({"model": model, "messages": []}).encode()
    assert keys_site.send(body, headers=shown).status == 200
    headers = keys_site.exchange("shared").headers
    assert headers["authorization"] == "Bearer sk-mine-1"
    assert "x-api-key" not in headers


def test_missing_client_credential_is_reported(keys_site: Site) -> None:
    """If a passthrough provider needs a key that the client has not sent, the error explains how to
    send it.
    """
    answer = keys_site.ask("own/x")
    assert (answer.status, answer.error["code"]) == (503, "provider_key_missing")
    assert "send it as `Authorization: Bearer ...`" in answer.error["message"]


def test_client_key_does_not_reach_provider_with_own_key(keys_site: Site) -> None:
    """A provider with a configured key gets that key and not the client's."""
    body = json.dumps({"model": "mine/gpt-5", "messages": []}).encode()
    keys_site.send(body, headers={"authorization": "Bearer sk-mine-1", "x-api-key": "sk-mine-2"})
    headers = keys_site.exchange("shared").headers
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert "sk-mine" not in str(headers)


def test_requests_alternate_between_keys_of_model(keys_site: Site) -> None:
    """Requests without a session alternate between the two keys of a model."""
    used = []
    for _ in range(4):
        assert ask(keys_site, "twice/x", x_fingerpost_affinity="off").status == 200
        used.append(keys_site.exchange("shared").headers["authorization"])
    assert sorted(used[:2]) == sorted(f"Bearer {key}" for key in ENVIRON.values())
    assert used[:2] == used[2:]


def test_conversation_stays_on_key_of_model(keys_site: Site) -> None:
    """Requests of a session, and those that begin alike, use one key; sessions use both."""
    by_session = {}
    for session in ("", *map(str, range(12))):
        used = set()
        for _ in range(2):
            assert ask(keys_site, "twice/x", x_session_id=session).status == 200
            used.add(keys_site.exchange("shared").headers["authorization"])
        (by_session[session],) = used
    assert len({*by_session.values()}) == 2


def test_request_fails_over_to_other_endpoint_of_model(keys_site: Site) -> None:
    """If one endpoint of a model is down, the other one answers, at the cost of one attempt."""
    attempts = []
    for _ in range(4):
        answer = ask(keys_site, "half/x", x_fingerpost_affinity="off")
        assert (answer.status, answer.headers["x-fingerpost-model"]) == (200, "half/x")
        attempts.append(answer.headers["x-fingerpost-attempts"])
    assert sorted(attempts) == ["1", "1", "2", "2"]


def test_quirk_edits_body_only_where_needed(keys_site: Site) -> None:
    """The provider gets the client's bytes, except the model's name and the key that the quirk
    renames.
    """
    sent = b'{ "max_tokens" : 5,"model":"mine/gpt-5" ,"messages":[ ], "x":"\\u00e9" }'
    assert keys_site.send(sent).status == 200
    got = b'{ "max_completion_tokens" : 5,"model":"gpt-5" ,"messages":[ ], "x":"\\u00e9" }'
    assert keys_site.exchange("shared").body == got
