"""A client that speaks chat completions: the official SDK of OpenAI."""

import json
from typing import Any, Final

import httpx2
import openai
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion

from tests.matrix.cases import (
    ABOUT_TOOL,
    ASKED,
    LIMIT,
    NEXT,
    PDF,
    PDF_NAME,
    PNG,
    SCHEMA,
    STOP,
    SYSTEM,
    THINKING_LIMIT,
    TOOL,
    Case,
    Tokens,
    Told,
)
from tests.matrix.seen import Call, Seen, Tap, strictly

ERRORS: Final = openai
FINISHES: Final = {
    "stop": "stop",
    "tools": "tool_calls",
    "length": "length",
    "stop_sequence": "stop",
    "refused": "stop",
}
_FUNCTION: Final = {"name": TOOL, "description": ABOUT_TOOL, "parameters": SCHEMA}
_TOOLS: Final = {"tools": [{"type": "function", "function": _FUNCTION}]}
_FORM: Final = {"name": "weather", "schema": SCHEMA, "strict": True}
_FIELDS: Final[dict[Case, dict[str, Any]]] = {
    Case.ONE_TOOL: _TOOLS,
    Case.PARALLEL_TOOLS: {**_TOOLS, "tool_choice": "required"},
    Case.TOOL_RESULT: _TOOLS,
    Case.STRUCTURED: {"response_format": {"type": "json_schema", "json_schema": _FORM}},
    Case.THINKING: {"reasoning_effort": "low", "max_completion_tokens": THINKING_LIMIT},
    Case.STOP_SEQUENCE: {"stop": STOP},
    Case.SERVER_TOOL: {**_TOOLS, "web_search_options": {}},
}
SERVER_TOOL_AT: Final = "web_search_options"
_PARTS: Final[dict[Case, dict[str, Any]]] = {
    Case.IMAGE: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    Case.DOCUMENT: {
        "type": "file",
        "file": {"filename": PDF_NAME, "file_data": f"data:application/pdf;base64,{PDF}"},
    },
}


def finish_of(told: Told, upstream: str) -> str:
    return FINISHES[told.finish]


def usage_of(tokens: Tokens) -> dict[str, int | None]:
    """The usage that a client expects."""
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.prompt + tokens.output,
        "cached_tokens": tokens.read,
        "reasoning_tokens": tokens.reasoning or 0,
    }


def request(case: Case) -> dict[str, Any]:
    """The arguments for the SDK."""
    content: Any = ASKED
    if case in _PARTS:
        content = [{"type": "text", "text": ASKED}, _PARTS[case]]
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
    return {"messages": messages, "max_completion_tokens": LIMIT, **_FIELDS.get(case, {})}


def go_on(asked: dict[str, Any], seen: Seen, result: str | None) -> dict[str, Any]:
    """The next request: with the result of each call, or with another question."""
    messages = [*asked["messages"], *seen.turn]
    if result is None:
        messages.append({"role": "user", "content": NEXT})
    else:
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": result} for call in seen.calls
        ]
    return {**asked, "messages": messages}


def message_of(error: Any) -> str:
    """The provider's words in an exception of the SDK."""
    return str(error.body["message"])


class Client:
    """Asks by the SDK."""

    name = "chat"

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
        raw = self._sdk.chat.completions.with_raw_response.create(**asked)
        completion = raw.parse()
        ChatCompletion.model_validate_json(self._tap.body)
        return self._seen(completion, raw.headers)

    def stream(self, **asked: Any) -> Seen:
        """A stream, put together by the SDK."""
        options = {"stream": True, "stream_options": {"include_usage": True}}
        stream = self._sdk.chat.completions.create(**{**options, **asked})
        state: Any = ChatCompletionStreamState()
        headers, error = stream.response.headers, None
        try:
            for chunk in stream:
                strictly(chunk)
                state.handle_chunk(chunk)
        except openai.APIError as raised:
            body: Any = raised.body
            error = (raised.message, body["type"])
            text = state.current_completion_snapshot.choices[0].message.content
            return Seen(text=text, error=error, headers=headers, wire=self._tap.body)
        return self._seen(state.current_completion_snapshot, headers)

    def _seen(self, completion: Any, headers: Any) -> Seen:
        choice = completion.choices[0]
        message, usage = choice.message, completion.usage
        extra = message.model_extra or {}
        spent = usage.completion_tokens_details
        turn = {
            key: value
            for key, value in message.to_dict(mode="json").items()
            if value is not None and key not in ("parsed", "annotations")
        }
        return Seen(
            text=message.content or "",
            calls=[
                Call(call.id, call.function.name, json.loads(call.function.arguments))
                for call in message.tool_calls or ()
            ],
            finish=choice.finish_reason,
            usage={
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.total_tokens,
                "cached_tokens": usage.prompt_tokens_details.cached_tokens,
                "reasoning_tokens": spent.reasoning_tokens if spent else 0,
            },
            refusal=message.refusal,
            thinking=extra.get("reasoning_content") or "",
            sources=[_url(each) for each in message.annotations or ()],
            headers=headers,
            turn=[turn],
            wire=self._tap.body,
        )


def _url(annotation: Any) -> str:
    found = annotation if isinstance(annotation, dict) else annotation.to_dict()
    return str(found["url_citation"]["url"])
