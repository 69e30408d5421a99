"""Requests of chat clients, read and written again."""

from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.domain import Json
from tests.unit.dialects.openai_chat.chat_samples import (
    CODEC,
    PNG_PART,
    read,
)

TOOL = ir.Tool("f", "does", {"type": "object"})
TOOL_BODY = {
    "type": "function",
    "function": {"name": "f", "description": "does", "parameters": {"type": "object"}},
}
SYSTEM = st.builds(lambda text: {"role": "system", "content": text}, st.text(min_size=1))
KINDS: list[Json] = [
    PNG_PART,
    {"type": "text", "text": "a"},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
    {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
    },
    {"type": "file", "file": {"file_id": "file-1"}},
]
PARTS: st.SearchStrategy[list[Json]] = st.builds(
    lambda before, part, after: [*before, part, *after],
    st.lists(st.sampled_from(KINDS)),
    st.sampled_from([part for part in KINDS if part["type"] != "text"]),
    st.lists(st.sampled_from(KINDS)),
)
SPOKEN = st.builds(
    lambda content: {"role": "user", "content": content}, st.text(min_size=1) | PARTS
)
CALLS = st.lists(
    st.builds(
        lambda call_id, name, arguments: {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        },
        st.text(min_size=1),
        st.text(min_size=1),
        st.text(min_size=1),
    ),
    min_size=1,
)
ANSWERED = st.one_of(
    st.builds(lambda text: {"role": "assistant", "content": text}, st.text(min_size=1)),
    st.builds(
        lambda calls, thought: {
            "role": "assistant",
            "content": None,
            "reasoning_content": thought,
            "tool_calls": calls,
        },
        CALLS,
        st.text(min_size=1),
    ),
    st.just({"role": "assistant", "content": None, "refusal": "no"}),
)
RESULT = st.builds(
    lambda call_id, text: {"role": "tool", "tool_call_id": call_id, "content": text},
    st.text(min_size=1),
    st.text(),
)
FIELDS: st.SearchStrategy[dict[str, Json]] = st.fixed_dictionaries(
    {"messages": st.lists(SYSTEM | SPOKEN | ANSWERED | RESULT, min_size=1)},
    optional={
        "tools": st.just([TOOL_BODY]),
        "max_tokens": st.integers(1, 9),
        "temperature": st.floats(0, 2),
        "stop": st.lists(st.text(min_size=1), min_size=1),
        "seed": st.integers(),
        "logprobs": st.booleans(),
        "response_format": st.just({"type": "json_object"}),
        "reasoning_effort": st.sampled_from(["none", "low", "max"]),
        "verbosity": st.just("low"),
        "user": st.text(min_size=1, max_size=64),
        "metadata": st.just({"a": "b"}),
        "service_tier": st.just("flex"),
        "prompt_cache_key": st.just("k"),
        "store": st.just(True),  # noqa: FBT003 - a value
    },
)


@given(FIELDS)
def test_request_survives_the_way_through_the_one_form(fields: dict[str, Json]) -> None:
    """What every server takes is written as the client sent it."""
    body, dropped = CODEC.write_request(read(**fields), "m")
    assert body == {"model": "m", **fields}
    assert dropped == ()
