"""Requests of web pages in browsers: preflights, and the headers that let a page read an answer.

Source: the Fetch standard, "CORS protocol"; W3C, "Private Network Access". Pages never get
``access-control-allow-credentials``: the gateway has no cookies, and keys are sent by the page itself.
"""

import re
from typing import Final

from serve_app.access.origins import AllowedOrigins
from serve_app.api.send import Message, Scope, Send
from serve_app.domain import Headers
from serve_app.requests.answer import Answer

_METHODS: Final = "GET, HEAD, POST, DELETE"
_MAX_AGE_S: Final = 600
"""How long a browser may use the answer; a change of the configuration applies to it after that."""
_MAX_REQUESTED: Final = 8192
_HEADER_NAMES: Final = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*"
)
_REQUESTED_METHOD: Final = b"access-control-request-method"
_REQUESTED_HEADERS: Final = b"access-control-request-headers"
_PRIVATE_NETWORK: Final = b"access-control-request-private-network"
_OK: Final = 200
"""Not 204, whose answers have no content length."""
_VARY: Final = (b"vary", b"origin")


def origin_of(scope: Scope) -> bytes | None:
    """The origin of the page that a browser sends the request for; None for other clients."""
    for name, value in scope["headers"]:
        if name == b"origin":
            origin: bytes = value
            return origin
    return None


def is_preflight(scope: Scope) -> bool:
    """True for the question of a browser whether a page may send a request."""
    if scope.get("method") != "OPTIONS":
        return False
    return {b"origin", _REQUESTED_METHOD} <= {name for name, _ in scope["headers"]}


def for_page(send: Send, origin: bytes, origins: AllowedOrigins) -> Send:
    """Adds the headers that let a page read an answer, if it may, to whatever is answered."""
    added = [_VARY]
    if origins.allow(origin.decode("latin-1")):
        added += [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"*"),
        ]

    async def send_to_page(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return send_to_page


def preflight_answer(scope: Scope, origins: AllowedOrigins) -> Answer:
    """What a browser reads before it sends a page's request; it says nothing to other pages."""
    asked = dict(scope["headers"])
    if not origins.allow(asked[b"origin"].decode("latin-1")):
        return Answer(_OK, (), b"")
    headers: Headers = (
        ("access-control-allow-methods", _METHODS),
        ("access-control-max-age", str(_MAX_AGE_S)),
    )
    names = asked.get(_REQUESTED_HEADERS, b"").strip()
    if len(names) <= _MAX_REQUESTED and _HEADER_NAMES.fullmatch(names):
        headers = (*headers, ("access-control-allow-headers", names.decode()))
    if asked.get(_PRIVATE_NETWORK) == b"true":
        headers = (*headers, ("access-control-allow-private-network", "true"))
    return Answer(_OK, headers, b"")
