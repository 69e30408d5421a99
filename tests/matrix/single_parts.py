"""Streams of one text or one call in every dialect: large, long, and of tools of Codex."""

from collections.abc import Sequence
from typing import Any, Final

from tests.matrix import chat_transcripts, messages_transcripts, responses_transcripts
from tests.matrix.cases import TOOL, Tokens, call_id
from tests.matrix.vendor import EXTRA

LARGE: Final = "Fließtext \N{WATER WAVE}. " * 100_000
"""More than 2 MB."""

MANY: Final = 10_000
_PIECES: Final = [f"{number} " for number in range(MANY)]
LONG: Final = "".join(_PIECES)
ARGUMENTS: Final = f'{{"city": "{LARGE}"}}'


def _chat(pieces: Sequence[str], tool: str | None) -> list[bytes]:
    chunk = chat_transcripts.chunk
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in pieces]
    if tool:
        function = {"name": tool, "arguments": ""}
        begun = {"index": 0, "id": call_id("chat", 0), "type": "function", "function": function}
        deltas = [{"tool_calls": [begun]}] + [
            {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces
        ]
    return [
        chunk({"role": "assistant", "content": ""}),
        *map(chunk, deltas),
        chunk({}, "tool_calls" if tool else "stop"),
        chunk(None, usage=chat_transcripts.usage(Tokens())),
        chat_transcripts.DONE,
    ]


def _messages(pieces: Sequence[str], tool: str | None) -> list[bytes]:
    event = messages_transcripts.event
    block: dict[str, Any] = {"type": "text", "text": ""}
    kind, key, reason = "text_delta", "text", "end_turn"
    if tool:
        block = {"type": "tool_use", "id": call_id("messages", 0), "name": tool, "input": {}}
        kind, key, reason = "input_json_delta", "partial_json", "tool_use"
    deltas = [{"type": kind, key: piece} for piece in pieces]
    ending = {"stop_reason": reason, "stop_sequence": None}
    return [
        messages_transcripts.start(),
        event("content_block_start", index=0, content_block=block),
        *(event("content_block_delta", index=0, delta=delta) for delta in deltas),
        event("content_block_stop", index=0),
        event("message_delta", delta=ending, usage={"output_tokens": 5}),
        event("message_stop"),
    ]


def _responses(pieces: Sequence[str], tool: str | None) -> list[bytes]:
    stream = responses_transcripts.Events()
    stream.begin()
    text = "".join(pieces)
    content = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant"}
    item |= {"status": "completed", "content": [content]}
    if tool:
        item = {"type": "function_call", "id": "fc_1", "status": "completed", "name": tool}
        item |= {"call_id": call_id("responses", 0), "arguments": text}
    stream.item(0, item, pieces)
    ended = responses_transcripts.response(
        "completed", output=[item], usage=responses_transcripts.usage(Tokens())
    )
    stream.add("response.completed", response=ended)
    return stream.written


_WRITERS: Final = {"chat": _chat, "messages": _messages, "responses": _responses}
_CALL: Final = (
    '{"in',
    'put": "*** Begin Patch\\n',
    '\\"é\\""}',
)
CUSTOM_INPUT: Final = '*** Begin Patch\n"é"'
NAMESPACE: Final = "files"
EXTRA["large"] = lambda dialect: _WRITERS[dialect]([LARGE], None)
EXTRA["long"] = lambda dialect: _WRITERS[dialect](_PIECES, None)
EXTRA["large-call"] = lambda dialect: _WRITERS[dialect]([ARGUMENTS], TOOL)
EXTRA["custom"] = lambda dialect: _WRITERS[dialect](_CALL, TOOL)
EXTRA["namespace"] = lambda dialect: _WRITERS[dialect](
    ['{"city": "Paris"}'], f"{NAMESPACE}__{TOOL}"
)
