"""Attempts to leak a key, to forge lines of the log or headers, and to fill the gateway up."""

import asyncio
import gzip
import http.client
import json
import logging
import re
import socket
import statistics
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest

from serve_app.dialects.registry import CLIENT_DIALECTS
from tests.scripted_provider import ScriptedProvider
from tests.scripts import Headers, Line, Script, completion, event, script_of
from tests.site import CHAT, DATA_PATHS, MESSAGES, RESPONSES, SECRET, Site, write_config
from tests.wire.conftest import serve_api

KEY: Final = "fp-client-key-0123456789"
REDIS_PASSWORD: Final = "redis-pass-0123456789"
ENVIRON: Final = {"FINGERPOST_TEST_KEY": SECRET, "REDIS_PASSWORD": REDIS_PASSWORD}
MINE: Final = {"x-api-key": KEY}
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x9b]")


COMPLETE: Final = completion("hello", "m")
ODD_VALUES: Final = [
    b"a\r\n set-cookie: x=y",
    b"a\x1b[2Jb",
    b"a\x01b",
    b"a\nset-cookie: x=y",
    b"\xeb",
]


def _leaks(model: str) -> Script:
    """Repeats the gateway's headers in every way that a provider may; others as scripted."""

    async def play(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
        del request
        if "odd" in model:
            value = ODD_VALUES[int(model.rpartition("-")[2])]
            line.raw(
                b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-request-id: %s\r\n\r\n"
                % (len(COMPLETE), value)
            )
            line.raw(COMPLETE)
            return
        said = json.dumps({"error": {"message": f"bad {json.dumps(dict(exchange.headers))}"}})
        if "header" in model:
            line.whole(said.encode(), 400, {"x-ratelimit-key": exchange.headers["authorization"]})
            return
        if "whole" in model:
            line.whole(said.encode(), 500 if "500" in model else 401)
            return
        line.head(200, {"content-type": "text/event-stream"}, None)
        if "late" in model:
            line.chunk(event({"content": "half"}))
        cut = said.index(SECRET) + 7  # in the middle of the key
        data = f"data: {said}\n\n".encode()
        for piece in (data[: cut + 6], data[cut + 6 :]):
            line.chunk(piece)
            await asyncio.sleep(0.05)
        line.end()

    return play if model.startswith("leaks") else script_of(model)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway with a client key, secrets of every kind, and a provider that repeats its own."""
    with ExitStack() as stack:
        providers = {
            name: stack.enter_context(ScriptedProvider(find=_leaks)) for name in DATA_PATHS
        }
        file = write_config(tmp_path_factory.mktemp("content"), providers)
        config = json.loads(file.read_text())
        url = "redis://:$REDIS_PASSWORD@127.0.0.1:1"
        config["routing"]["session_cache"] = {"type": "redis", "url": url}
        config["limits"] = {"body_bytes": 1 << 20}
        file.write_text(json.dumps({**config, "client_keys": [KEY]}))
        with serve_api(file, providers, ENVIRON) as running:
            yield running


def body_of(path: str, model: str, **fields: Any) -> bytes:
    """A request on a surface."""
    words = [{"role": "user", "content": "hi"}]
    asked = {"input": "hi"} if path == RESPONSES else {"messages": words, "max_tokens": 9}
    return json.dumps({"model": model, **asked, **fields}).encode()


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
@pytest.mark.parametrize("data_path", ["dedicated", "inline"])
@pytest.mark.parametrize(
    ("script", "stream"),
    [
        ("leaks-whole", False),
        ("leaks-whole-500", False),
        ("leaks-whole", True),
        ("leaks-header", False),
        ("leaks-stream", True),
        ("leaks-late", True),
    ],
)
def test_our_key_in_an_error_is_masked(
    site: Site, path: str, data_path: str, script: str, stream: bool
) -> None:
    """Complete, in a stream before and after content, in a header, and cut in two by the network."""
    body = body_of(path, f"{data_path}/{script}", stream=stream)
    answer = site.send(body, path=path, headers=MINE)
    assert SECRET[:12] not in str(answer.headers)
    assert SECRET.encode() not in answer.body
    assert b"bad" in answer.body


@pytest.mark.parametrize("number", range(len(ODD_VALUES)))
@pytest.mark.parametrize("data_path", ["dedicated", "inline"])
def test_header_of_a_provider_forges_nothing(site: Site, data_path: str, number: int) -> None:
    """The answer goes out, and the odd value is left out or is text in its own header."""
    answer = site.send(body_of(CHAT, f"{data_path}/leaks-odd-{number}"), headers=MINE)
    assert answer.status == 200
    assert answer.json["choices"]
    assert "set-cookie" not in answer.headers
    assert not any(map(CONTROL.search, answer.headers.values()))


@pytest.mark.parametrize("headers", [{}, MINE, {"x-api-key": f"{KEY}x"}])
def test_no_answer_and_no_log_has_a_secret(
    site: Site, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Keys of clients and of providers, and the password of Redis: on every path and every error."""
    shown = []
    with caplog.at_level(logging.DEBUG):
        for method, path, model in (
            ("GET", "/healthz", ""),
            ("GET", "/v1/models", ""),
            ("GET", "/v1/models/dedicated/parrot", ""),
            ("GET", "/v1/models/none", ""),
            ("POST", CHAT, "dedicated/parrot"),
            ("POST", CHAT, "dedicated/status-500"),
            ("POST", CHAT, "dedicated/die-early"),
            ("POST", CHAT, "keyless/any"),
            ("POST", CHAT, "dead/gone"),
            ("POST", CHAT, f"dedicated/parrot@{KEY}"),
            ("POST", CHAT, "none/none"),
            ("POST", "/v1/route", "auto"),
            ("POST", "/routing/v1/messages", "auto"),
            ("GET", "/v1/responses/resp_1", ""),
            ("DELETE", "/v1/conversations/conv_1", ""),
        ):
            body = body_of(path, model) if model else None
            answer = site.send(body, method=method, path=path, headers=headers)
            shown.append(f"{answer.headers} {answer.body.decode()}".replace(f"parrot@{KEY}", ""))
    for text in (*shown, caplog.text.replace(f"parrot@{KEY}", "")):
        for secret in (SECRET, KEY, REDIS_PASSWORD):
            assert secret not in text


@pytest.mark.parametrize(
    "text",
    [
        "a\r\nset-cookie: x=y",
        "a\nINFO forged",
        "a\x1b[2J",
        "a\x00b",
        "a\u2028b",
        "a\x85b",
        "a\u202eb",
    ],
)
@pytest.mark.parametrize("where", ["model", "models", "route", "hint", "tool", "session", "path"])
def test_forged_line_is_no_line(
    site: Site, where: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Line breaks and escape sequences of a client reach neither a header nor the log."""
    fields: dict[str, Any] = {}
    headers, path = dict(MINE), CHAT
    if where == "models":
        fields["models"] = [text]
    elif where == "route":
        route = {"name": text, "description": text, "models": ["dedicated/parrot"]}
        fields["routing_preferences"] = [route]
    elif where == "tool":
        fields["tools"] = [{"type": "function", "function": {"name": text}}]
    elif where == "hint" and text.isprintable():
        headers["x-arch-llm-provider-hint"] = text.encode().decode("latin-1")
    elif where == "session":
        fields["prompt_cache_key"] = text
    elif where == "path":
        path = "/v1/" + "".join(f"%{byte:02x}" for byte in text.encode())
    model = {"model": text, "route": "auto"}.get(where, "dedicated/parrot")
    with caplog.at_level(logging.DEBUG):
        answer = site.send(body_of(CHAT, model, **fields), path=path, headers=headers)
    assert answer.status in {200, 400, 404}
    assert "set-cookie" not in answer.headers
    assert not any(map(CONTROL.search, answer.headers.values()))
    for record in caplog.records:
        assert not CONTROL.search(record.getMessage())


SPELLINGS: Final = ("upper", "title", "swapcase")


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_key_of_a_body_in_other_letters_is_refused(site: Site, path: str, spelling: str) -> None:
    """A provider that compares keys without case would read another model than the gateway."""
    dialect = next(dialect for dialect in CLIENT_DIALECTS if f"/v1{dialect.path}" == path)
    for key in sorted(dialect.fields.read):
        other = getattr(key, spelling)()
        body = json.loads(body_of(path, "dedicated/parrot"))
        body[other] = body.get(key, "x")
        answer = site.send(json.dumps(body).encode(), path=path, headers=MINE)
        assert answer.status == 400, other
        assert other.lower() == key


@pytest.mark.parametrize(
    "name",
    [
        "x-fingerpost-key",
        "X-Fingerpost-Affinity",
        "x-fingerpost-fallback",
        "x-fingerpost-model",
        "x-fingerpost-anything",
        "X-Arch-Anything",
        "x-arch-llm-provider",
        "x-arch-upstream",
        "x-plano-anything",
        "X-Forwarded-For",
        "cookie",
        "proxy-authorization",
        "x-amz-security-token",
        "openai-organization",
        "api-key",
        "x-goog-api-key",
    ],
)
def test_header_of_ours_reaches_no_provider(site: Site, name: str) -> None:
    """In whatever letters a client writes it."""
    for written in (name, name.upper(), name.title()):
        answer = site.send(
            body_of(CHAT, "dedicated/parrot"), headers={**MINE, written: f"{KEY}-canary"}
        )
        assert answer.status == 200
        sent = site.exchange("dedicated")
        assert name.lower() not in sent.headers
        assert "canary" not in str(sent.headers)
        assert KEY not in str(sent.headers) + sent.body.decode()


NUMBERS: Final = [
    "1e999999",
    "-1e999999",
    "1" * 5000,
    "1" * 100_000,
    "0." + "1" * 50_000,
    "1e-999999",
]


@pytest.mark.parametrize("number", NUMBERS, ids=range(len(NUMBERS)))
@pytest.mark.parametrize("key", ["max_tokens", "temperature", "seed", "model", "x"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, "/v1/route"])
def test_giant_number_is_no_fault(site: Site, path: str, key: str, number: str) -> None:
    """It is passed on, or refused in the dialect; no conversion takes seconds."""
    body = json.loads(body_of(path, "dedicated/parrot"))
    body[key] = "NUMBER"
    began = time.monotonic()
    text = json.dumps(body).replace('"NUMBER"', number).encode()
    answer = site.send(text, path=path, headers=MINE)
    assert answer.status in {200, 400}
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("depth", [100, 2000, 150_000])
def test_deep_body_is_no_fault(site: Site, opening: str, depth: int) -> None:
    """Whether it is complete or not, at the top and inside of a message."""
    closing = {"[": "]", '{"a":': "}", '[{"a":': "}]"}[opening]
    for ends in (closing * depth, ""):
        deep = opening * depth + "1" + ends
        for body in (
            f'{{"model": "dedicated/parrot", "messages": [], "x": {deep}}}',
            f'{{"model": "dedicated/parrot", "messages": [{{"role": "user", "content": {deep}}}]}}',
        ):
            answer = site.send(body.encode(), headers=MINE)
            assert answer.status in {200, 400, 413}
    assert site.send(body_of(CHAT, "dedicated/parrot"), headers=MINE).status == 200


def _nested(data: bytes, times: int) -> bytes:
    for _ in range(times):
        data = gzip.compress(data, 9)
    return data


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b" " * (16 << 20), 9)),
        ("deflate", zlib.compress(b" " * (16 << 20), 9)),
        ("gzip, gzip", _nested(b" " * (16 << 20), 2)),
        ("gzip, gzip, gzip, gzip", _nested(b" " * (16 << 20), 4)),
        ("gzip", gzip.compress(b" " * (4 << 20), 9) * 10),
        ("gzip", gzip.compress(b"", 9) * 40_000),
        (", ".join(["gzip"] * 400), b"x"),
    ],
    ids=["gzip", "deflate", "twice", "four times", "parts", "empty parts", "400 times"],
)
def test_bomb_is_refused_quickly(site: Site, encoding: str, body: bytes) -> None:
    """Within its limit of memory and in well under a second, and others are served meanwhile."""
    began = time.monotonic()
    answer = site.send(body, headers={**MINE, "content-encoding": encoding})
    assert answer.status in {400, 413, 415}
    assert time.monotonic() - began < 2
    assert site.send(body_of(CHAT, "dedicated/parrot"), headers=MINE).status == 200


def _request(line: http.client.HTTPConnection, key: str) -> tuple[int, float]:
    began = time.perf_counter()
    line.request("POST", CHAT, body_of(CHAT, "dedicated/parrot"), {"x-api-key": key})
    answer = line.getresponse()
    answer.read()
    return answer.status, time.perf_counter() - began


def _flood(site: Site, numbers: range) -> int:
    """Sends a wrong key for each number, a hundred at a time. Returns how many got a 401."""
    refused = 0
    with socket.create_connection((site.host, site.port), timeout=10) as line:
        for start in range(numbers.start, numbers.stop, 100):
            heads = (
                f"GET /v1/models HTTP/1.1\r\nhost: h\r\nx-api-key: {KEY[:-6]}{number:06}\r\n\r\n"
                for number in range(start, start + 100)
            )
            line.sendall("".join(heads).encode())
            received = b""
            while received.count(b"invalid_api_key") < 100:
                received += line.recv(1 << 20)
            refused += received.count(b"HTTP/1.1 401 ")
    return refused


def test_flood_of_wrong_keys_leaves_no_trace(site: Site) -> None:
    """After 10,000 of them neither is memory held, nor is a good key slower than before."""
    line = http.client.HTTPConnection(site.host, site.port, timeout=10)
    for _ in range(50):
        _request(line, KEY)
    before = statistics.median(_request(line, KEY)[1] for _ in range(100))
    line.close()  # the next request opens it again
    assert _flood(site, range(8000)) == 8000
    tracemalloc.start()
    try:
        _flood(site, range(8000, 8200))  # what is made once
        held, _ = tracemalloc.get_traced_memory()
        assert _flood(site, range(8200, 10_200)) == 2000
        grown = tracemalloc.get_traced_memory()[0] - held
    finally:
        tracemalloc.stop()
    assert grown < 2000 * 32, "a key of 32 bytes would be more"
    after = statistics.median(_request(line, KEY)[1] for _ in range(100))
    assert after < 3 * before + 0.002
    line.close()


def test_idle_and_slow_connections_keep_nobody_out(site: Site) -> None:
    """A thousand that send nothing, or a header a byte at a time, cost a good client nothing."""
    lines = []
    try:
        for number in range(1000):
            line = socket.create_connection((site.host, site.port), timeout=5)
            lines.append(line)
            if number % 2:
                line.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nx-slow: ")
        for _ in range(3):
            for line in lines[1::100]:
                line.sendall(b"x")
            began = time.monotonic()
            assert site.send(body_of(CHAT, "dedicated/parrot"), headers=MINE).status == 200
            assert time.monotonic() - began < 1
    finally:
        for line in lines:
            line.close()
