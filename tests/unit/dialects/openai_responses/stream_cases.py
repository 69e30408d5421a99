"""Streams of providers, as strict servers and careless ones send them, and what they say."""

import json
from typing import TypeAlias

from serve_app.dialects import ir
from serve_app.domain import Json
from tests.unit.dialects.openai_responses.samples import CITATION, LOGPROB

ANNOTATION: dict[str, Json] = {
    "type": "url_citation",
    "url": CITATION.url,
    "title": "A",
    "start_index": 0,
    "end_index": 2,
}
HEAD: dict[str, Json] = {
    "id": "resp_1",
    "model": "m",
    "created_at": 7.0,
    "status": "in_progress",
    "output": [],
}
CREATED: dict[str, Json] = {"type": "response.created", "response": HEAD}
USED: dict[str, Json] = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 2},
}


_Fields: TypeAlias = dict[str, Json]


def event(kind: str, index: int | None = 0, **fields: Json) -> _Fields:
    place = {} if index is None else {"output_index": index}
    return {"type": f"response.{kind}", **place, **fields}


def added(index: int, kind: str = "", **fields: Json) -> _Fields:
    return event("output_item.added", index, item={"type": kind, **fields})


def done(index: int, kind: str = "", **fields: Json) -> _Fields:
    return event("output_item.done", index, item={"type": kind, **fields})


def completed(*output: Json, **fields: Json) -> _Fields:
    response = {**HEAD, "status": "completed", "output": list(output), "usage": USED, **fields}
    return {"type": "response.completed", "response": response}


def text(value: str, **fields: Json) -> _Fields:
    return {"type": "output_text", "text": value, **fields}


def message(*content: Json, **fields: Json) -> _Fields:
    return {"type": "message", "role": "assistant", "content": list(content), **fields}


CALL: dict[str, Json] = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "find"}
WHOLE_CALL: dict[str, Json] = {**CALL, "arguments": '{"a":1}'}
DELTA = event("output_text.delta", content_index=0, delta="Hi", logprobs=[LOGPROB])
SUMMARY = [{"type": "summary_text", "text": "Hm"}, {"type": "summary_text", "text": "so"}]
SIGNED = ir.Signed(json.dumps({"id": "rs_1", "encrypted_content": "abc"}))
THINKING: dict[str, Json] = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": SUMMARY,
    "encrypted_content": "abc",
}
THOUGHT = ir.Thinking("Hm\n\nso", SIGNED.signature, "responses")
HI = ir.Text("Hi", (), (LOGPROB,))
FOUND = ir.ToolCall("call_1", "find", '{"a":1}')

