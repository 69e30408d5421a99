"""The wire format of the hop: round trips and unreadable frames."""

import json
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployments.frame import (
    UnreadableFrameError,
    decode_chunk,
    decode_reply,
    decode_request,
    encode_chunk,
    encode_chunk_fault,
    encode_reply,
    encode_request,
)
from serve_app.domain import ModelRef
from serve_app.exchange import (
    PATHS,
    FaultKind,
    Operation,
    StreamBrokenError,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from tests.unit.fakes import FakeChunks

NAMES = st.text(min_size=1, max_size=8)
HEADERS = st.lists(st.tuples(NAMES, st.text(max_size=8)), max_size=4).map(tuple)
SECONDS = st.integers(0, 10**7).map(lambda ms: ms / 1000)
REQUESTS = st.builds(
    UpstreamRequest,
    provider=NAMES,
    model=st.builds(ModelRef, NAMES.filter(lambda name: "/" not in name), NAMES),
    operation=st.sampled_from(Operation),
    path=NAMES,
    headers=HEADERS,
    body=st.binary(max_size=64),
    stream=st.booleans(),
    deadline_s=SECONDS,
    attempt_s=st.none() | SECONDS,
    policy=NAMES,
    endpoint=st.integers(0, 100),
    credential=st.none() | NAMES,
    fresh=st.booleans(),
    inline=st.just(value=False),  # it does not cross the hop
    method=st.sampled_from(["POST", "GET", "DELETE"]),
)


@given(REQUESTS)
def test_request_survives_round_trip(request: UpstreamRequest) -> None:
    """Every field of a request survives encoding, and its body is unchanged."""
    assert decode_request(encode_request(request)) == request


@given(st.integers(100, 599), HEADERS, st.binary(max_size=64))
def test_reply_survives_round_trip(status: int, headers: Any, body: bytes) -> None:
    """The status, the ordered headers and the body of a reply survive encoding."""
    reply = UpstreamReply(status, headers, body)
    assert decode_reply(encode_reply(reply)) == (reply, False)


def test_stream_head_survives_round_trip() -> None:
    """The head of a stream is encoded without its body, with a flag that chunks follow."""
    head = UpstreamReply(200, (("a", "b"),), FakeChunks())
    assert decode_reply(encode_reply(head)) == (UpstreamReply(200, (("a", "b"),), b""), True)


@pytest.mark.parametrize("kind", FaultKind)
def test_fault_survives_round_trip(kind: FaultKind) -> None:
    """A fault survives encoding, both in place of a reply and in a stream."""
    fault = UpstreamFault(kind, "é")
    assert decode_reply(encode_reply(fault)) == (fault, False)
    with pytest.raises(StreamBrokenError) as caught:
        decode_chunk(encode_chunk_fault(fault))
    assert caught.value.fault == fault


@given(st.binary(max_size=8))
@example(b"")
@example(b"\x00")
@example(b"\x01")
@example(b'\x00{"kind":"reset","detail":"x"}')
@example(b"\x01\x00")
@example(b"\x01\x01\x01")
@example(b"\x02")
def test_chunk_survives_round_trip(chunk: bytes) -> None:
    """Every chunk survives encoding, even if it begins with a byte of the format."""
    assert decode_chunk(encode_chunk(chunk)) == chunk


@pytest.mark.parametrize(
    ("chunk", "item"),
    [(b"data", b"data"), (b"\x00", b"\x01\x00"), (b"\x01a", b"\x01\x01a"), (b"\x02", b"\x02")],
)
def test_chunk_is_escaped_only_if_needed(chunk: bytes, item: bytes) -> None:
    """Only a chunk that begins with 0x00 or 0x01 gets the prefix 0x01."""
    assert encode_chunk(chunk) == item


def frame(head: Any, body: bytes = b"") -> bytes:
    encoded = json.dumps(head).encode()
    return struct.pack(">I", len(encoded)) + encoded + body


REQUEST: dict[str, Any] = {
    "v": 1,
    "provider": "p",
    "model": "a/b",
    "operation": "chat",
    "path": "/x",
    "headers": [["a", "b"]],
    "deadline_ms": 1500,
    "stream": True,
}


def test_request_frame_has_version_1_form() -> None:
    """A request frame consists of length, head and body, as version 1 defines it."""
    request = UpstreamRequest(
        "p", ModelRef("a", "b"), Operation.CHAT, "/x", (("a", "b"),), b"\x00body",
        stream=True, deadline_s=1.5,
    )  # fmt: skip
    encoded = encode_request(request)
    (length,) = struct.unpack_from(">I", encoded)
    assert json.loads(encoded[4 : 4 + length]) == REQUEST | {"policy": "", "endpoint": 0}
    assert encoded[4 + length :] == b"\x00body"


@pytest.mark.parametrize("operation", Operation)
def test_frame_without_operation_is_read_by_path(operation: Operation) -> None:
    """A frame of version 0.1 has only a path; its operation is derived, so that a rolling upgrade
    does not lose requests.
    """
    head = {key: value for key, value in REQUEST.items() if key != "operation"}
    assert decode_request(frame(head | {"path": PATHS[operation]})).operation is operation


def test_fresh_flag_survives_round_trip() -> None:
    """The flag for a fresh connection survives encoding; a frame without it is not fresh."""
    head = frame(REQUEST | {"fresh": True}, b"b")
    assert decode_request(head).fresh
    assert decode_request(encode_request(decode_request(head))).fresh
    assert not decode_request(frame(REQUEST, b"b")).fresh


def test_limit_of_an_attempt_survives_round_trip() -> None:
    """The limit crosses in milliseconds; a frame without it has none."""
    limited = decode_request(frame(REQUEST | {"attempt_ms": 250}, b"b"))
    assert limited.attempt_s == 0.25
    assert decode_request(encode_request(limited)).attempt_s == 0.25
    assert decode_request(frame(REQUEST, b"b")).attempt_s is None


def test_frame_ignores_unknown_keys() -> None:
    """Unknown keys, which a later version may send, are ignored."""
    assert decode_request(frame(REQUEST | {"new": 1}, b"b")).body == b"b"
    head = {"v": 1, "status": 200, "headers": [], "stream": False, "new": {}}
    assert decode_reply(frame(head, b"b"))[0] == UpstreamReply(200, (), b"b")


def test_unknown_fault_kind_becomes_hop_fault() -> None:
    """A fault of an unknown kind, which a later version may send, becomes a fault of the hop with
    its text.
    """
    fault = {"kind": "tired", "detail": "x"}
    expected = UpstreamFault(FaultKind.HOP, "x")
    assert decode_reply(frame({"v": 1, "fault": fault})) == (expected, False)
    with pytest.raises(StreamBrokenError) as caught:
        decode_chunk(b"\x00" + json.dumps(fault).encode())
    assert caught.value.fault == expected


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_frame_of_other_version_is_unreadable(version: Any) -> None:
    """A frame of another version is rejected, so that it is not misread during an upgrade."""
    with pytest.raises(UnreadableFrameError):
        decode_request(frame(REQUEST | {"v": version}))
    with pytest.raises(UnreadableFrameError):
        decode_reply(frame({"v": version, "status": 200, "headers": []}))


MODELS: list[Any] = [1, None, ["a/b"], {}, "a", "", "a/"]
PAIRS: list[Any] = [1, None, [1], [["a"]], [["a", "b", "c"]]]
DEADLINES: list[Any] = ["1", None, [], 10**400]
MALFORMED_REQUESTS: list[Any] = [
    *({name: REQUEST[name] for name in REQUEST if name != lacking} for lacking in REQUEST),
    *(REQUEST | {"model": model} for model in MODELS),
    *(REQUEST | {"headers": pairs} for pairs in PAIRS),
    *(REQUEST | {"deadline_ms": deadline} for deadline in DEADLINES),
    *([], "v", 1, None, {}),
]


@pytest.mark.parametrize("head", MALFORMED_REQUESTS)
def test_malformed_request_head_is_unreadable(head: Any) -> None:
    """A request frame with a missing field or a wrong type is rejected."""
    with pytest.raises(UnreadableFrameError):
        decode_request(frame(head, b"body"))


@pytest.mark.parametrize(
    "head",
    [
        {"v": 1},
        {"v": 1, "status": 200},
        {"v": 1, "headers": []},
        {"v": 1, "status": 200, "headers": None},
        {"v": 1, "fault": None},
        {"v": 1, "fault": "reset"},
        {"v": 1, "fault": {"kind": "reset"}},
        {"v": 1, "fault": {"kind": [], "detail": "x"}},
        [],
        None,
    ],
)
def test_malformed_reply_head_is_unreadable(head: Any) -> None:
    """A reply frame with a missing field or a wrong type is rejected; an unknown kind of fault is a
    fault of the hop.
    """
    try:
        reply, streamed = decode_reply(frame(head))
    except UnreadableFrameError:
        return
    assert (reply, streamed) == (UpstreamFault(FaultKind.HOP, "x"), False)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*REQUEST, "fault", "status", "kind", "detail"]), inner)
    ),
    max_leaves=8,
)
HEADS = st.fixed_dictionaries(
    {"v": st.just(1)}, optional=dict.fromkeys([*REQUEST, "fault"][1:], ANYTHING)
)
GARBAGE = st.binary(max_size=40) | st.builds(frame, ANYTHING | HEADS, st.binary(max_size=4))


