"""What a client gets, in one form for all SDKs, and what goes over its connection."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2


@dataclass
class Call:
    """A call of a tool, as the SDK gives it."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass
class Seen:
    """One answer."""

    text: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str | None = None
    """In the client's words."""
    usage: dict[str, int | None] = field(default_factory=dict)
    """In the client's words."""
    refusal: str | None = None
    thinking: str = ""
    sources: list[str] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    turn: list[Any] = field(default_factory=list)
    """What the client appends to its conversation."""
    error: tuple[str, str | None] | None = None
    """Message and type of an error that came after content."""
    wire: bytes = b""
    """The answer's body."""

    @property
    def dropped(self) -> list[str]:
        """What the gateway says it left out."""
        return [name for name in self.headers.get("x-fingerpost-dropped", "").split(", ") if name]


class _Tee(httpx2.SyncByteStream):
    def __init__(self, stream: Any, kept: list[bytes]) -> None:
        self._stream = stream
        self._kept = kept

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._kept.append(piece)
            yield piece

    def close(self) -> None:
        self._stream.close()


class Tap(httpx2.BaseTransport):
    """A connection of an SDK that keeps the last answer's bytes."""

    def __init__(self) -> None:
        self._inner = httpx2.HTTPTransport()
        self._kept: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self._kept)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = self._inner.handle_request(request)
        self._kept = []
        return httpx2.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_Tee(answer.stream, self._kept),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        self._inner.close()


def strictly(value: Any) -> None:
    """Fails unless an object of an SDK has all that its type promises: SDKs do not check."""
    type(value).model_validate(value.to_dict(mode="json"))
