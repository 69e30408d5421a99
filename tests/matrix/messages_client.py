"""A client that speaks messages: the official SDK of Anthropic."""

from typing import Any, Final

import anthropic
import httpx2
from anthropic.types import Message

from tests.matrix.cases import (
    ABOUT_TOOL,
    ASKED,
    LIMIT,
    NEXT,
    PDF,
    PDF_NAME,
    PNG,
    SCHEMA,
    SEARCH,
    STOP,
    SYSTEM,
    THINKING_BUDGET,
    THINKING_LIMIT,
    TOOL,
    Case,
    Tokens,
    Told,
)
from tests.matrix.seen import Call, Seen, Tap, strictly

ERRORS: Final = anthropic
FINISHES: Final = {
    "stop": "end_turn",
    "tools": "tool_use",
    "length": "max_tokens",
    "refused": "refusal",
}
_FUNCTION: Final = {"name": TOOL, "description": ABOUT_TOOL, "input_schema": SCHEMA}
_TOOLS: Final = {"tools": [_FUNCTION]}
_THINKING: Final = {"type": "enabled", "budget_tokens": THINKING_BUDGET}
_FIELDS: Final[dict[Case, dict[str, Any]]] = {
    Case.ONE_TOOL: _TOOLS,
    Case.PARALLEL_TOOLS: {**_TOOLS, "tool_choice": {"type": "any"}},
    Case.TOOL_RESULT: _TOOLS,
    Case.STRUCTURED: {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    Case.THINKING: {"thinking": _THINKING, "max_tokens": THINKING_LIMIT},
    Case.STOP_SEQUENCE: {"stop_sequences": [STOP]},
    Case.SERVER_TOOL: {"tools": [{"type": "web_search_20250305", "name": SEARCH}, _FUNCTION]},
}
SERVER_TOOL_AT: Final = "tools[0]"
_PARTS: Final[dict[Case, dict[str, Any]]] = {
    Case.IMAGE: {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PNG},
    },
    Case.DOCUMENT: {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
        "title": PDF_NAME,
    },
}


def finish_of(told: Told, upstream: str) -> str:
    """The stop reason; only Anthropic says which stop sequence it was."""
    if told.finish == "stop_sequence":
        return "stop_sequence" if upstream == "messages" else "end_turn"
    return FINISHES[told.finish]


def usage_of(tokens: Tokens) -> dict[str, int | None]:
    """The usage that a client expects."""
    return {
        "input_tokens": tokens.uncached,
        "cache_read_input_tokens": tokens.read,
        "cache_creation_input_tokens": tokens.written,
        "output_tokens": tokens.output,
        "thinking_tokens": tokens.reasoning or 0,
    }


def request(case: Case) -> dict[str, Any]:
    """The arguments for the SDK."""
    content: Any = ASKED
    if case in _PARTS:
        content = [{"type": "text", "text": ASKED}, _PARTS[case]]
    system: Any = SYSTEM
    if case is Case.CACHED_USAGE:
        system = [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}]
    return {
        "system": system,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": LIMIT,
        **_FIELDS.get(case, {}),
    }


def go_on(asked: dict[str, Any], seen: Seen, result: str | None) -> dict[str, Any]:
    """The next request: with the result of each call, or with another question."""
    content: Any = NEXT
    if result is not None:
        content = [
            {"type": "tool_result", "tool_use_id": call.id, "content": result}
            for call in seen.calls
        ]
    return {
        **asked,
        "messages": [*asked["messages"], *seen.turn, {"role": "user", "content": content}],
    }


def message_of(error: Any) -> str:
    """The provider's words in an exception of the SDK."""
    return str(error.api_message)


class Client:
    """Asks by the SDK."""

    name = "messages"

    def __init__(self, url: str) -> None:
        self._tap = Tap()
        self._sdk: Any = anthropic.Anthropic(
            base_url=url,
            api_key="client-key",
            max_retries=0,
            http_client=httpx2.Client(transport=self._tap),
        )

    def close(self) -> None:
        self._sdk.close()

    def whole(self, **asked: Any) -> Seen:
        """A complete answer."""
        raw = self._sdk.messages.with_raw_response.create(**asked)
        message = raw.parse()
        Message.model_validate_json(self._tap.body)
        return self._seen(message, raw.headers)

    def stream(self, **asked: Any) -> Seen:
        """A stream, put together by the SDK."""
        with self._sdk.messages.stream(**asked) as stream:
            headers = stream.response.headers
            try:
                for event in stream:
                    if event.type.startswith(("message_", "content_block_")):
                        strictly(event)
            except anthropic.APIStatusError as error:
                text = stream.current_message_snapshot.content[0].text
                kind = None if error.type is None else str(error.type)
                return Seen(
                    text=text,
                    error=(str(error.api_message), kind),
                    headers=headers,
                    wire=self._tap.body,
                )
            return self._seen(stream.get_final_message(), headers)

    def count_tokens(self, **asked: Any) -> int:
        """The number of tokens of a conversation."""
        return int(self._sdk.messages.count_tokens(**asked).input_tokens)

    def _seen(self, message: Any, headers: Any) -> Seen:
        usage = message.usage
        blocks = message.content
        texts = [block for block in blocks if block.type == "text"]
        spent = usage.output_tokens_details
        content = [_sendable(block.to_dict(mode="json")) for block in blocks]
        return Seen(
            text="".join(block.text for block in texts),
            calls=[
                Call(block.id, block.name, block.input)
                for block in blocks
                if block.type == "tool_use"
            ],
            finish=message.stop_reason,
            usage={
                "input_tokens": usage.input_tokens,
                "cache_read_input_tokens": usage.cache_read_input_tokens,
                "cache_creation_input_tokens": usage.cache_creation_input_tokens,
                "output_tokens": usage.output_tokens,
                "thinking_tokens": spent.thinking_tokens if spent else 0,
            },
            refusal=message.stop_details.explanation if message.stop_details else None,
            thinking="".join(block.thinking for block in blocks if block.type == "thinking"),
            sources=[cited.url for block in texts for cited in block.citations or ()],
            headers=headers,
            turn=[{"role": "assistant", "content": content}],
            wire=self._tap.body,
        )


def _sendable(block: dict[str, Any]) -> dict[str, Any]:
    """A block without what only the SDK's helpers add."""
    return {key: value for key, value in block.items() if key != "parsed_output"}