CASES: list[tuple[str, list[Json], list[ir.AnswerPart]]] = [
    (
        "text in pieces, then everything again",
        [
            added(0, "message", id="msg_1"),
            event("content_part.added", part=text("")),
            DELTA,
            event("output_text.done", content_index=0, text="Hi"),
            event("content_part.done", content_index=0, part=text("Hi")),
            done(0, **message(text("Hi"))),
            completed(message(text("Hi"))),
        ],
        [HI],
    ),
    ("pieces alone", [DELTA, completed()], [HI]),
    (
        "text when it is done",
        [event("output_text.done", text="Hi", logprobs=[LOGPROB]), completed()],
        [HI],
    ),
    (
        "text when its part is done",
        [event("content_part.done", part=text("Hi", logprobs=[LOGPROB])), completed()],
        [HI],
    ),
    ("text when its item is done", [done(0, **message(text("Hi"))), completed()], [ir.Text("Hi")]),
    ("text of an item as a string", [done(0, "message", content="Hi"), completed()], [ir.Text("Hi")]),
    ("text at the end", [CREATED, completed(message(text("Hi")))], [ir.Text("Hi")]),
    (
        "text at the end of an item that began",
        [added(0, "message"), completed(message(text("Hi")))],
        [ir.Text("Hi")],
    ),
    ("text in the item that began", [added(0, **message(text("Hi"))), completed()], [ir.Text("Hi")]),
    (
        "two texts in one message",
        [DELTA, event("output_text.delta", content_index=1, delta="b"), completed()],
        [HI, ir.Text("b")],
    ),
    (
        "ids that differ from event to event",
        [
            added(0, "message", id="a"),
            DELTA,
            done(0, **message(text("Hi"), id="b")),
            completed(message(text("Hi"), id="c")),
        ],
        [HI],
    ),
    (
        "a gap between indexes",
        [
            added(0, "message", id="a"),
            DELTA,
            done(0, **message(text("Hi"), id="a")),
            added(2, **CALL),
            done(2, **WHOLE_CALL),
            completed(message(text("Hi"), id="a"), WHOLE_CALL),
        ],
        [HI, FOUND],
    ),
    (
        "one index for two items",
        [
            added(0, "message", id="a"),
            DELTA,
            done(0, **message(text("Hi"), id="a")),
            added(0, **CALL),
            done(0, **WHOLE_CALL),
            completed(message(text("Hi"), id="a"), WHOLE_CALL),
        ],
        [HI, FOUND],
    ),
    (
        "no index",
        [
            added(0, "message", id="a"),
            event("output_text.delta", None, item_id="a", delta="Hi", logprobs=[LOGPROB]),
            added(1, **CALL),
            event("function_call_arguments.delta", None, item_id="fc_1", delta='{"a":1}'),
            completed(),
        ],
        [HI, FOUND],
    ),
    (
        "call in pieces",
        [
            added(0, **CALL, arguments=""),
            event("function_call_arguments.delta", delta='{"a"'),
            event("function_call_arguments.delta", delta=":1}"),
            event("function_call_arguments.done", arguments='{"a":1}'),
            done(0, **WHOLE_CALL),
            completed(WHOLE_CALL),
        ],
        [FOUND],
    ),
    (
        "call when its arguments are done",
        [added(0, **CALL), event("function_call_arguments.done", arguments='{"a":1}'), completed()],
        [FOUND],
    ),
    ("call when it is done", [added(0, **CALL), done(0, **WHOLE_CALL), completed()], [FOUND]),
    ("call that nothing announced", [done(0, **WHOLE_CALL), completed()], [FOUND]),
    ("call at the end", [completed(WHOLE_CALL)], [FOUND]),
    ("whole call as it begins", [added(0, **WHOLE_CALL), completed()], [FOUND]),
    (
        "call whose name comes last",
        [
            added(0, "function_call"),
            event("function_call_arguments.delta", delta='{"a"'),
            done(0, **WHOLE_CALL),
            completed(),
        ],
        [FOUND],
    ),
    (
        "arguments as an object",
        [done(0, **{**CALL, "arguments": {"a": 1}}), completed()],
        [FOUND],
    ),
    (
        "call without ids",
        [done(3, "function_call", name="find", arguments="{}"), completed()],
        [ir.ToolCall("call_3", "find", "{}")],
    ),
    (
        "two calls in turns",
        [
            added(0, **CALL),
            added(1, **{**CALL, "call_id": "call_2", "namespace": "n"}),
            event("function_call_arguments.delta", 1, delta="{}"),
            event("function_call_arguments.delta", 0, delta='{"a":1}'),
            done(1, "function_call"),
            done(0, **WHOLE_CALL),
            completed(),
        ],
        [FOUND, ir.ToolCall("call_2", "find", "{}", namespace="n")],
    ),
    (
        "custom call",
        [
            added(0, "custom_tool_call", call_id="c", name="patch", input=""),
            event("custom_tool_call_input.delta", delta="***"),
            event("custom_tool_call_input.done", input="***"),
            completed(),
        ],
        [ir.ToolCall("c", "patch", "***", is_custom=True)],
    ),
    (
        "refusal in pieces",
        [
            event("refusal.delta", delta="N"),
            event("refusal.delta", delta="o"),
            event("refusal.done", refusal="No"),
            completed(),
        ],
        [ir.Refusal("No")],
    ),
    ("refusal when it is done", [event("refusal.done", refusal="No"), completed()], [ir.Refusal("No")]),
    (
        "refusal in an item",
        [done(0, **message({"type": "refusal", "refusal": "No"})), completed()],
        [ir.Refusal("No")],
    ),
    (
        "source by event, and again in its part",
        [
            DELTA,
            event("output_text.annotation.added", annotation=ANNOTATION),
            event("output_text.annotation.added", annotation={"type": "file_path"}),
            event("content_part.done", part=text("Hi", annotations=[ANNOTATION])),
            completed(),
        ],
        [ir.Text("Hi", (CITATION,), (LOGPROB,))],
    ),
    (
        "source in the item",
        [DELTA, done(0, **message(text("Hi", annotations=[ANNOTATION]))), completed()],
        [ir.Text("Hi", (CITATION,), (LOGPROB,))],
    ),
    (
        "summary in pieces",
        [
            added(0, "reasoning", id="rs_1"),
            event("reasoning_summary_part.added", summary_index=0, part=SUMMARY[0]),
            event("reasoning_summary_text.delta", summary_index=0, delta="H"),
            event("reasoning_summary_text.delta", summary_index=0, delta="m"),
            event("reasoning_summary_text.done", summary_index=0, text="Hm"),
            event("reasoning_summary_part.done", summary_index=0, part=SUMMARY[0]),
            event("reasoning_summary_part.done", summary_index=1, part=SUMMARY[1]),
            done(0, **THINKING),
            completed(THINKING),
        ],
        [THOUGHT],
    ),
    ("summary when it is done", [done(0, **THINKING), completed()], [THOUGHT]),
    (
        "proof that comes after the next item has begun",
        [
            event("reasoning_summary_text.done", summary_index=0, text="Hm"),
            event("output_text.delta", 1, delta="Hi", logprobs=[LOGPROB]),
            done(0, **{**THINKING, "summary": SUMMARY[:1]}),
            completed(),
        ],
        [
            ir.Thinking("Hm", origin="responses"),
            HI,
            ir.Thinking("", SIGNED.signature, "responses"),
        ],
    ),
    (
        "texts of two messages in turns",
        [
            DELTA,
            event("output_text.delta", 1, delta="b"),
            event("output_text.delta", 0, delta="!"),
            completed(),
        ],
        [HI, ir.Text("b"), ir.Text("!")],
    ),
    (
        "thoughts themselves, then a summary",
        [
            event("reasoning_text.delta", content_index=0, delta="Hm\n\nso"),
            event("reasoning_text.done", content_index=0, text="Hm\n\nso"),
            event("content_part.done", part={"type": "reasoning_text", "text": "Hm\n\nso"}),
            event("reasoning_summary_text.delta", summary_index=0, delta="short"),
            done(0, **THINKING),
            completed(),
        ],
        [THOUGHT],
    ),
    (
        "thoughts when their part is done",
        [
            event("content_part.done", part={"type": "reasoning_text", "text": "Hm\n\nso"}),
            done(0, **THINKING),
            completed(),
        ],
        [THOUGHT],
    ),
    ("thoughts that show nothing", [added(0, "reasoning"), done(0, "reasoning"), completed()], []),
    (
        "tools of the provider",
        [
            added(0, "web_search_call", id="ws"),
            event("web_search_call.searching", item_id="ws"),
            done(0, "web_search_call", id="ws", name="not a call", arguments="{}"),
            done(1, "mcp_call", name="find", arguments="{}"),
            event("mcp_call_arguments.delta", 1, delta="{}"),
            completed(),
        ],
        [ir.Foreign("web_search_call"), ir.Foreign("mcp_call")],
    ),
    (
        "unknown content of a message",
        [done(0, **message({"type": "output_audio"}, text("Hi"))), completed()],
        [ir.Foreign("output_audio"), ir.Text("Hi")],
    ),
    ("nothing", [CREATED, completed()], []),
]  # fmt: skip
