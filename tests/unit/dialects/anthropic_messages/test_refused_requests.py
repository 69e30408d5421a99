"""What a client of Anthropic messages cannot ask another provider for."""

import json
from contextlib import suppress

import anthropic
import httpx2
import pytest
from anthropic.types import ThreadNotFoundError, ThreadUnsupportedRequestError
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects.anthropic_messages.codec import MessagesCodec
from serve_app.dialects.anthropic_messages.errors import MessagesErrors
from serve_app.dialects.json_edits import read_document
from serve_app.domain import Json
from serve_app.errors import GatewayError, InvalidRequest, NestingTooDeep
from tests.unit.dialects.anthropic_messages.test_read_request import ASKED, read
from tests.unit.dialects.streams import json_values


def refusal(**fields: Json) -> GatewayError:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert str(caught.value)
    return caught.value


REFUSED: list[tuple[dict[str, Json], str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
    (
        {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
        "messages[0].content[0]",
    ),
    ({"system": 3}, "system"),
    ({"tools": {}}, "tools"),
    ({"tools": [1]}, "tools[0]"),
    ({"tools": [{}]}, "tools[0].name"),
    ({"tools": [{"name": "a", "input_schema": 1}]}, "tools[0].input_schema"),
    ({"tool_choice": "auto"}, "tool_choice.type"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
    (
        {
            "tools": [{"type": "bash_20250124", "name": "bash"}],
            "tool_choice": {"type": "tool", "name": "bash"},
        },
        "tools[0]",
    ),
    ({"stop_sequences": "x"}, "stop_sequences"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": True}, "top_p"),
    ({"top_k": 1.5}, "top_k"),
    ({"thinking": {}}, "thinking.type"),
    ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "thinking.budget_tokens"),
    ({"output_config": {"effort": 1}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "json"}}}, "output_config.format"),
    ({"output_format": "json"}, "output_format"),
    ({"safeguards": {}}, "safeguards"),
    ({"mcp_servers": [{}]}, "mcp_servers"),
    ({"stream": 1}, "stream"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_unusable_field_is_named(fields: dict[str, Json], param: str) -> None:
    """The error names the field and says what to send."""
    error = refusal(**fields)
    assert (error.status, error.param) == (400, param)


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ({"type": "text"}, "text"),
        ({"type": "image"}, "source.type"),
        ({"type": "image", "source": {"type": "base64"}}, "source.data"),
        ({"type": "document", "source": {"type": "url"}}, "source.url"),
        ({"type": "document", "source": {"type": "content"}}, "source.content"),
        ({"type": "tool_use", "name": "n"}, "id"),
        ({"type": "tool_use", "id": "i", "name": "n", "input": "x"}, "input"),
        ({"type": "tool_result"}, "tool_use_id"),
        ({"type": "thinking"}, "thinking"),
        ({"type": "redacted_thinking"}, "data"),
    ],
)
def test_unusable_block_is_named(block: Json, field: str) -> None:
    """The error names the message, the block and the field."""
    error = refusal(messages=[{"role": "user", "content": [block]}])
    assert error.param == f"messages[0].content[0].{field}"


def test_infinite_temperature_is_refused() -> None:
    """JSON can write a number that is too large for any provider."""
    body = json.dumps(ASKED)[:-1].encode() + b', "temperature": 1e999}'
    with pytest.raises(InvalidRequest):
        MessagesCodec().read_request(read_document(body, unique=frozenset()))


THREADS: list[tuple[Json, type[anthropic.APIStatusError], str]] = [
    ({"type": "create"}, ThreadUnsupportedRequestError, "thread_unsupported_request"),
    (
        {"type": "continue", "previous_message_id": "msg_1"},
        ThreadNotFoundError,
        "thread_not_found",
    ),
]


@pytest.mark.parametrize(("thread", "kind", "code"), THREADS)
def test_threads_are_refused_as_the_sdk_understands(
    thread: Json, kind: type[anthropic.APIStatusError], code: str
) -> None:
    """The official SDK then sends the whole conversation without a thread."""
    error = refusal(thread=thread, messages=[])
    assert (error.code, error.param) == (code, "thread")
    body = MessagesErrors().render_error(error)

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(error.status, content=body)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        anthropic.Anthropic(api_key="k", base_url="http://x", http_client=http) as client,
        pytest.raises(kind, match="whole conversation"),
    ):
        client.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
        )


def test_request_without_a_thread_is_read() -> None:
    """A null is what clients send for nothing."""
    assert read(thread=None, safeguards=None).unsaid == ()


def test_deep_nesting_is_refused() -> None:
    """Arguments that are nested too deeply to be written are an error of the client."""
    deep: Json = {}
    for _ in range(100_000):
        deep = {"a": deep}
    block = {"type": "tool_use", "id": "i", "name": "n", "input": deep}
    document = read_document(json.dumps(ASKED).encode(), unique=frozenset())
    messages = document.members["messages"].value
    messages[0]["content"] = [block]
    with pytest.raises(NestingTooDeep):
        MessagesCodec().read_request(document)


KEYS = ["type", "text", "role", "content", "source", "data", "name", "id", "input", "budget_tokens"]
TEXTS = ["text", "user", "tool_use", "tool_result", "document", "content", "base64", "enabled"]
FIELDS = ["messages", "system", "tools", "tool_choice", "thinking", "output_config", "metadata"]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values(KEYS, TEXTS)))
def test_any_request_is_read_or_refused(fields: dict[str, Json]) -> None:
    """Nothing but InvalidRequest is raised, whatever the client sends."""
    try:
        body = json.dumps({**ASKED, **fields}, allow_nan=False).encode()
    except ValueError:
        return
    with suppress(InvalidRequest):
        request = MessagesCodec().read_request(read_document(body, unique=frozenset()))
        assert request.dialect == "messages"
