"""The reasoning effort of a route, in the words of each provider."""

import json
from typing import Any, Final

import pytest

from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import NO_QUIRK, Quirk, read_document
from serve_app.dialects.protocol import Asked
from serve_app.dialects.registry import client_dialect, pair
from serve_app.exchange import Operation

OPERATIONS: Final = {
    "chat": Operation.CHAT,
    "messages": Operation.MESSAGES,
    "responses": Operation.RESPONSES,
}
BODIES: Final[dict[str, dict[str, Any]]] = {
    "chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "messages": {"max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]},
    "responses": {"input": "Hi"},
    "embeddings": {"input": "Hi"},
}
CALL: Final = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
RESULT: Final = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}
THOUGHT: Final = {"type": "thinking", "thinking": "t", "signature": "s"}
ADAPTIVE, BUDGET, OLD = "claude-opus-4-7", "claude-sonnet-4-5", "claude-3-5-haiku"
FOUR_SIX: Final = "claude-opus-4-6"


def asked(
    client: str,
    provider: str,
    model: str,
    effort: str | None = "high",
    quirk: Quirk = NO_QUIRK,
    **fields: Any,
) -> tuple[dict[str, Any], Asked]:
    """What a provider is asked, without what the same request has without an effort."""
    dialect = client_dialect(client)
    body = json.dumps({"model": "auto", **BODIES[client], **fields}).encode()
    document = read_document(body, unique=dialect.fields.read)
    operation = OPERATIONS.get(provider, Operation.EMBEDDINGS)
    dialects = pair(dialect, {operation})
    wanted = dialects.ask(document, Intent(effort=effort), model, quirk)
    plain = json.loads(dialects.ask(document, Intent(), model, quirk).body)
    sent = json.loads(wanted.body)
    return {key: value for key, value in sent.items() if plain.get(key) != value}, wanted


def thinks(budget: int, most: int | None = None) -> dict[str, Any]:
    more = {} if most is None else {"max_tokens": most}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}, **more}


@pytest.mark.parametrize(
    ("dialect", "model", "effort", "fields", "added"),
    [
        ("chat", "gpt-5", "high", {}, {"reasoning_effort": "high"}),
        ("chat", "gpt-5", "high", {"reasoning_effort": None}, {"reasoning_effort": "high"}),
        ("chat", "gpt-5", "high", {"reasoning_effort": "low"}, {}),
        ("chat", "gpt-5", "high", {"thinking": {"type": "disabled"}}, {}),
        ("chat", "gpt-5", "high", {"reasoning": {"enabled": False}}, {}),
        ("chat", "gpt-5", "high", {"reasoning": {"max_tokens": 5}}, {}),
        ("chat", "gpt-5", "high", {"reasoning": {"effort": "low"}}, {}),
        (
            "chat",
            "gpt-5",
            "low",
            {"reasoning": {"exclude": True}},
            {"reasoning": {"exclude": True, "effort": "low"}},
        ),
        ("chat", "gpt-4o", "high", {}, {}),
        ("responses", "gpt-5", "minimal", {}, {"reasoning": {"effort": "minimal"}}),
        (
            "responses",
            "gpt-5",
            "high",
            {"reasoning": {"summary": "auto"}},
            {"reasoning": {"summary": "auto", "effort": "high"}},
        ),
        ("responses", "gpt-5", "high", {"reasoning": {"effort": "low"}}, {}),
        ("responses", "gpt-4o", "high", {}, {}),
        ("embeddings", "e", "high", {}, {}),
        (
            "messages",
            ADAPTIVE,
            "max",
            {},
            {"output_config": {"effort": "max"}, "thinking": {"type": "adaptive"}},
        ),
        (
            "messages",
            FOUR_SIX,
            "max",
            {"output_config": {"format": {"a": 1}}},
            {
                "output_config": {"format": {"a": 1}, "effort": "high"},
                "thinking": {"type": "adaptive"},
            },
        ),
        ("messages", ADAPTIVE, "none", {}, {"output_config": {"effort": "low"}}),
        ("messages", ADAPTIVE, "high", {"output_config": {"effort": "low"}}, {}),
        ("messages", ADAPTIVE, "high", {"thinking": {"type": "disabled"}}, {}),
        (
            "messages",
            ADAPTIVE,
            "high",
            {"thinking": {"type": "adaptive"}},
            {"output_config": {"effort": "high"}},
        ),
        ("messages", FOUR_SIX, "low", {"temperature": 0}, {"output_config": {"effort": "low"}}),
        ("messages", BUDGET, "high", {"max_tokens": 40000}, thinks(16384)),
        ("messages", BUDGET, "low", {}, thinks(2048, 2148)),
        ("messages", BUDGET, "none", {}, {}),
        ("messages", BUDGET, "high", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, {}),
        ("messages", BUDGET, "high", {"thinking": {"type": "adaptive"}}, {}),
        ("messages", BUDGET, "high", {"temperature": 0.5}, {}),
        ("messages", BUDGET, "low", {"temperature": 1, "top_p": 0.99}, thinks(2048, 2148)),
        ("messages", BUDGET, "high", {"top_p": 0.5}, {}),
        ("messages", BUDGET, "high", {"top_k": 5}, {}),
        ("messages", BUDGET, "high", {"tool_choice": {"type": "any"}}, {}),
        ("messages", BUDGET, "high", {"max_tokens": "x"}, {}),
        ("messages", OLD, "high", {}, {}),
        (
            "messages",
            BUDGET,
            "high",
            {"messages": [{"role": "assistant", "content": [CALL]}, RESULT]},
            {},
        ),
        (
            "messages",
            BUDGET,
            "low",
            {"messages": [{"role": "assistant", "content": [THOUGHT, CALL]}, RESULT]},
            thinks(2048, 2148),
        ),
        ("messages", BUDGET, "low", {"messages": [RESULT]}, thinks(2048, 2148)),
        ("messages", BUDGET, "low", {"messages": [{"role": "assistant", "content": "So"}]}, {}),
    ],
)
def test_effort_is_added_to_a_clients_own_body(
    dialect: str, model: str, effort: str, fields: dict[str, Any], added: dict[str, Any]
) -> None:
    """The client's own wish wins, and a model is asked only for what it takes."""
    assert asked(dialect, dialect, model, effort, **fields)[0] == added


