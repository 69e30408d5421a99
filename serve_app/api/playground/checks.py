"""Who may use the page, and the headers that protect it in a browser.

Sources: W3C, Content Security Policy Level 3, Trusted Types, and Fetch Metadata; OWASP,
"Cross-Site Request Forgery Prevention", on custom request headers.
"""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request

from serve_app.access.exposure import is_local
from serve_app.api.playground.page import API, ROOT
from serve_app.api.send import Message, Send
from serve_app.errors import PageRefused, UnknownPath
from serve_app.snapshot import Snapshot

CALL_HEADER: Final = "x-fingerpost-page"
"""Every call of the page has it. A web page from elsewhere cannot send it without being asked for
permission first, and there is no answer that gives that permission."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_GUARDS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CACHED: Final = b"cache-control"


def with_guards(path: str, send: Send) -> Send:
    """Adds the protecting headers to whatever is answered below ``/ui``, errors included."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            if path.startswith(API):
                headers = [pair for pair in headers if pair[0] != _CACHED]
                headers.append((_CACHED, b"no-store"))
            message = {**message, "headers": [*headers, *_GUARDS]}
        await send(message)

    return guarded


def check_page(request: Request, snapshot: Snapshot) -> None:
    """Raises UnknownPath while the page is off, and PageRefused for a client that may not see it.

    Without client keys the page is for this machine, and under a name of this machine: the name of
    a web site that points to loopback, by which its pages could read this one, is refused.
    """
    config = snapshot.config
    if not config.ui.enabled:
        raise UnknownPath(request.url.path)
    if config.client_keys is not None:
        return
    client, server = request.scope.get("client"), request.scope.get("server")
    if not is_local(client[0] if client else None, server[0] if server else None):
        raise PageRefused(
            f"{ROOT} is for this machine, because there are no client_keys; configure client_keys"
        )
    host = request.headers.get("host", "")
    if not _is_loopback_host(host):
        raise PageRefused(
            f"{ROOT} is served under a loopback address while there are no client_keys, not under "
            f"{host!r}; open http://127.0.0.1:PORT{ROOT}"
        )


def check_call(request: Request) -> None:
    """Raises PageRefused for a call that the page itself did not make."""
    headers = request.headers
    if CALL_HEADER not in headers:
        raise PageRefused(f"calls below {API} need the header {CALL_HEADER}; use POST /v1/route")
    site = headers.get("sec-fetch-site")
    if site is not None:
        is_own = site == "same-origin"
    else:
        origin = headers.get("origin")
        is_own = origin is None or _authority(origin) == headers.get("host")
    if not is_own:
        raise PageRefused(f"calls below {API} come from the page itself, not from another site")


def _authority(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _is_loopback_host(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
