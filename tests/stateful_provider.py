"""A provider whose answers list all that users have said, in three dialects by path.

Its responses are kept or not, by the model's name: ``keeper`` keeps them and says so, ``keeper-quiet`` keeps them and
does not say so, ``forgetful`` says that it keeps none. Each key has an account of its own.
"""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from tests.scripted_provider import Exchange, ScriptedProvider

PREFIX = "heard: "
NOT_FOUND = {
    "error": {
        "message": "Previous response not found.",
        "type": "invalid_request_error",
        "param": "previous_response_id",
        "code": "previous_response_not_found",
    }
}
UNREADABLE = {
    "error": {
        "message": "The encrypted content could not be verified.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_encrypted_content",
    }
}


def texts_of(content: Any) -> list[str]:
    """The texts of a message's content."""
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or [] if "text" in part]


def said_in(messages: list[dict[str, Any]]) -> list[str]:
    """What users said in messages or items."""
    return [
        text
        for message in messages
        if message.get("role") == "user"
        for text in texts_of(message["content"])
    ]


class Accounts:
    """What the provider keeps, by account and id."""

    def __init__(self) -> None:
        self.kept: dict[str, list[dict[str, Any]]] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.numbers = count(1)

    async def script(self, connection: Any, exchange: Any, request: dict[str, Any]) -> None:
        """Answers one request."""
        path = exchange.path.partition("?")[0]
        if path.endswith("/responses"):
            self._respond(connection, exchange, request)
        elif "/responses/" in path:
            self._serve_kept(connection, exchange)
        elif path.endswith("/messages"):
            self._message(connection, request)
        else:
            self._chat(connection, request)

    def _serve_kept(self, connection: Any, exchange: Exchange) -> None:
        """Reads, deletes, lists or cancels an answer; one in the background is never done."""
        name, _, below = exchange.path.partition("?")[0].rpartition("/responses/")[2].partition("/")
        account = f"{exchange.headers.get('authorization', '')} {name}"
        answer = self.answers.get(account)
        if answer is None:
            connection.whole(json.dumps(NOT_FOUND).encode(), 404)
        elif exchange.method == "DELETE":
            del self.answers[account], self.kept[account]
            connection.whole(b'{"id": "%s", "object": "response", "deleted": true}' % name.encode())
        elif below == "input_items":
            items = [{**item, "id": f"item_{n}"} for n, item in enumerate(self.kept[account][:-1])]
            page = {"object": "list", "data": items[::-1], "has_more": False}
            connection.whole(json.dumps(page).encode())
        elif below == "cancel":
            connection.whole(json.dumps({**answer, "status": "cancelled"}).encode())
        elif "stream=true" in exchange.path:
            event = {"type": "response.completed", "sequence_number": 0, "response": answer}
            _stream(connection, iter([("response.completed", event)]))
        else:
            connection.whole(json.dumps(answer).encode())

    def _respond(self, connection: Any, exchange: Exchange, request: dict[str, Any]) -> None:
        account = exchange.headers.get("authorization", "")
        value = request["input"]
        items = [{"role": "user", "content": value}] if isinstance(value, str) else value
        before = request.get("previous_response_id") or request.get("conversation")
        if before is not None:
            if f"{account} {before}" not in self.kept:
                connection.whole(json.dumps(NOT_FOUND).encode(), 400)
                return
            items = [*self.kept[f"{account} {before}"], *items]
        for item in items:
            if item.get("encrypted_content", account) != account:
                connection.whole(json.dumps(UNREADABLE).encode(), 400)
                return
        answer = self._response(account, request, items)
        if not request.get("stream"):
            connection.whole(json.dumps(answer).encode())
            return
        begun = {**answer, "status": "in_progress", "output": []}
        message = next(item for item in answer["output"] if item["type"] == "message")
        text = message["content"][0]["text"]
        at = {"item_id": message["id"], "output_index": 0, "content_index": 0}
        events: list[tuple[str, dict[str, Any]]] = [
            ("response.created", {"response": begun}),
            ("response.output_item.added", {"output_index": 0, "item": {**message, "content": []}}),
            (
                "response.content_part.added",
                {**at, "part": {"type": "output_text", "text": "", "annotations": []}},
            ),
            ("response.output_text.delta", {**at, "delta": text}),
            ("response.output_text.done", {**at, "text": text}),
            ("response.content_part.done", {**at, "part": message["content"][0]}),
            ("response.output_item.done", {"output_index": 0, "item": message}),
            ("response.completed", {"response": answer}),
        ]
        _stream(
            connection,
            (
                (kind, {"type": kind, "sequence_number": number, **fields})
                for number, (kind, fields) in enumerate(events)
            ),
        )

    def _response(
        self, account: str, request: dict[str, Any], items: list[dict[str, Any]]
    ) -> dict[str, Any]:
        number = next(self.numbers)
        model = request["model"]
        output: list[dict[str, Any]] = [
            {
                "id": f"msg_{number}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [
                    {
                        "type": "output_text",
                        "text": PREFIX + " | ".join(said_in(items)),
                        "annotations": [],
                    }
                ],
            }
        ]
        if "reasoning.encrypted_content" in (request.get("include") or []):
            thought = {"id": f"rs_{number}", "type": "reasoning", "summary": []}
            output.insert(0, {**thought, "encrypted_content": account})
        answer = {
            "id": f"resp_{number}",
            "object": "response",
            "created_at": 1,
            "status": "queued" if request.get("background") else "completed",
            "error": None,
            "model": model,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "previous_response_id": request.get("previous_response_id"),
            "store": request.get("store") is not False and model != "forgetful",
        }
        if answer["store"]:
            names = [
                answer["id"],
                *([request["conversation"]] if request.get("conversation") else []),
            ]
            for name in names:
                self.kept[f"{account} {name}"] = [*items, *output]
            self.answers[f"{account} {answer['id']}"] = answer
        if model == "keeper-quiet":
            del answer["store"]
        return answer

    def _message(self, connection: Any, request: dict[str, Any]) -> None:
        text = PREFIX + " | ".join(said_in(request["messages"]))
        message = {
            "id": f"msg_{next(self.numbers)}",
            "type": "message",
            "role": "assistant",
            "model": request["model"],
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        if not request.get("stream"):
            connection.whole(json.dumps(message).encode())
            return
        events: list[tuple[str, dict[str, Any]]] = [
            ("message_start", {"message": {**message, "content": [], "stop_reason": None}}),
            ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
            ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}}),
            ("content_block_stop", {"index": 0}),
            (
                "message_delta",
                {
                    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                    "usage": {"output_tokens": 1},
                },
            ),
            ("message_stop", {}),
        ]
        _stream(connection, ((kind, {"type": kind, **fields}) for kind, fields in events))

    def _chat(self, connection: Any, request: dict[str, Any]) -> None:
        text = PREFIX + " | ".join(said_in(request["messages"]))
        head = {"id": f"chatcmpl-{next(self.numbers)}", "created": 1, "model": request["model"]}
        message = {"role": "assistant", "content": text}
        if not request.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {**head, "object": "chat.completion", "choices": [choice]}
            connection.whole(json.dumps(answer).encode())
            return
        choices = [
            {"index": 0, "delta": message, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        ]
        _stream(
            connection,
            (
                ("", {**head, "object": "chat.completion.chunk", "choices": [choice]})
                for choice in choices
            ),
            b"data: [DONE]\n\n",
        )


def _stream(
    connection: Any, events: Iterator[tuple[str, dict[str, Any]]], last: bytes = b""
) -> None:
    connection.head(200, {"content-type": "text/event-stream"}, None)
    for kind, data in events:
        name = f"event: {kind}\n" if kind else ""
        connection.chunk(f"{name}data: {json.dumps(data)}\n\n".encode())
    if last:
        connection.chunk(last)
    connection.end()


class StatefulProvider(ScriptedProvider):
    """The provider in a thread."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        super().__init__(find=lambda _: self.accounts.script)


def entries_of(url: str, data_path: str = "inline") -> list[dict[str, Any]]:
    """Entries of ``model_providers``: one model for each way of keeping answers."""
    rows = {
        "keeps/keeper": ("openai", ["responses"]),
        "keeps/keeper-quiet": ("openai", ["responses"]),
        "keeps/forgetful": ("openai", ["responses"]),
        "chats/chatter": ("openai", ["chat"]),
        "talks/talker": ("anthropic", ["messages"]),
    }
    return [
        {
            "model": model,
            "base_url": url,
            "provider_interface": interface,
            "operations": operations,
            "access_key": f"key-of-{model.partition('/')[0]}",
            "data_path": data_path,
        }
        for model, (interface, operations) in rows.items()
    ]
