"""Who may reach a gateway without client keys: programs on its own machine."""

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from serve_app.config.schema.gateway import GatewayConfig


def is_local(peer: str | None, server: str | None) -> bool:
    """True if the peer's address is of this machine: loopback, or the server's own address.

    Serve's proxy reaches a replica by the node's address, and a replica's port is open on all
    interfaces, so that the address on which Serve's proxy listens would not keep others out.
    ``peer`` None or empty: a Unix socket.
    """
    if not peer:
        return True
    return peer == server or _is_loopback(peer)


def is_own_page(origin: str | None) -> bool:
    """False for a request that a browser sends for a web page from elsewhere.

    Browsers let any page post to loopback. The page cannot read the answer, but the user pays.
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


@lru_cache(maxsize=1024)
def is_own_host(host: str | None, server: str | None) -> bool:
    """False for a request whose Host header names another machine.

    A web page may let the name of its own host mean 127.0.0.1 (DNS rebinding). Its requests are then
    of the same origin to the browser, so that it reads the answers, but the header has that name.
    A name without a dot cannot be bought, nor one below ``localhost`` or ``internal`` (Docker's
    ``host.docker.internal``).
    """
    if not host:
        return True  # browsers always send one
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return False
    if name == server or _is_loopback(name):
        return True
    is_address = ":" in name or name.replace(".", "").isdecimal()
    return not is_address and ("." not in name or name.endswith((".localhost", ".internal")))


def exposure_problem(host: str, config: GatewayConfig) -> str | None:
    """What is wrong with listening on ``host``; None if nothing is.

    Without client keys a gateway serves only its own machine, unless the configuration allows it.
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
