"""Streams that are silent for long: the gateway fills the gap, and no SDK notices."""

import http.client
import json

import anthropic
import openai
import pytest

from tests.site import Site

HELLO = "one two three four five six"


@pytest.fixture(autouse=True)
def _short_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider pauses for 50 ms between two chunks; the gateway fills after 15 ms."""
    monkeypatch.setattr("serve_app.api.send.KEEP_ALIVE_S", 0.015)


@pytest.mark.parametrize(
    ("path", "filler"),
    [
        ("/v1/chat/completions", b": keep-alive\n\n"),
        ("/v1/responses", b": keep-alive\n\n"),
        ("/v1/messages", b'event: ping\ndata: {"type": "ping"}\n\n'),
    ],
)
def test_gap_is_filled_between_events(path: str, filler: bytes, site: Site) -> None:
    """The filler is an event that says nothing; without it the stream is as ever."""
    body = {"model": "shared/slow", "stream": True, "max_tokens": 9}
    body |= {"input": HELLO, "messages": [{"role": "user", "content": HELLO}]}
    connection = http.client.HTTPConnection(site.host, site.port, timeout=10)
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    stream = connection.getresponse().read()
    connection.close()
    assert stream.count(filler) > 1
    before, _, after = stream.partition(filler)
    assert before.endswith(b"\n\n")
    assert after.startswith((b"data:", b"event:", filler))


def test_openai_sdk_reads_chat_with_gaps(site: Site) -> None:
    """The SDK reads a chat whose gaps are filled."""
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key="x", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="shared/slow", messages=[{"role": "user", "content": HELLO}], stream=True
        )
        chunks = [chunk.choices[0] for chunk in stream]
    assert "".join(choice.delta.content or "" for choice in chunks)
    assert chunks[-1].finish_reason == "stop"


def test_openai_sdk_reads_response_with_gaps(site: Site) -> None:
    """The SDK reads a response whose gaps are filled."""
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key="x", max_retries=0) as client:
        events = list(client.responses.create(model="shared/slow", input=HELLO, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text


def test_anthropic_sdk_reads_message_with_gaps(site: Site) -> None:
    """The SDK reads a message whose gaps are filled."""
    with (
        anthropic.Anthropic(base_url=site.url, api_key="x", max_retries=0) as client,
        client.messages.stream(
            model="shared/slow", max_tokens=9, messages=[{"role": "user", "content": HELLO}]
        ) as stream,
    ):
        message = stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert message.content[0].type == "text"
    assert message.content[0].text
