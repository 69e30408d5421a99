"""A routing model behind a server, on loopback."""

import logging
from typing import Any

import pytest

from serve_app.domain import Reason, Route, Unavailable
from serve_app.engines.http import HttpEngineSettings, estimate_tokens
from tests.unit.engines.chat_server import (
    ROUTES,
    SECRET,
    Answer,
    Make,
    Server,
    breaks_on_schemas,
    complains_of_schemas,
    question,
    raw,
    refuses_schemas,
    says,
    won,
)


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ('{"route": "code"}', "code"),
        ('{"route": "say \\"hi\\""}', 'say "hi"'),
        ('{"route": ["travel", "code"]}', "travel"),
        ("{'route': ['travel']}\\n", "travel"),
        ('```json\n{"route": "travel"}\n```', "travel"),
        ("Travel.", "travel"),
        ('{"route": "other"}', None),
        ('{"route": []}', None),
        ('{"route": "unknown"}', None),
    ],
)
async def test_what_the_model_names_wins(
    server: Server, make: Make, text: str, route: str | None
) -> None:
    """In every form that models answer in; without numbers, as the model gave none."""
    server.answer = says(text)
    assert await make().score(question()) == won(route)


async def test_the_question_is_one_message_of_the_family(server: Server, make: Make) -> None:
    """At temperature 0, not streamed, with room for the longest answer and no more than that."""
    await make().score(question("Schöne Grüße"))
    (request,), (body,) = server.requests, server.bodies
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert "authorization" not in request.headers
    (message,) = body.pop("messages")
    assert message["role"] == "user"
    assert '[{"role":"user","content":"Schöne Grüße"}]' in message["content"]
    assert '{"name":"travel","description":"booking travel"}' in message["content"]
    assert body.pop("response_format") == {
        "type": "json_schema",
        "json_schema": {
            "name": "route",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {
                    "route": {"type": "string", "enum": ["code", "travel", 'say "hi"', "other"]}
                },
                "required": ["route"],
                "additionalProperties": False,
            },
        },
    }
    assert 40 < body.pop("max_tokens") < 80
    assert body == {"model": "Arch-Router-1.5B", "temperature": 0, "stream": False}


@pytest.mark.parametrize(
    ("model", "family", "wanted"),
    [
        ("Plano-Orchestrator-4B", None, {"type": "array", "maxItems": 4}),
        ("Plano-Orchestrator-4B", "arch-router", {"type": "string"}),
        ("qwen2.5:0.5b", None, {"type": "string"}),
    ],
)
async def test_the_schema_follows_the_family(
    server: Server, make: Make, model: str, family: str | None, wanted: dict[str, Any]
) -> None:
    """A short list where the family answers with lists."""
    await make(model=model, family=family).score(question())
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    route = schema["properties"]["route"]
    assert wanted.items() <= route.items()
    names = route["items"]["enum"] if "items" in route else route["enum"]
    assert names[:3] == [name.name for name in ROUTES]


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
async def test_addresses_may_have_the_usual_path(server: Server, make: Make, path: str) -> None:
    """With it or without it, the same is asked."""
    await make(base_url=server.url + path).score(question())
    assert server.requests[0].path == "/v1/chat/completions"


@pytest.mark.parametrize("answer", [refuses_schemas, breaks_on_schemas, complains_of_schemas])
async def test_a_server_that_refuses_schemas_is_asked_without(
    answer: Answer, server: Server, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, and from then on; it is said once. Some break, or refuse with a good status."""
    server.answer = answer
    engine = make()
    with caplog.at_level(logging.INFO, "fingerpost"):
        assert await engine.score(question()) == won("travel")
        assert await engine.score(question()) == won("travel")
    assert ["response_format" in body for body in server.bodies] == [True, False, False]
    assert caplog.messages == [f"{server.place} refuses JSON schemas; answers are parsed leniently"]


async def test_another_refusal_does_not_end_schemas(server: Server, make: Make) -> None:
    """What is refused without a schema, too, was not refused for it."""
    engine = make()
    server.answer = raw(b"too long", 400)
    said = await engine.score(question())
    assert said == Unavailable(
        Reason.ORCHESTRATOR_ERROR, f"{server.place} returned an error (status 400)"
    )
    server.answer = says('{"route": "code"}')
    assert await engine.score(question()) == won("code")
    assert ["response_format" in body for body in server.bodies] == [True, False, True]


async def test_a_server_that_takes_schemas_is_not_asked_without(server: Server, make: Make) -> None:
    """Once it took one, what breaks is not about schemas; a refusal may still be."""
    engine = make()
    await engine.score(question())
    for answer in (breaks_on_schemas, complains_of_schemas):
        server.answer = answer
        assert isinstance(await engine.score(question()), Unavailable)
    server.answer = refuses_schemas
    assert await engine.score(question()) == won("travel")
    schemas = ["response_format" in body for body in server.bodies]
    assert schemas == [True, True, True, True, False]


async def test_a_text_may_come_in_parts(server: Server, make: Make) -> None:
    """As it does from some servers."""
    parts = [{"type": "text", "text": '{"route": '}, {"type": "text", "text": '"travel"}'}]
    server.answer = says(parts)
    assert await make().score(question()) == won("travel")


async def test_connections_are_kept(server: Server, make: Make) -> None:
    """Three questions, one connection, errors included."""
    engine = make()
    await engine.score(question())
    server.answer = raw(b"oops", 500)
    await engine.score(question())
    await engine.score(question())
    assert len(server.requests) == 3
    assert len(server.peers) == 1


async def test_keys_and_addresses_are_expanded_when_they_are_used(
    server: Server, make: Make
) -> None:
    """From the environment that the engine was given."""
    environ = {"KEY": SECRET, "ROUTER": server.url}
    engine = make(base_url="$ROUTER", access_key="${KEY}", environ=environ)
    assert await engine.score(question()) == won("code")
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"


async def test_routes_that_fill_the_budget_are_not_sent(server: Server, make: Make) -> None:
    """The server would cut them, or refuse; the fault says what to do."""
    routes = tuple(Route(f"route {n}", "about many things " * 20, ()) for n in range(40))
    said = await make().score(question(routes=routes))
    assert isinstance(said, Unavailable)
    assert said.reason is Reason.ORCHESTRATOR_BUSY  # other routes may be fine
    fix = "shorten their descriptions or raise orchestrator.max_model_len"
    assert f"more than the budget of 2048; {fix}" in said.detail
    assert not server.requests
    assert await make(budget_tokens=9000).score(question(routes=routes)) == won(None)


async def test_long_conversations_are_cut_to_the_budget(server: Server, make: Make) -> None:
    """Half a megabyte of the user's is sent as eight kilobytes."""
    assert await make().score(question("Book me a flight. " + "x" * 500_000)) == won("code")
    text = server.bodies[0]["messages"][0]["content"]
    assert 7000 < len(text.encode()) <= 4 * 2048
    assert "Book me a flight. xxx" in text


def test_unknown_families_are_refused() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match="unknown family 'plano'; use one of arch-router, "):
        HttpEngineSettings(base_url="http://x", model="m", family="plano")


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("好" * 4, 3)])  # fmt: skip
def test_tokens_are_a_quarter_of_the_bytes(text: str, tokens: int) -> None:
    """Rounded up."""
    assert estimate_tokens(text) == tokens
