"""Pass-through: what goes in comes out, byte for byte, but for the model's name."""

import json
import random
from typing import Any

import pytest

from tests.site import DATA_PATHS, Site

BODIES = [
    b'{"model":"%s","messages":[{"role":"user","content":"hi"}]}',
    b'{ "messages" : [ ] ,\r\n\t"model"\n:\n"%s" , "seed": 1.50e+3, "x": -0, "y": 1E400 }',
    '{"user":"é\\u00e9\\ud83d\\ude00😀\u2028","model":"%s","messages":[],"stop":null}'.encode(),
    b'{"a":1,"a":2,"model":"%s","messages":[],"extra_body":{"guided_json":{"model":"inner"}}}',
    b'{"tools":[{"type":"custom","x":{"y":[[],{}]}}],"messages":[],"model":"%s"}  \n',
]


@pytest.mark.parametrize("data_path", DATA_PATHS)
@pytest.mark.parametrize("body", BODIES)
def test_a_request_changes_in_its_model_alone(site: Site, data_path: str, body: bytes) -> None:
    """Spacing, order, escapes, number forms, repeated and unknown keys are kept."""
    answer = site.send(body % f"{data_path}/parrot".encode())
    seen = site.exchange(data_path)
    assert seen.body == body % b"parrot"
    assert answer.body == seen.answered
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("data_path", DATA_PATHS)
@pytest.mark.parametrize("script", ["parrot", "slow", "no-done"])
def test_a_stream_comes_as_it_was_sent(site: Site, data_path: str, script: str) -> None:
    """Every byte of a stream arrives, unknown fields and all."""
    answer = site.ask(f"{data_path}/{script}", stream=True, max_tokens=40)
    assert answer.body == site.exchange(data_path).answered
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("data_path", DATA_PATHS)
def test_our_own_fields_are_taken_out(site: Site, data_path: str) -> None:
    """Fields that are meant for the gateway do not reach the provider."""
    body: dict[str, Any] = {
        "models": [],
        "model": f"{data_path}/parrot",
        "messages": [],
        "metadata": {"plano_preference_config": "x", "mine": "y"},
        "fallbacks": [],
    }
    site.send(json.dumps(body).encode())
    assert site.exchange(data_path).body == (
        b'{"model": "parrot", "messages": [], "metadata": {"mine": "y"}}'
    )


@pytest.mark.parametrize("data_path", DATA_PATHS)
@pytest.mark.parametrize("megabytes", [5, 30])
def test_large_bodies_cross(site: Site, data_path: str, megabytes: int) -> None:
    """5 MB and 30 MB go through whole, on every data path."""
    noise = random.Random(megabytes).randbytes(megabytes * 500_000).hex()
    body = json.dumps(
        {"model": f"{data_path}/parrot", "messages": [{"role": "user", "content": noise}]}
    ).encode()
    answer = site.send(body)
    assert answer.status == 200
    seen = site.exchange(data_path)
    assert seen.body == body.replace(f"{data_path}/parrot".encode(), b"parrot", 1)
    seen.body = b""
