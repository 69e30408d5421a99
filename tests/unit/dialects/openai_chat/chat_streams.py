"""Streams of providers of chat completions, and the parts that they hold."""

from typing import Final

from serve_app.dialects import ir
from serve_app.domain import Json
from tests.unit.dialects.openai_chat.chat_samples import (
    CITATION,
    LOGPROB,
    USAGE_BODY,
    chunk,
    thinking,
)

ROLE: Final = chunk({"role": "assistant", "content": ""})
HI: Final = chunk({"content": "Hi"})
DONE: Final = chunk({}, "stop")
SHORT: Final = {"prompt_tokens": 1, "completion_tokens": 1}
TEXT: Final = ir.Text("Hi")
CALL: Final = ir.ToolCall("c1", "f", '{"a":1}')


def tools(*entries: Json, finish: Json = None, **fields: Json) -> Json:
    return chunk({"tool_calls": list(entries)}, finish, **fields)


def tool(index: Json = 0, **fields: Json) -> Json:
    """A piece of a call: ``id``, and what its function holds."""
    entry: dict[str, Json] = {} if index is None else {"index": index}
    if "id" in fields:
        entry["id"] = fields.pop("id")
    return {**entry, "function": fields}


def details(*entries: Json, **fields: Json) -> Json:
    return chunk({"reasoning_details": list(entries), **fields})


