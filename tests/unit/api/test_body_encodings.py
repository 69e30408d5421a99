"""Bodies that a client sends packed: what is unpacked, within which limit, and what is refused."""

import gzip
import tracemalloc
import zlib
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.api.body import SUPPORTED_ENCODINGS, read_body
from serve_app.api.headers import read_headers
from serve_app.errors import BodyTooLarge, InvalidJson, InvalidRequest, UnsupportedEncoding

BODY: Final = b'{"model": "a", "messages": []}' * 9
LIMIT: Final = 1000


def raw(data: bytes) -> bytes:
    """Deflate data without the header and the checksum of zlib."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def receive_of(body: bytes) -> Any:
    """An ASGI receive callable that returns a body in one message; it may be asked once."""
    left = [body]

    async def receive() -> Any:
        return {"type": "http.request", "body": left.pop()}

    return receive


async def read(body: bytes, *encodings: str, limit: int = LIMIT) -> bytes:
    return await read_body(receive_of(body), None, limit, encodings)


@pytest.mark.parametrize(
    ("encodings", "packed"),
    [
        ((), BODY),
        (("identity",), BODY),
        (("gzip",), gzip.compress(BODY)),
        (("x-gzip",), gzip.compress(BODY)),
        (("deflate",), zlib.compress(BODY)),
        (("deflate",), raw(BODY)),
        (("deflate", "gzip"), gzip.compress(zlib.compress(BODY))),
        (("gzip", "identity", "deflate"), raw(gzip.compress(BODY))),
        (("gzip",) * 4, gzip.compress(gzip.compress(gzip.compress(gzip.compress(BODY))))),
        (("gzip",), gzip.compress(BODY[:9]) + gzip.compress(b"") + gzip.compress(BODY[9:])),
    ],
)
async def test_packed_body_is_unpacked(encodings: tuple[str, ...], packed: bytes) -> None:
    """The last encoding is undone first, `deflate` is either format, and gzip may have parts."""
    assert await read(packed, *encodings) == BODY


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity"])
async def test_empty_body_is_not_unpacked(encoding: str) -> None:
    """It is reported as an empty one, if its encoding is known."""
    if encoding == "br":
        with pytest.raises(UnsupportedEncoding):
            await read(b"", encoding)
    else:
        assert await read(b"", encoding) == b""


@pytest.mark.parametrize("encodings", [("gzip",), ("deflate",), ("gzip", "gzip")])
async def test_limit_counts_unpacked_bytes(encodings: tuple[str, ...]) -> None:
    """A body that unpacks to the limit is read; one byte more is too large."""
    for size, fits in ((LIMIT, True), (LIMIT + 1, False)):
        body = bytes(size)
        for encoding in encodings:
            body = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
        if fits:
            assert await read(body, *encodings) == bytes(size)
            continue
        with pytest.raises(BodyTooLarge) as caught:
            await read(body, *encodings)
        assert caught.value.limit == LIMIT


async def test_limit_counts_all_parts_of_gzip() -> None:
    """Parts that fit one by one do not fit together, and the error has the whole limit."""
    with pytest.raises(BodyTooLarge) as caught:
        await read(gzip.compress(bytes(600)) * 2, "gzip")
    assert caught.value.limit == LIMIT


@pytest.mark.parametrize("encodings", [("gzip",), ("gzip", "gzip"), ("deflate",)])
async def test_bomb_does_not_fill_memory(encodings: tuple[str, ...]) -> None:
    """64 MiB in a small body are refused before more than a few times the limit is unpacked."""
    body = bytes(64 << 20)
    for encoding in encodings:
        body = gzip.compress(body) if encoding == "gzip" else raw(body)
    limit = 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            await read(body, *encodings, limit=limit)
        assert tracemalloc.get_traced_memory()[1] < 8 * limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "aes128gcm", "gzip;q=1", "*"])
async def test_unknown_encoding_is_unsupported(encoding: str) -> None:
    """The error names the encoding and those that are supported, before the body is read."""
    receive = receive_of(BODY)
    with pytest.raises(UnsupportedEncoding) as caught:
        await read_body(receive, None, LIMIT, ("gzip", encoding))
    assert (caught.value.status, caught.value.code) == (415, "unsupported_encoding")
    assert str(caught.value) == (
        f"content-encoding {encoding!r} is not supported; "
        "use gzip or deflate, or send the body uncompressed"
    )
    assert (await receive())["body"] == BODY
    assert caught.value.supported == SUPPORTED_ENCODINGS


async def test_many_encodings_are_refused() -> None:
    """Each one costs a pass over the body."""
    with pytest.raises(InvalidRequest) as caught:
        await read(BODY, *["gzip"] * 5)
    assert str(caught.value) == "content-encoding names over 4 encodings; use one"


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", BODY),
        ("gzip", zlib.compress(BODY)),
        ("gzip", gzip.compress(BODY)[:-1]),
        ("gzip", gzip.compress(BODY)[:-5] + b"wrong"),
        ("gzip", gzip.compress(BODY) + b"more"),
        ("gzip", gzip.compress(b"") * 17),
        ("deflate", BODY),
        ("deflate", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)[:-1]),
        ("deflate", raw(BODY)[:-1]),
        ("deflate", zlib.compress(BODY) + b"more"),
        ("deflate", raw(BODY) + b"more"),
    ],
)
async def test_corrupt_body_is_invalid(encoding: str, packed: bytes) -> None:
    """Data that is not what the header says is a fault of the request, not of the gateway."""
    with pytest.raises(InvalidJson) as caught:
        await read(packed, encoding)
    assert str(caught.value).startswith(f"the body is not {encoding} data, which content-encoding")


@given(st.binary(min_size=1, max_size=200), st.sampled_from(["gzip", "deflate"]))
async def test_any_bytes_are_unpacked_or_refused(data: bytes, encoding: str) -> None:
    """No data raises anything but the errors for clients."""
    try:
        await read(data, encoding)
    except (InvalidJson, BodyTooLarge):
        return


@given(st.binary(min_size=1, max_size=LIMIT))
async def test_any_body_survives_packing(data: bytes) -> None:
    """What was packed is unpacked to the same bytes."""
    for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw)):
        assert await read(pack(data), encoding) == data


@pytest.mark.parametrize(
    ("values", "encodings"),
    [
        ([], ()),
        ([b"gzip"], ("gzip",)),
        ([b" GZip ,Deflate"], ("gzip", "deflate")),
        ([b"deflate", b"gzip"], ("deflate", "gzip")),
        ([b""], ("",)),
        ([b"\xff"], ("ÿ",)),
    ],
)
def test_encodings_are_read_from_all_headers(
    values: list[bytes], encodings: tuple[str, ...]
) -> None:
    """Several headers, or several values of one, are in the order in which they were applied."""
    facts = read_headers([(b"content-encoding", value) for value in values], 1000)
    assert facts.encodings == encodings
