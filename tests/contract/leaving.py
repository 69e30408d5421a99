"""Clients that leave: the provider's connection closes within a second."""

import json
import socket
import time

import pytest

from tests.site import DATA_PATHS, Site, eventually

SWITCH_OFF = "x-request-disconnect-disabled: ?1\r\n"
"""With this header Serve itself stops watching the client."""


@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
@pytest.mark.parametrize("extra", ["", SWITCH_OFF], ids=["plain", "watch-off"])
@pytest.mark.parametrize(
    ("script", "stream"), [("hang", False), ("endless", True), ("hang-midstream", True)]
)
@pytest.mark.parametrize("data_path", DATA_PATHS)
def test_the_upstream_closes_when_the_client_leaves(
    site: Site, data_path: str, script: str, stream: bool, extra: str, apart: bool
) -> None:
    """Unary or streamed, with or without Serve's own watch, the body sent with its head or later."""
    ledger = site.providers[data_path].ledger
    before = len(ledger.exchanges)
    request = {"model": f"{data_path}/{script}", "stream": stream, "messages": []}
    body = json.dumps(request).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        f"content-type: application/json\r\n{extra}\r\n"
    )
    with socket.create_connection((site.host, site.port), timeout=10) as line:
        if apart:  # as most HTTP clients do
            line.sendall(head.encode())
            time.sleep(0.05)
            line.sendall(body)
        else:
            line.sendall(head.encode() + body)
        eventually(lambda: len(ledger.exchanges) > before, 5)
        if stream:
            assert line.recv(65536)
        exchange = ledger.exchanges[-1]
        assert not exchange.client_left
    eventually(lambda: exchange.client_left, 1)
    site.alive()
