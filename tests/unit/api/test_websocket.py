"""Handshakes of WebSockets, as servers with and without the extension for refusals pass them on."""

from typing import Any

import pytest

from serve_app.api.websocket import denial_of, wants_websocket

HANDSHAKE: dict[str, Any] = {"type": "websocket", "headers": []}
EXTENSIONS: dict[str, Any] = {"websocket.http.response": {}}
START = {"type": "http.response.start", "status": 426, "headers": [(b"allow", b"POST")]}
BODY = {"type": "http.response.body", "body": b"{}"}


async def sent(scope: dict[str, Any]) -> list[Any]:
    """What the server gets when an answer is sent to a handshake."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    deny = denial_of(scope, send)
    await deny(START)
    await deny(BODY)
    return messages


async def test_handshake_is_answered_by_the_extension() -> None:
    """Status, headers and body reach the client."""
    assert await sent({**HANDSHAKE, "extensions": EXTENSIONS}) == [
        {**START, "type": "websocket.http.response.start"},
        {**BODY, "type": "websocket.http.response.body"},
    ]


@pytest.mark.parametrize("extensions", [{}, {"extensions": {}}, {"extensions": None}])
async def test_handshake_is_closed_without_the_extension(extensions: dict[str, Any]) -> None:
    """It is closed once, before it is accepted."""
    assert await sent({**HANDSHAKE, **extensions}) == [{"type": "websocket.close", "code": 1000}]


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        (HANDSHAKE, True),
        ({"type": "http", "method": "GET", "headers": [(b"upgrade", b"WebSocket")]}, True),
        ({"type": "http", "method": "GET", "headers": [(b"upgrade", b"h2c")]}, False),
        ({"type": "http", "method": "GET", "headers": []}, False),
        ({"type": "http", "method": "POST", "headers": [(b"upgrade", b"websocket")]}, False),
    ],
)
def test_handshake_is_known_also_as_plain_request(scope: dict[str, Any], wanted: bool) -> None:
    """A server without a WebSocket library passes it on as a GET with the header `upgrade`."""
    assert wants_websocket(scope) is wanted