@pytest.mark.parametrize(
    ("client", "provider", "model", "fields", "added"),
    [
        ("chat", "messages", ADAPTIVE, {}, {"output_config": {"effort": "high"}}),
        ("chat", "messages", BUDGET, {"max_tokens": 30000}, thinks(16384)),
        ("chat", "messages", BUDGET, {"reasoning_effort": "none"}, {}),
        ("messages", "chat", "gpt-5", {}, {"reasoning_effort": "high"}),
        ("messages", "responses", "gpt-5", {}, {"reasoning": {"effort": "high"}}),
        ("messages", "chat", "gpt-5", {"thinking": {"type": "disabled"}}, {}),
        ("messages", "chat", "gpt-5", {"output_config": {"effort": "low"}}, {}),
        (
            "messages",
            "chat",
            "gpt-5",
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            {},
        ),
        (
            "messages",
            "chat",
            "gpt-5",
            {"thinking": {"type": "adaptive"}},
            {"reasoning_effort": "high"},
        ),
        ("responses", "chat", "gpt-5", {}, {"reasoning_effort": "high"}),
        ("responses", "messages", ADAPTIVE, {}, {"output_config": {"effort": "high"}}),
        ("responses", "chat", "gpt-5", {"reasoning": {"effort": "low"}}, {}),
    ],
)
def test_effort_is_translated(
    client: str, provider: str, model: str, fields: dict[str, Any], added: dict[str, Any]
) -> None:
    """A translated request asks as if the client had named the effort, unless it has its own."""
    sent = asked(client, provider, model, **fields)[0]
    sent.pop("thinking", None) if "output_config" in sent else None
    assert sent == added


def test_effort_of_a_route_is_not_reported_as_dropped() -> None:
    """The client did not send it; what it did send is reported as ever."""
    assert asked("responses", "chat", "gpt-4o")[1].dropped == ()
    own: dict[str, Any] = {"reasoning": {"effort": "low"}}
    assert asked("responses", "chat", "gpt-4o", **own)[1].dropped == ("reasoning",)


def test_effort_is_one_that_the_model_takes() -> None:
    """The quirk of a model renames the value or leaves the field out, as for the client's own."""
    some = Quirk(values={"reasoning_effort": {"high": "max"}, "b": {"x": "y"}})
    assert asked("chat", "chat", "k", quirk=some)[0] == {"reasoning_effort": "max"}
    assert asked("chat", "chat", "k", "low", quirk=some)[0] == {}
    without = Quirk(drop=frozenset({"reasoning_effort"}))
    assert asked("chat", "chat", "k", quirk=without)[0] == {}


def test_all_other_bytes_stay() -> None:
    """The effort is an edit by spans, in place of the client's value or before the other keys."""
    dialect = client_dialect("responses")
    dialects = pair(dialect, {Operation.RESPONSES})
    body = b'{ "input":"\\u00e9" , "reasoning" : {"summary":"auto"}, "model":"auto", "x":1e3}'
    document = read_document(body, unique=dialect.fields.read)
    sent = dialects.ask(document, Intent(effort="low"), "gpt-5", NO_QUIRK).body
    assert sent == (
        b'{ "input":"\\u00e9" , "reasoning" : {"summary": "auto", "effort": "low"}, '
        b'"model":"gpt-5", "x":1e3}'
    )
    assert dialects.ask(document, Intent(), "gpt-5", NO_QUIRK).body == body.replace(
        b'"model":"auto"', b'"model":"gpt-5"'
    )
