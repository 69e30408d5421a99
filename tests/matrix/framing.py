"""What a stream must look like on the wire, which SDKs do not check."""

import json
from collections.abc import Iterator
from typing import Any


def events_of(body: str) -> list[tuple[str | None, str]]:
    """Name and data of each event; fails for one that is not complete."""
    assert body.endswith("\n\n"), body[-200:]
    events = []
    for block in body.replace("\r\n", "\n").removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line[:1] != ":")
        if "data" in fields:
            events.append((fields.get("event"), fields["data"]))
    return events


def check_framing(dialect: str, body: str) -> None:
    """Fails unless strict clients of a dialect read the stream to its end."""
    events = events_of(body)
    if dialect == "chat":
        _check_chat(events)
        return
    read: list[dict[str, Any]] = []
    for name, data in events:
        event = json.loads(data)
        assert name == event["type"]
        if name != "ping":
            read.append(event)
    if dialect == "messages":
        _check_messages(read)
    else:
        _check_responses(read)


def check_pieces(body: str, *texts: str) -> None:
    """Fails if a text that the provider sent in pieces comes in one delta: it was held back."""
    for _, data in events_of(body):
        event = {} if data == "[DONE]" else json.loads(data)
        kind = event.get("type", "delta")
        if kind.endswith("delta") and kind != "message_delta":
            assert not set(texts) & set(_strings(event))


def _strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def _check_chat(events: list[tuple[str | None, str]]) -> None:
    assert all(name is None for name, _ in events)
    assert events[-1][1] == "[DONE]"
    chunks = [json.loads(data) for _, data in events[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert choices[0]["delta"]["role"] == "assistant"
    assert [bool(choice["finish_reason"]) for choice in choices].index(True) == len(choices) - 1
    assert [bool(chunk.get("usage")) for chunk in chunks].index(True) == len(chunks) - 1
    assert chunks[-1]["choices"] == []
    begun: set[int] = set()
    for choice in choices:
        for call in choice["delta"].get("tool_calls") or ():
            is_first = call["index"] not in begun
            assert is_first == ("id" in call) == ("name" in call["function"])
            begun.add(call["index"])
    assert begun == set(range(len(begun)))


def _check_messages(events: list[dict[str, Any]]) -> None:
    kinds = [event["type"] for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    usage = events[-2]["usage"]
    assert {"input_tokens", "output_tokens", "cache_read_input_tokens"} <= set(usage)
    index, is_open = -1, False
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open
            index, is_open = index + 1, True
        else:
            assert is_open
        assert event["index"] == index
        if event["type"] == "content_block_stop":
            is_open = False
    assert not is_open


def _check_responses(events: list[dict[str, Any]]) -> None:
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    added = [event for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in added] == list(range(len(added)))
    assert [event["item"] for event in done] == events[-1]["response"]["output"]
    assert [event["item"]["id"] for event in added] == [event["item"]["id"] for event in done]
