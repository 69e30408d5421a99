"""A client that speaks responses: the official SDK of OpenAI."""

import json
from typing import Any, Final

import httpx2
import openai
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

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
    SYSTEM,
    THINKING_LIMIT,
    TOOL,
    Case,
    Tokens,
    Told,
)
from tests.matrix.framing import events_of
from tests.matrix.seen import Call, Seen, Tap

ERRORS: Final = openai
_EVENT: Final = TypeAdapter[Any](ResponseStreamEvent)
FINISHES: Final = {
    "stop": "completed",
    "tools": "completed",
    "length": "incomplete: max_output_tokens",
    "refused": "completed",
}
_FUNCTION: Final = {
    "type": "function",
    "name": TOOL,
    "description": ABOUT_TOOL,
    "parameters": SCHEMA,
    "strict": False,
}
_TOOLS: Final = {"tools": [_FUNCTION]}
_FORM: Final = {"type": "json_schema", "name": "weather", "schema": SCHEMA, "strict": True}
_FIELDS: Final[dict[Case, dict[str, Any]]] = {
    Case.ONE_TOOL: _TOOLS,
    Case.PARALLEL_TOOLS: {**_TOOLS, "tool_choice": "required"},
    Case.TOOL_RESULT: _TOOLS,
    Case.STRUCTURED: {"text": {"format": _FORM}},
    Case.THINKING: {
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": THINKING_LIMIT,
    },
    Case.SERVER_TOOL: {"tools": [{"type": SEARCH}, _FUNCTION]},
}
SERVER_TOOL_AT: Final = "tools[0]"
_PARTS: Final[dict[Case, dict[str, Any]]] = {
    Case.IMAGE: {
        "type": "input_image",
        "image_url": f"data:image/png;base64,{PNG}",
        "detail": "auto",
    },
    Case.DOCUMENT: {
        "type": "input_file",
        "filename": PDF_NAME,
        "file_data": f"data:application/pdf;base64,{PDF}",
    },
}


def finish_of(told: Told, upstream: str) -> str:
    return FINISHES[told.finish]


def usage_of(tokens: Tokens) -> dict[str, int | None]:
    """The usage that a client expects."""
    return {
        "input_tokens": tokens.prompt,
        "cached_tokens": tokens.read,
        "output_tokens": tokens.output,
        "reasoning_tokens": tokens.reasoning or 0,
        "total_tokens": tokens.prompt + tokens.output,
    }


def request(case: Case) -> dict[str, Any]:
    """The arguments for the SDK."""
    content: Any = ASKED
    if case in _PARTS:
        content = [{"type": "input_text", "text": ASKED}, _PARTS[case]]
    return {
        "instructions": SYSTEM,
        "input": [{"role": "user", "content": content}],
        "max_output_tokens": LIMIT,
        "store": False,
        **_FIELDS.get(case, {}),
    }


def go_on(asked: dict[str, Any], seen: Seen, result: str | None) -> dict[str, Any]:
    """The next request: with the result of each call, or with another question."""
    items: list[Any] = [*asked["input"], *seen.turn]
    if result is None:
        items.append({"role": "user", "content": NEXT})
    else:
        items += [
            {"type": "function_call_output", "call_id": call.id, "output": result}
            for call in seen.calls
        ]
    return {**asked, "input": items}


def message_of(error: Any) -> str:
    """The provider's words in an exception of the SDK."""
    return str(error.body["message"])


class Client:
    """Asks by the SDK."""

    name = "responses"

    def __init__(self, url: str) -> None:
        self._tap = Tap()
        self._sdk: Any = openai.OpenAI(
            base_url=f"{url}/v1",
            api_key="client-key",
            max_retries=0,
            http_client=httpx2.Client(transport=self._tap),
        )

    def close(self) -> None:
        self._sdk.close()

    def whole(self, **asked: Any) -> Seen:
        """A complete answer."""
        raw = self._sdk.responses.with_raw_response.create(**asked)
        response = raw.parse()
        Response.model_validate_json(self._tap.body)
        return self._seen(response, raw.headers)

    def stream(self, **asked: Any) -> Seen:
        """A stream; the last event has the complete response, the others its pieces."""
        with self._sdk.responses.stream(**asked) as stream:
            headers = stream._response.headers
            deltas = (event for event in stream if event.type == "response.output_text.delta")
            texts = [event.delta for event in deltas]
        events = [_EVENT.validate_json(data) for _, data in events_of(self._tap.body.decode())]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        last = events[-1]
        assert last.response.id == events[0].response.id
        if last.type == "response.failed":
            error = last.response.error
            return Seen(
                text="".join(texts),
                error=(error.message, error.code),
                headers=headers,
                wire=self._tap.body,
            )
        seen = self._seen(last.response, headers)
        assert seen.text == "".join(texts)
        return seen

    def _seen(self, response: Any, headers: Any) -> Seen:
        messages = [item for item in response.output if item.type == "message"]
        contents = [content for item in messages for content in item.content]
        said = [content for content in contents if content.type == "output_text"]
        refusals = [content.refusal for content in contents if content.type == "refusal"]
        details = response.incomplete_details
        return Seen(
            text="".join(content.text for content in said),
            calls=[
                Call(item.call_id, item.name, json.loads(item.arguments))
                for item in response.output
                if item.type == "function_call"
            ],
            finish=f"{response.status}: {details.reason}" if details else response.status,
            usage=_usage(response.usage),
            refusal="".join(refusals) or None,
            thinking="".join(
                part.text
                for item in response.output
                if item.type == "reasoning"
                for part in item.summary
            ),
            sources=[cited.url for content in said for cited in content.annotations],
            headers=headers,
            turn=[_sendable(item.to_dict(mode="json")) for item in response.output],
            wire=self._tap.body,
        )


def _usage(usage: Any) -> dict[str, int | None]:
    """The counts; empty if the provider did not count."""
    if usage is None:
        return {}
    return {
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.input_tokens_details.cached_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.output_tokens_details.reasoning_tokens,
        "total_tokens": usage.total_tokens,
    }


def _sendable(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what only the SDK's helpers add."""
    kept = {key: value for key, value in item.items() if key != "parsed_arguments"}
    if kept.get("type") == "message":
        kept["content"] = [
            {key: value for key, value in content.items() if key != "parsed"}
            for content in kept["content"]
        ]
    return kept
