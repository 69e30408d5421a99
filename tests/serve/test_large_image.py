"""A request with a large image, through the whole graph."""

import hashlib
import json
import random
import time
from base64 import b64encode
from itertools import product
from typing import Any, Final

import psutil
import pytest

from tests.matrix.cases import ASKED, DIALECTS, Case
from tests.matrix.conftest import CLIENTS, PATHS, Bench, model_of
from tests.matrix.sent import read
from tests.serve.conftest import Cluster

_BYTES: Final = 20_000_000
"""In base64, which is what counts for ``limits.body_bytes``."""

_WITHIN_S: Final = 20.0
"""About 1 s on an idle machine."""

_GROWTH: Final = 12
"""How many times the image's size the processes on its way may grow, all of them together."""


@pytest.fixture(scope="module")
def image() -> str:
    """Noise, in base64."""
    return b64encode(random.Random(1).randbytes(_BYTES * 3 // 4)).decode()


def _request(client: str, image: str) -> dict[str, Any]:
    """The matrix's request with another image."""
    asked = CLIENTS[client].request(Case.IMAGE)
    message: dict[str, Any] = asked["input" if client == "responses" else "messages"][-1]
    part: dict[str, Any] = message["content"][-1]
    if client == "messages":
        part["source"] = {**part["source"], "data": image}
    elif client == "responses":
        part = {**part, "image_url": f"data:image/png;base64,{image}"}
    else:
        part = {**part, "image_url": {"url": f"data:image/png;base64,{image}"}}
    message["content"] = [message["content"][0], part]
    return dict(asked)


def _resident(cluster: Cluster) -> dict[str, int]:
    """Bytes in memory by deployment, of those that the image passes."""
    return {
        name: psutil.Process(pid).memory_info().rss
        for pid, name in cluster.replicas().items()
        if name == "Ingress" or name.startswith(("provider-openai", "provider-anthropic"))
    }


@pytest.mark.parametrize(("client", "upstream"), list(product(DIALECTS, DIALECTS)))
def test_large_image(
    bench: Bench, cluster: Cluster, image: str, client: str, upstream: str
) -> None:
    """It arrives whole and soon, as it is or translated, without many copies in memory."""
    body = bench.body(model_of(upstream, Case.IMAGE), _request(client, image))
    before = _resident(cluster)
    started = time.monotonic()
    answer = bench.site.send(body, path=PATHS[client])
    took_s = time.monotonic() - started
    assert answer.status == 200, answer.body[:300]
    after = _resident(cluster)
    exchange = bench.last
    sent = read(upstream, json.loads(exchange.body))
    exchange.body = b""  # else the ledger keeps it for the whole run
    assert sent.said == [ASKED]
    assert [_digest(each) for each in sent.images] == [_digest(image)]
    assert took_s < _WITHIN_S
    assert sum(after.values()) - sum(before.values()) < _GROWTH * _BYTES


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
