"""The wire format of the hop: round trips, and what is no frame."""

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
REQUESTS = st.builds(
    UpstreamRequest,
    provider=NAMES,
    model=st.builds(ModelRef, NAMES.filter(lambda name: "/" not in name), NAMES),
    operation=st.sampled_from(Operation),
    path=NAMES,
    headers=HEADERS,
    body=st.binary(max_size=64),
    stream=st.booleans(),
    deadline_s=st.integers(0, 10**7).map(lambda ms: ms / 1000),
)


@given(REQUESTS)
def test_a_request_crosses(request: UpstreamRequest) -> None:
    """Every field arrives as it was, the body byte for byte."""
    assert decode_request(encode_request(request)) == request


@given(st.integers(100, 599), HEADERS, st.binary(max_size=64))
def test_a_reply_crosses(status: int, headers: Any, body: bytes) -> None:
    """Status, headers in order, and the body."""
    reply = UpstreamReply(status, headers, body)
    assert decode_reply(encode_reply(reply)) == (reply, False)


def test_the_head_of_a_stream_crosses() -> None:
    """Its body stays here, and the other side knows that chunks follow."""
    head = UpstreamReply(200, (("a", "b"),), FakeChunks())
    assert decode_reply(encode_reply(head)) == (UpstreamReply(200, (("a", "b"),), b""), True)


@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_crosses(kind: FaultKind) -> None:
    """In place of an answer, and in the middle of one."""
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
def test_any_chunk_crosses(chunk: bytes) -> None:
    """Also one that begins like a mark of ours."""
    assert decode_chunk(encode_chunk(chunk)) == chunk


@pytest.mark.parametrize(
    ("chunk", "item"),
    [(b"data", b"data"), (b"\x00", b"\x01\x00"), (b"\x01a", b"\x01\x01a"), (b"\x02", b"\x02")],
)
def test_chunks_are_sent_as_they_are(chunk: bytes, item: bytes) -> None:
    """Only what begins with 0x00 or 0x01 has 0x01 before it."""
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


def test_a_request_has_this_form() -> None:
    """Length, head and body, as version 1 has it."""
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
    """Version 0.1 sends only the path; a rolling upgrade must not lose its requests."""
    head = {key: value for key, value in REQUEST.items() if key != "operation"}
    assert decode_request(frame(head | {"path": PATHS[operation]})).operation is operation


def test_a_second_try_says_so() -> None:
    """Only then is there a key for it."""
    head = frame(REQUEST | {"fresh": True}, b"b")
    assert decode_request(head).fresh
    assert decode_request(encode_request(decode_request(head))).fresh
    assert not decode_request(frame(REQUEST, b"b")).fresh


def test_unknown_keys_are_ignored() -> None:
    """A later version of ours may say more."""
    assert decode_request(frame(REQUEST | {"new": 1}, b"b")).body == b"b"
    head = {"v": 1, "status": 200, "headers": [], "stream": False, "new": {}}
    assert decode_reply(frame(head, b"b"))[0] == UpstreamReply(200, (), b"b")


def test_an_unknown_fault_is_one_of_the_hop() -> None:
    """A kind that a later version knows is still a fault, and its text arrives."""
    fault = {"kind": "tired", "detail": "x"}
    expected = UpstreamFault(FaultKind.HOP, "x")
    assert decode_reply(frame({"v": 1, "fault": fault})) == (expected, False)
    with pytest.raises(StreamBrokenError) as caught:
        decode_chunk(b"\x00" + json.dumps(fault).encode())
    assert caught.value.fault == expected


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_version_is_unreadable(version: Any) -> None:
    """Neither side may misread the other during an upgrade."""
    with pytest.raises(UnreadableFrameError):
        decode_request(frame(REQUEST | {"v": version}))
    with pytest.raises(UnreadableFrameError):
        decode_reply(frame({"v": version, "status": 200, "headers": []}))


MODELS: list[Any] = [1, None, ["a/b"], {}, "a", "", "a/"]
PAIRS: list[Any] = [1, None, [1], [["a"]], [["a", "b", "c"]]]
DEADLINES: list[Any] = ["1", None, [], 10**400]
NO_REQUESTS: list[Any] = [
    *({name: REQUEST[name] for name in REQUEST if name != lacking} for lacking in REQUEST),
    *(REQUEST | {"model": model} for model in MODELS),
    *(REQUEST | {"headers": pairs} for pairs in PAIRS),
    *(REQUEST | {"deadline_ms": deadline} for deadline in DEADLINES),
    *([], "v", 1, None, {}),
]


@pytest.mark.parametrize("head", NO_REQUESTS)
def test_what_is_no_request_is_unreadable(head: Any) -> None:
    """Missing or of a wrong type: the frame is refused as a whole."""
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
def test_what_is_no_reply_is_unreadable(head: Any) -> None:
    """The same for answers; an odd kind of fault is a fault all the same."""
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
def test_garbage_is_unreadable(garbage: bytes) -> None:
    """No bytes whatever raise anything else."""
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
def test_a_garbled_fault_is_a_fault(garbage: bytes) -> None:
    """What is marked as the end of a stream ends it, whatever it says."""
    with pytest.raises(StreamBrokenError) as caught:
        decode_chunk(b"\x00" + garbage)
    assert isinstance(caught.value.fault, UpstreamFault)


def test_a_head_may_not_be_deep() -> None:
    """A hundred thousand levels are unreadable too, in a head as in a fault."""
    deep = b"[" * 100_000
    for decode in (decode_request, decode_reply):
        with pytest.raises(UnreadableFrameError):
            decode(struct.pack(">I", len(deep)) + deep)
    with pytest.raises(StreamBrokenError):
        decode_chunk(b"\x00" + deep)
