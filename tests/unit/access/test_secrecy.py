"""What a client key shows of itself: in the time of a comparison, and in texts."""

import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from serve_app.access.keys import Access, Caller
from serve_app.access_errors import InvalidClientKey
from serve_app.api.admitted import Admitted
from serve_app.api.headers import read_headers
from serve_app.config.warnings import config_warnings
from serve_app.exchange import PATHS, Operation
from serve_app.providers.outgoing import target_of
from tests.unit.config_texts import VERSION as V
from tests.unit.fakes import snapshot_of

CLIENT: Final = "fp-client-0123456789abcdef"
PROVIDER: Final = "sk-provider-0123456789abcdef"
PROXY: Final = "proxy-pass-0123456789"
REDIS: Final = "redis-pass-0123456789"
ENVIRON: Final = {"CLIENT": CLIENT, "PROVIDER": PROVIDER}
CONFIG: Final = f"""{V}
client_keys: [$CLIENT, literal-{CLIENT}]
model_providers:
  - model: vllm/a
    base_url: http://h:1
    access_key: literal-{PROVIDER}
    proxy: http://user:{PROXY}@p:1
    headers: {{x-key: "literal-{PROVIDER}"}}
  - {{model: openai/*, access_key: $PROVIDER}}
orchestrator: {{engine: http, model: m, base_url: "http://h", access_key: literal-{PROVIDER}}}
routing: {{session_cache: {{type: redis, url: "redis://:{REDIS}@h"}}}}
state_storage: {{url: "redis://:{REDIS}@h"}}
"""


def refuse(access: Access, key: bytes) -> None:
    with pytest.raises(InvalidClientKey):
        access.check(Caller("127.0.0.1", "127.0.0.1", None, (key,)))


def median_times(access: Access, keys: Sequence[bytes], rounds: int = 400) -> list[float]:
    """The median time of a refusal for each key, measured in turn so that noise hits all alike."""
    callers = [Caller("127.0.0.1", "127.0.0.1", None, (key,)) for key in keys]
    times: list[list[float]] = [[] for _ in keys]
    for _ in range(rounds):
        for caller, taken in zip(callers, times, strict=True):
            began = time.perf_counter()
            with suppress(InvalidClientKey):
                access.check(caller)
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in times]


def test_refusal_takes_equal_time(tmp_path: Path) -> None:
    """However much of a key is right, and whichever of many keys it resembles.

    The smallest ratio of three runs counts: noise only makes it larger.
    """
    keys = [f"{number:03}-{'k' * 60}" for number in range(50)]
    text = f"{V}client_keys: [{', '.join(keys)}]\n"
    access = Access(snapshot_of(tmp_path, text).config, {})
    first, last = keys[0].encode(), keys[-1].encode()
    tried = [b"x" * 64, first[:-1] + b"x", last[:-1] + b"x", first[:1] + b"x" * 63]
    for key in tried:
        refuse(access, key)
    ratios = []
    for _ in range(3):
        medians = median_times(access, tried)
        ratios.append(max(medians) / min(medians))
    assert min(ratios) < 1.2


def test_texts_of_values_have_no_secret(tmp_path: Path) -> None:
    """Neither the configuration, nor what is made of it, nor what is read of a request."""
    snapshot = snapshot_of(tmp_path, CONFIG)
    access = Access(snapshot.config, ENVIRON)
    headers = [
        (b"authorization", f"Bearer {PROVIDER}".encode()),
        (b"x-api-key", CLIENT.encode()),
        (b"x-fingerpost-key", CLIENT.encode()),
    ]
    facts = read_headers(headers, 10_000)
    caller = Caller("127.0.0.1", None, None, facts.keys)
    targets = [
        target_of(endpoint, Operation.CHAT, PATHS[Operation.CHAT], ENVIRON, 0.0)
        for endpoint in snapshot.providers.endpoints()
    ]
    values = (
        snapshot,
        snapshot.config,
        snapshot.providers.endpoints(),
        access,
        facts,
        caller,
        targets,
        Admitted(snapshot, facts, access.check(caller)),
        config_warnings(snapshot.config, {}),
        config_warnings(snapshot.config, ENVIRON),
    )
    for value in values:
        for shown in (repr(value), str(value)):
            for secret in (CLIENT, PROVIDER, PROXY, REDIS):
                assert secret not in shown
    assert all(target.secrets for target in targets)


@pytest.mark.parametrize(
    ("place", "broken"),
    [
        ("client_keys", "client_keys: [{text: SECRET}]"),
        ("client_keys", "client_keys: SECRET"),
        ("access_key", "model_providers: [{model: openai/a, access_key: [SECRET]}]"),
        ("headers", "model_providers: [{model: openai/a, headers: {a: [SECRET]}}]"),
        ("base_url", "model_providers: [{model: vllm/a, base_url: 'http://u:SECRET@h'}]"),
        ("proxy", "model_providers: [{model: openai/a, proxy: 'socks5://u:SECRET@h'}]"),
        ("url", "routing: {session_cache: {type: redis, url: [SECRET]}}"),
        ("client_keys", "client_keys: ['${K:-SECRET}']"),
    ],
)
def test_problem_of_a_file_shows_no_secret(place: str, broken: str, tmp_path: Path) -> None:
    """The message names the key of the file; a value of the wrong type may be a key all the same."""
    text = f"{V}{broken.replace('SECRET', PROVIDER)}\n"
    with pytest.raises(Exception, match=place) as caught:
        snapshot_of(tmp_path, text)
    assert PROVIDER not in f"{caught.value} {caught.value!r}"