FIRST: Final = tool(id="c1", name="f", arguments="")
PARTS: Final = [
    ([ROLE, HI, chunk({"content": "!"}), DONE], [ir.Text("Hi!")]),
    # A: text, then a call in pieces
    (
        [
            ROLE,
            HI,
            tools(FIRST),
            tools(tool(arguments='{"a"')),
            tools(tool(arguments=":1}")),
            chunk({}, "tool_calls"),
        ],
        [TEXT, CALL],
    ),
    # B: a call only
    ([ROLE, tools(FIRST), tools(tool(arguments='{"a":1}')), chunk({}, "tool_calls")], [CALL]),
    # C: a whole call in one chunk
    ([tools(tool(id="c1", name="f", arguments='{"a":1}'), finish="tool_calls")], [CALL]),
    # D: two calls, one after the other
    (
        [
            tools(FIRST),
            tools(tool(arguments='{"a":1}')),
            tools(tool(1, id="c2", name="g", arguments="")),
            tools(tool(1, arguments="{}")),
            DONE,
        ],
        [CALL, ir.ToolCall("c2", "g", "{}")],
    ),
    # E: two calls in one chunk
    (
        [
            tools(
                tool(id="c1", name="f", arguments='{"a":1}'),
                tool(1, id="c2", name="g", arguments="{}"),
            ),
            DONE,
        ],
        [CALL, ir.ToolCall("c2", "g", "{}")],
    ),
    # two calls whose pieces come in turns
    (
        [
            tools(FIRST),
            tools(tool(1, id="c2", name="g")),
            tools(tool(arguments='{"a"'), tool(1, arguments="{")),
            tools(tool(1, arguments="}"), tool(arguments=":1}")),
            DONE,
        ],
        [CALL, ir.ToolCall("c2", "g", "{}")],
    ),
    # F: content, finish and usage together
    ([chunk({"content": "Hi"}, "stop", usage=USAGE_BODY)], [TEXT]),
    # sloppy calls
    (
        [
            tools(tool(None, id="c1", name="f", arguments='{"a"')),
            tools(tool(None, id="c1", name="f", arguments=":1}")),
            tools(tool(None, id="c2", name="g", arguments={"b": 2})),
            DONE,
        ],
        [CALL, ir.ToolCall("c2", "g", '{"b":2}')],
    ),
    (
        [
            tools(tool(None, id="c1", name="f", arguments=None)),
            tools(tool(None, arguments='{"a"')),
            tools(tool(None, arguments=":1}")),
            DONE,
        ],
        [CALL],
    ),
    (
        [
            tools(tool(None, name="f", arguments="{}")),
            tools(tool(None, name="f", arguments='{"a":1}')),
            tools(tool(None, name="g", arguments="{")),
            tools(tool(None, name="g", arguments="}")),
            DONE,
        ],
        [
            ir.ToolCall("call_1_0", "f", "{}"),
            ir.ToolCall("call_1_1", "f", '{"a":1}'),
            ir.ToolCall("call_1_2", "g", "{}"),
        ],
    ),
    (
        [
            tools(tool(id="c1", name="f", arguments='{"a":1}')),
            tools(tool(id="c2", name="f", arguments="{}")),
            tools(tool(name="g", arguments="{}")),
            DONE,
        ],
        [CALL, ir.ToolCall("c2", "f", "{}"), ir.ToolCall("call_1_2", "g", "{}")],
    ),
    (
        [tools(tool(id="c", name="f")), tools(tool(1, id="c", name="f")), DONE],
        [ir.ToolCall("c", "f"), ir.ToolCall("call_1_1", "f")],
    ),
    (
        [tools(tool(id="c1", arguments='{"a"')), tools(tool(name="f", arguments=":1}")), DONE],
        [CALL],
    ),
    ([HI, tools(tool(arguments="{}"), 7, {"index": "x"}), DONE], [TEXT]),
    (
        [
            tools({"index": 0, "id": "c", "custom": {"name": "g", "input": "x"}}),
            tools({"index": 0, "custom": {"input": "y"}}),
            DONE,
        ],
        [ir.ToolCall("c", "g", "xy", is_custom=True)],
    ),
    (
        [
            chunk({"function_call": {"name": "f", "arguments": ""}}),
            chunk({"function_call": {"arguments": '{"a":1}'}}),
            chunk({}, "function_call"),
        ],
        [ir.ToolCall("call_1_0", "f", '{"a":1}')],
    ),
    # sloppy text
    ([chunk(None), chunk("x"), chunk({"content": None}), HI, DONE], [TEXT]),
    ([{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}], [TEXT]),
    ([HI, chunk({"content": "no"}, choice={"index": 1}), DONE], [TEXT]),
    ([HI, DONE, chunk({"content": "!"})], [ir.Text("Hi!")]),
    # white space is left out beside other parts only
    ([chunk({"content": "\n\n"}), tools(FIRST), DONE], [ir.ToolCall("c1", "f")]),
    ([chunk({"content": "\n"}), HI, DONE], [ir.Text("\nHi")]),
    ([chunk({"content": "\n"}), DONE], [ir.Text("\n")]),
    (
        [HI, tools(FIRST), chunk({"content": "\n"}), chunk({"content": "so"}), DONE],
        [TEXT, ir.ToolCall("c1", "f"), ir.Text("\nso")],
    ),
    # thoughts
    (
        [
            chunk({"reasoning_content": "h"}),
            chunk({"reasoning_content": "m", "reasoning": "m"}),
            HI,
            DONE,
        ],
        [thinking("hm", **{"in": "reasoning_content"}), TEXT],
    ),
    (
        [chunk({"reasoning": "hm", "content": ""}), HI, chunk({"reasoning": "so"}), DONE],
        [thinking("hm", **{"in": "reasoning"}), TEXT, thinking("so", **{"in": "reasoning"})],
    ),
    (
        [
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}]}),
            chunk({"content": [{"type": "thinking", "thinking": "m"}]}),
            chunk({"content": [{"type": "thinking"}, {"type": "text", "text": "Hi"}]}),
            DONE,
        ],
        [thinking("hm", **{"in": "thinking"}), TEXT],
    ),
    (
        [
            details({"type": "reasoning.text", "text": "h", "format": "f"}, reasoning="h"),
            details({"type": "reasoning.text", "text": "m", "index": None}, reasoning="m"),
            details({"type": "reasoning.text", "signature": "s", "format": "f"}),
            details({"type": "reasoning.text", "text": "so"}),
            details({"type": "reasoning.encrypted", "data": "d", "id": "i"}),
            details({"type": "reasoning.encrypted", "data": "e"}, {"type": "other"}, 3),
            HI,
            DONE,
        ],
        [
            thinking("hm", **{"in": "reasoning.text", "format": "f", "signature": "s"}),
            thinking("so", **{"in": "reasoning.text"}),
            thinking("", **{"in": "reasoning.encrypted", "id": "i", "data": "d"}),
            thinking("", **{"in": "reasoning.encrypted", "data": "e"}),
            TEXT,
        ],
    ),
    (
        [
            details({"type": "reasoning.summary", "summary": "a", "index": 0}),
            details({"type": "reasoning.summary", "summary": "b", "index": 1}),
            DONE,
        ],
        [
            thinking("a", **{"in": "reasoning.summary"}),
            thinking("b", **{"in": "reasoning.summary"}),
        ],
    ),
    # refusal, sources, probabilities
    ([chunk({"refusal": "n"}), chunk({"refusal": "o"}), DONE], [ir.Refusal("no")]),
    (
        [
            HI,
            chunk(
                {
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url_citation": {
                                "url": "https://a.example",
                                "title": "A",
                                "start_index": 0,
                                "end_index": 2,
                            },
                        }
                    ]
                }
            ),
            DONE,
        ],
        [ir.Text("Hi", (CITATION,))],
    ),
    ([chunk({"annotations": [{"url": "https://a.example"}]}), HI, DONE], [TEXT]),
    (
        [chunk({"content": "é"}, choice={"logprobs": {"content": [LOGPROB]}}), DONE],
        [ir.Text("é", logprobs=(LOGPROB,))],
    ),
]