@given(GARBAGE)
@example(b"")
@example(b"\x00\x00\x00")
@example(b"\xff\xff\xff\xff{}")
@example(b"\x00\x00\x00\x02\xff\xff")
def test_decoding_garbage_raises_unreadable_frame_only(garbage: bytes) -> None:
    """Decoding arbitrary bytes raises no other exception than UnreadableFrameError."""
    for decode in (decode_request, decode_reply):
        try:
            decode(garbage)
        except UnreadableFrameError:
            continue


@given(st.binary(max_size=20) | ANYTHING.map(lambda value: json.dumps(value).encode()))
@example(b"")
@example(b"{}")
@example(b"null")
@example(b'{"kind": "reset"}')
@example(b'{"kind": "tired"}')
@example(b'{"kind": []}')
def test_malformed_fault_chunk_ends_stream(garbage: bytes) -> None:
    """A chunk that is marked as a fault breaks the stream, whatever it contains."""
    with pytest.raises(StreamBrokenError) as caught:
        decode_chunk(b"\x00" + garbage)
    assert isinstance(caught.value.fault, UpstreamFault)


def test_deeply_nested_head_is_unreadable() -> None:
    """A head or a fault with a hundred thousand levels of nesting is unreadable."""
    deep = b"[" * 100_000
    for decode in (decode_request, decode_reply):
        with pytest.raises(UnreadableFrameError):
            decode(struct.pack(">I", len(deep)) + deep)
    with pytest.raises(StreamBrokenError):
        decode_chunk(b"\x00" + deep)
