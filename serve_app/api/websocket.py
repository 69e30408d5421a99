"""WebSocket, which no surface speaks: handshakes are refused with an HTTP answer.

Source: ASGI specification, "WebSocket", and its extension "WebSocket Denial Response".
"""

from typing import Final

from serve_app.api.send import Message, Scope, Send

_DENIAL: Final = "websocket.http.response"


def wants_websocket(scope: Scope) -> bool:
    """True for a handshake, also where the server passes it on as a plain GET."""
    if scope["type"] == "websocket":
        return True
    return scope["method"] == "GET" and any(
        name == b"upgrade" and value.lower() == b"websocket" for name, value in scope["headers"]
    )


def denial_of(scope: Scope, send: Send) -> Send:
    """Sends the messages of an HTTP answer as the answer to a handshake.

    On a server without the extension the first message closes the handshake, which such servers
    answer with 403, and the others are left out.
    """
    is_denied = _DENIAL in (scope.get("extensions") or {})

    async def deny(message: Message) -> None:
        if is_denied:
            await send({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await send({"type": "websocket.close", "code": 1000})

    return deny
