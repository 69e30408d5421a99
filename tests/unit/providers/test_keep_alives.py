"""Which chunks of a stream only show that the provider is there."""

import pytest

from serve_app.providers.incoming import is_keep_alive


@pytest.mark.parametrize(
    "chunk",
    [
        b": keep-alive\n\n",
        b":\n\n",
        b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n",
        b"\n",
        b"\r\n\r\n",
        b'event: ping\ndata: {"type": "ping"}\n\n',
        b'event:ping\ndata:{"type":"ping"}\n\n',
        b'event: keepalive\ndata: {"type":"keepalive","sequence_number":4}\n\n',
        b'data: {"type": "ping"}\n\n',
        b'data:{"type":"heartbeat"}\r\n\r\n',
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":null}]}\n\n',
        b'data: {"choices": [{"delta": {"content": ""}, "index": 0}]}\n\n',
        b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
        b'data: {"choices":[{"delta":{"role": "assistant", "content": null}}]}\n\n',
    ],
)
def test_keep_alive_is_recognised(chunk: bytes) -> None:
    """Comments, blank lines, events that are named so and empty deltas are keep-alives."""
    assert is_keep_alive(chunk)


@pytest.mark.parametrize(
    "chunk",
    [
        b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"","reasoning_content":"a"}}]}\n\n',
        b'data: {"choices":[{"delta":{}}]}\n\ndata: {"choices":[{"delta":{"content":"a"}}]}\n\n',
        b": c\n\n" + b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
        b'event: ping\ndata: {}\n\nevent: content_block_delta\ndata: {"delta":{}}\n\n',
        b'event: content_block_delta\ndata: {"delta":{"type":"text_delta","text":"a"}}\n\n',
        b'data: {"choices":[{"delta":{}}],"x":"' + b"y" * 512 + b'"}\n\n',
        b"data: [DONE]\n\n",
        b'nt"}}]}\n\n',
    ],
)
def test_content_is_not_a_keep_alive(chunk: bytes) -> None:
    """A chunk with content counts, whatever else is in it."""
    assert not is_keep_alive(chunk)
