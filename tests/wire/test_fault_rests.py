"""Faults over many requests: a key that is refused rests alone, and a third of failures costs no answer."""

import json
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any, Final

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.scripts import Headers, Line, Script, answer
from tests.site import CHAT, Site
from tests.wire.conftest import serve_api

GOOD: Final = "sk-good-key-0000000000"
BAD: Final = "sk-bad-key-00000000000"
_REQUESTS: Final = 1000
_FAILING: Final = frozenset({0, 3, 6})
"""The requests of every ten that fail; two in a row never do, so that nothing rests."""


class Flaky:
    """Refuses one key, and fails three of ten requests for the model ``flaky``."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        """How often each model was asked with each key."""

    def script(self, model: str) -> Script:
        """The script of a model."""

        async def play(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
            key = exchange.headers.get("authorization", "").removeprefix("Bearer ")
            number = self.asked[model, key]
            self.asked[model, key] += 1
            if key == BAD:
                line.whole(b'{"error": {"message": "no", "code": "invalid_api_key"}}', 401)
            elif model == "flaky" and number % 10 in _FAILING:
                line.whole(b'{"error": {"message": "scripted"}}', 500)
            else:
                await answer(line, exchange, request)

        return play


@pytest.fixture(scope="module")
def flaky() -> Flaky:
    """What the provider does."""
    return Flaky()


@pytest.fixture(scope="module")
def flaky_site(tmp_path_factory: pytest.TempPathFactory, flaky: Flaky) -> Iterator[Site]:
    """A gateway with models that have two keys, and one that fails now and then."""
    with ScriptedProvider(find=flaky.script) as first, ScriptedProvider() as second:
        both = [{"provider_interface": "vllm", "access_key": key} for key in (BAD, GOOD)]
        entries = [
            {**each, "model": model, "base_url": first.url}
            for model in ("keys/one", "keys/two")
            for each in both
        ]
        entries += [
            {**both[1], "model": "half/flaky", "base_url": first.url},
            {**both[1], "model": "half/steady", "base_url": second.url},
        ]
        file = tmp_path_factory.mktemp("flaky") / "gateway.yaml"
        file.write_text(json.dumps({"version": "v0.4.0", "model_providers": entries}))
        with serve_api(file, {}, {}) as running:
            yield running


def _ask_all(site: Site, body: dict[str, Any], times: int) -> Counter[tuple[int, str]]:
    """Sends a request again and again on one connection; counts statuses and attempts."""
    seen: Counter[tuple[int, str]] = Counter()
    line = HTTPConnection(site.host, site.port, timeout=30)
    sent = json.dumps({**body, "messages": [{"role": "user", "content": "hi"}]})
    headers = {"content-type": "application/json", "x-fingerpost-affinity": "off"}
    for _ in range(times):
        line.request("POST", CHAT, sent, headers)
        reply = line.getresponse()
        reply.read()
        seen[reply.status, reply.headers["x-fingerpost-attempts"]] += 1
    line.close()
    return seen


@pytest.mark.parametrize("stream", [False, True])
def test_refused_key_rests_for_all_its_models(flaky_site: Site, flaky: Flaky, stream: bool) -> None:
    """The other key answers in the same request, and from then on at once; the first is not asked
    for another model either.
    """
    before = Counter(flaky.asked)
    seen = _ask_all(flaky_site, {"model": "keys/one", "stream": stream}, 20)
    assert seen.keys() <= {(200, "1"), (200, "2")}
    assert seen[200, "2"] <= 1
    assert _ask_all(flaky_site, {"model": "keys/two", "stream": stream}, 20) == {(200, "1"): 20}
    asked = flaky.asked - before
    assert asked["one", GOOD] == asked["two", GOOD] == 20
    assert asked["one", BAD] == seen[200, "2"] == (0 if stream else 1)
    assert not asked["two", BAD]


def test_third_of_failures_loses_no_request(flaky_site: Site, flaky: Flaky) -> None:
    """Each failure costs one attempt of the next model, and nothing else."""
    body = {"model": "half/flaky", "fallbacks": ["half/steady"]}
    seen = _ask_all(flaky_site, body, _REQUESTS)
    failed = _REQUESTS * len(_FAILING) // 10
    assert seen == {(200, "1"): _REQUESTS - failed, (200, "2"): failed}
    assert flaky.asked["flaky", GOOD] == _REQUESTS
