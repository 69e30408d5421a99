"""Connections that break in the middle of a stream, on either side."""

import socket
from itertools import product

import pytest

from tests.matrix.cases import DIALECTS, TOLD, Case
from tests.matrix.conftest import CLIENTS, PATHS, Bench, model_of
from tests.matrix.seen import Seen
from tests.matrix.vendor import SILENT, TORN
from tests.site import eventually

_PAIRS = list(product(DIALECTS, DIALECTS))


@pytest.mark.parametrize(("client", "upstream"), _PAIRS)
def test_provider_breaks_off(bench: Bench, client: str, upstream: str) -> None:
    """The client keeps what it got and learns that the rest is missing, never a clean end."""
    asked = CLIENTS[client].request(Case.TEXT)
    seen: Seen = bench.ask(client, model_of(upstream, TORN), stream=True, **asked)
    assert seen.text == TOLD[Case.ERROR_DURING].text
    assert seen.error is not None
    assert seen.error[0]


@pytest.mark.parametrize(("client", "upstream"), _PAIRS)
def test_client_leaves(bench: Bench, client: str, upstream: str) -> None:
    """The provider is told within a second, so that it stops to spend tokens."""
    asked = {**CLIENTS[client].request(Case.TEXT), "stream": True}
    body = bench.body(model_of(upstream, SILENT), asked)
    head = (
        f"POST {PATHS[client]} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        "content-type: application/json\r\n\r\n"
    )
    with socket.create_connection((bench.site.host, bench.site.port), timeout=30) as line:
        line.sendall(head.encode() + body)
        assert line.recv(65536).startswith(b"HTTP/1.1 200 ")
        exchange = bench.last
        assert not exchange.client_left
    eventually(lambda: exchange.client_left, within_s=1.0)
