"""Packed request bodies, through the API and to the provider."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, Site, write_config
from tests.wire.conftest import serve_api

BODY = b'{ "model":"dedicated/parrot","messages":[ ], "x":"\\u00e9" }'


@pytest.fixture(scope="module")
def small_site(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway that takes bodies of at most 100 000 bytes."""
    file: Path = write_config(tmp_path_factory.mktemp("encodings"), providers)
    config = {**json.loads(file.read_text()), "limits": {"body_bytes": 100_000}}
    file.write_text(json.dumps(config))
    with serve_api(file, providers, {"FINGERPOST_TEST_KEY": SECRET}) as running:
        yield running


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate, gzip", gzip.compress(zlib.compress(BODY))),
        ("identity", BODY),
    ],
)
def test_packed_body_reaches_provider_unpacked(
    small_site: Site, encoding: str, packed: bytes
) -> None:
    """The provider gets the bytes that the client packed, with the model's name, and no encoding."""
    answer = small_site.send(packed, headers={"content-encoding": encoding})
    assert answer.status == 200
    seen = small_site.exchange("dedicated")
    assert seen.body == BODY.replace(b"dedicated/parrot", b"parrot")
    assert "content-encoding" not in seen.headers
    assert seen.headers["content-length"] == str(len(seen.body))


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
def test_unknown_encoding_is_a_415(small_site: Site, encoding: str) -> None:
    """The answer says what is supported, in the header, too, and the gateway goes on."""
    answer = small_site.send(BODY, headers={"content-encoding": encoding})
    assert (answer.status, answer.error["code"]) == (415, "unsupported_encoding")
    assert "use gzip or deflate" in answer.error["message"]
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    small_site.alive()


def test_body_that_is_too_large_unpacked_is_a_413(small_site: Site) -> None:
    """The limit applies to what the body unpacks to."""
    bomb = gzip.compress(b'{"x": "' + b" " * (16 << 20) + b'"}')
    answer = small_site.send(bomb, headers={"content-encoding": "gzip"})
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    small_site.alive()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_body_that_is_not_packed_is_a_400(small_site: Site, encoding: str) -> None:
    """The error names the encoding that the header names."""
    answer = small_site.send(BODY, headers={"content-encoding": encoding})
    assert (answer.status, answer.error["code"]) == (400, "invalid_json")
    assert f"is not {encoding} data" in answer.error["message"]


def test_packed_body_without_encoding_is_a_400(small_site: Site) -> None:
    """The error says that the body is compressed."""
    answer = small_site.send(gzip.compress(BODY))
    assert (answer.status, answer.error["code"]) == (400, "invalid_json")
    assert "is compressed" in answer.error["message"]
