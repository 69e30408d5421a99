"""The wire format of the hop between the ingress and a provider client, version 1.

A frame is one bytes value: the length of the head as an unsigned 32-bit integer (big endian), the
head as JSON in UTF-8, the body. A unary answer is one frame. A streamed answer is a frame without
a body, then the chunks as they came; a fault after the head is a last item ``0x00`` + JSON. A
chunk that itself begins with 0x00 or 0x01 is sent with 0x01 before it.

Unknown keys of a head are ignored. A head of another version means "next candidate": during a
rolling upgrade two versions meet, and neither must misread the other.
"""

import json
import struct
from collections.abc import Mapping
from typing import Final

from serve_app.domain import Headers, Json, ModelRef
from serve_app.exchange import (
    PATHS,
    FaultKind,
    Operation,
    StreamBrokenError,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)

VERSION: Final = 1
_METHOD: Final = "POST"
"""That of a head without one."""
_LENGTH = struct.Struct(">I")
_FAULT, _ESCAPE = b"\x00", b"\x01"
_MARKS = (_FAULT, _ESCAPE)
_GARBLED = (
    struct.error, StopIteration, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError
)  # fmt: skip
"""What reading other bytes than a frame may raise."""


class UnreadableFrameError(Exception):
    """Raised for a frame of another version, or for other bytes."""


def encode_request(request: UpstreamRequest) -> bytes:
    """A request as a frame. The deadline crosses as what is left of it, in milliseconds."""
    head: dict[str, Json] = {
        "v": VERSION,
        "provider": request.provider,
        "model": str(request.model),
        "operation": request.operation,
        "path": request.path,
        "headers": request.headers,
        "deadline_ms": round(request.deadline_s * 1000),
        "stream": request.stream,
        "policy": request.policy,
        "endpoint": request.endpoint,
    }
    if request.attempt_s is not None:
        head["attempt_ms"] = round(request.attempt_s * 1000)
    if request.fresh:
        head["fresh"] = True
    if request.credential is not None:
        head["credential"] = request.credential
    if request.method != _METHOD:
        head["method"] = request.method
    return _join(head, request.body)


def decode_request(frame: bytes) -> UpstreamRequest:
    """The request of a frame. Raises UnreadableFrameError."""
    head, body = _split(frame)
    try:
        return UpstreamRequest(
            provider=head["provider"],
            model=ModelRef.parse(head["model"]),
            operation=_operation(head),
            path=head["path"],
            headers=_headers(head["headers"]),
            body=body,
            stream=head["stream"],
            deadline_s=head["deadline_ms"] / 1000,
            attempt_s=_seconds(head.get("attempt_ms")),
            policy=str(head.get("policy", "")),
            endpoint=int(head.get("endpoint", 0)),
            credential=head.get("credential"),
            fresh=bool(head.get("fresh")),
            method=str(head.get("method", _METHOD)),
        )
    except _GARBLED as error:
        raise UnreadableFrameError from error


def encode_reply(reply: UpstreamReply | UpstreamFault) -> bytes:
    """An answer, the head of a streamed one, or a fault, as a frame."""
    if isinstance(reply, UpstreamFault):
        return _join({"v": VERSION, "fault": _fault(reply)}, b"")
    body = reply.body if isinstance(reply.body, bytes) else b""
    stream = not isinstance(reply.body, bytes)
    head = {"v": VERSION, "status": reply.status, "headers": reply.headers, "stream": stream}
    return _join(head, body)


def decode_reply(frame: bytes) -> tuple[UpstreamReply | UpstreamFault, bool]:
    """What a frame says, and whether chunks follow. Raises UnreadableFrameError."""
    head, body = _split(frame)
    try:
        if "fault" in head:
            return _read_fault(head["fault"]), False
        reply = UpstreamReply(head["status"], _headers(head["headers"]), body)
        return reply, bool(head.get("stream"))
    except _GARBLED as error:
        raise UnreadableFrameError from error


def encode_chunk(chunk: bytes) -> bytes:
    """A chunk of a stream as an item."""
    return _ESCAPE + chunk if chunk.startswith(_MARKS) else chunk


def encode_chunk_fault(fault: UpstreamFault) -> bytes:
    """The last item of a stream that broke off."""
    return _FAULT + json.dumps(_fault(fault)).encode()


def decode_chunk(item: bytes) -> bytes:
    """The chunk of an item. Raises StreamBrokenError when the item says that it broke off."""
    if not item.startswith(_MARKS):
        return item
    if item.startswith(_ESCAPE):
        return item[1:]
    try:
        fault = _read_fault(json.loads(item[1:]))
    except _GARBLED:
        fault = UpstreamFault(FaultKind.HOP, "the provider client broke off without a reason")
    raise StreamBrokenError(fault)


def _join(head: Mapping[str, Json], body: bytes) -> bytes:
    encoded = json.dumps(head, separators=(",", ":")).encode()
    return b"".join((_LENGTH.pack(len(encoded)), encoded, body))


def _split(frame: bytes) -> tuple[dict[str, Json], bytes]:
    try:
        (length,) = _LENGTH.unpack_from(frame)
        head = json.loads(frame[_LENGTH.size : _LENGTH.size + length])
        version = head["v"]
    except _GARBLED as error:
        raise UnreadableFrameError from error
    if version != VERSION:
        raise UnreadableFrameError
    return head, frame[_LENGTH.size + length :]


def _operation(head: Mapping[str, Json]) -> Operation:
    """Frames of 0.1 have only the path, which was then the same for all models."""
    if "operation" in head:
        return Operation(head["operation"])
    return next(operation for operation, path in PATHS.items() if path == head["path"])


def _seconds(milliseconds: Json) -> float | None:
    return None if milliseconds is None else float(milliseconds) / 1000


def _headers(pairs: Json) -> Headers:
    return tuple((str(name), str(value)) for name, value in pairs)


def _fault(fault: UpstreamFault) -> dict[str, str]:
    return {"kind": fault.kind.value, "detail": fault.detail}


def _read_fault(fault: Mapping[str, str]) -> UpstreamFault:
    try:
        return UpstreamFault(FaultKind(fault["kind"]), fault["detail"])
    except ValueError:  # a kind that a later version knows
        return UpstreamFault(FaultKind.HOP, fault["detail"])
