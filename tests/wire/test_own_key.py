"""Clients that send two keys: one of this gateway, and one for a provider."""

import json
from collections.abc import Iterator

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, Site
from tests.wire.conftest import serve_api

TEAM, OTHER_TEAM, MINE = "fp-team-key-1", "fp-team-key-2", "sk-mine-11111111"
ENVIRON = {"KEY": SECRET, "TEAM": TEAM, "OTHER_TEAM": OTHER_TEAM}


@pytest.fixture(scope="module")
def keyed_site(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway with client keys, and a provider that gets the client's own."""
    entries: list[dict[str, object]] = [
        {"model": "theirs/*", "provider_interface": "openai", "passthrough_auth": True},
        {"model": "ours/*", "provider_interface": "openai", "access_key": "$KEY"},
    ]
    config = {
        "version": "v0.4.0",
        "model_providers": [{**entry, "base_url": providers["shared"].url} for entry in entries],
        "client_keys": ["$TEAM", "$OTHER_TEAM"],
    }
    file = tmp_path_factory.mktemp("keyed") / "gateway.yaml"
    file.write_text(json.dumps(config))
    with serve_api(file, providers, ENVIRON) as running:
        yield running


def body_for(model: str) -> bytes:
    return json.dumps({"model": model, "messages": []}).encode()


@pytest.mark.parametrize(
    "other", [{"authorization": f"Bearer {MINE}"}, {"x-api-key": MINE}, {"X-Api-Key": MINE}]
)
def test_provider_gets_other_key(keyed_site: Site, other: dict[str, str]) -> None:
    """The key of the gateway admits the client, and the other one goes on."""
    headers = {"X-Fingerpost-Key": TEAM, **other}
    assert keyed_site.send(body_for("theirs/x"), headers=headers).status == 200
    sent = keyed_site.exchange("shared").headers
    assert sent["authorization"] == f"Bearer {MINE}"
    assert TEAM not in json.dumps(sent)
    assert not {"x-fingerpost-key", "x-api-key"} & set(sent)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-fingerpost-key": TEAM},
        {"authorization": f"Bearer {TEAM}"},
        {"x-api-key": TEAM},
        {"x-fingerpost-key": TEAM, "authorization": f"Bearer {TEAM}"},
        {"x-fingerpost-key": TEAM, "authorization": f"Bearer {OTHER_TEAM}"},
        {"authorization": f"Bearer {TEAM}", "x-api-key": OTHER_TEAM},
    ],
)
def test_key_of_gateway_is_not_passed_through(keyed_site: Site, headers: dict[str, str]) -> None:
    """Without a second key there is none for the provider, and nothing is sent."""
    before = len(keyed_site.providers["shared"].ledger.exchanges)
    answer = keyed_site.send(body_for("theirs/x"), headers=headers)
    assert (answer.status, answer.error["code"]) == (503, "provider_key_missing")
    assert "x-fingerpost-key" in answer.error["message"]
    assert len(keyed_site.providers["shared"].ledger.exchanges) == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-fingerpost-key": TEAM}, 200),
        ({"x-fingerpost-key": f" {OTHER_TEAM} "}, 200),
        ({"x-fingerpost-key": TEAM, "authorization": "Bearer wrong"}, 200),
        ({"x-fingerpost-key": "wrong", "authorization": f"Bearer {TEAM}"}, 200),
        ({"x-fingerpost-key": f"Bearer {TEAM}"}, 401),
        ({"x-fingerpost-key": "wrong", "authorization": f"Bearer {MINE}"}, 401),
        ({"x-fingerpost-key": ""}, 401),
        ({"authorization": f"Bearer {MINE}"}, 401),
    ],
)
def test_any_of_the_keys_admits_a_client(
    keyed_site: Site, headers: dict[str, str], status: int
) -> None:
    """One of them has to be a client key; the provider with a key of its own gets none of them."""
    answer = keyed_site.send(body_for("ours/x"), headers=headers)
    assert answer.status == status
    if status == 200:
        sent = keyed_site.exchange("shared").headers
        assert sent["authorization"] == f"Bearer {SECRET}"
        assert not {"x-fingerpost-key", "x-api-key"} & set(sent)
    else:
        assert "`x-fingerpost-key: ...`" in answer.error["message"]
