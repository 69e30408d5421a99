"""Who may reach a gateway without client keys."""

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from serve_app.api.headers import (
    Scope,
)
from serve_app.config.schema.gateway import GatewayConfig


def _is_local(scope: Scope) -> bool:
    """True when the peer is this machine: loopback, or our own address on both ends.

    Serve's proxy reaches a replica by the node's address, and a replica's port is open on all
    interfaces, so the address alone that Serve's proxy listens on would not keep others out.
    """
    client, server = scope.get("client"), scope.get("server")
    if not client or not client[0]:
        return True  # a Unix socket
    return bool(server and client[0] == server[0]) or _is_loopback(client[0])


def _is_own_page(origin: str | None) -> bool:
    """False for a request that a web page from elsewhere has the user's browser send.

    Browsers let any page post to loopback; it can't read the answer, but the user would pay.
    """
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in {"http", "https"}:
        return bool(parts.scheme)  # programs with a browser inside; "null" has no scheme
    return _is_loopback(parts.hostname or "")


def exposure_problem(host: str, config: GatewayConfig) -> str | None:
    """What is wrong with listening on ``host``: without client keys nothing but this machine
    may be served, unless the configuration says so.
    """
    if config.client_keys is not None or config.allow_anonymous or _is_loopback(host):
        return None
    return (
        f"Serve listens on {host}, where other machines reach it, and there are no client_keys; "
        "add client_keys, or allow_anonymous: true, or set http_options.host to 127.0.0.1"
    )


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
