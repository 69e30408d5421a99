"""A routing model behind a server, on loopback."""

import logging
from typing import Any

import pytest

from serve_app.domain import Reason, Route, Unavailable
from serve_app.engines.http import HttpEngineSettings, estimate_tokens
from serve_app.engines.servers import own_server
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
async def test_named_route_wins(server: Server, make: Make, text: str, route: str | None) -> None:
    """Every form of answer is read; there are no numbers, as the model gives none."""
    server.answer = says(text)
    assert await make().score(question()) == won(route)


async def test_request_is_one_message_of_the_family(server: Server, make: Make) -> None:
    """It has temperature 0, is not streamed, and allows no more tokens than the longest answer needs."""
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
async def test_schema_follows_the_family(
    server: Server, make: Make, model: str, family: str | None, wanted: dict[str, Any]
) -> None:
    """It is a short list if the family answers with lists."""
    await make(model=model, family=family).score(question())
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    route = schema["properties"]["route"]
    assert wanted.items() <= route.items()
    names = route["items"]["enum"] if "items" in route else route["enum"]
    assert names[:3] == [name.name for name in ROUTES]


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
async def test_base_url_may_contain_the_default_path(server: Server, make: Make, path: str) -> None:
    """The request is the same with it and without."""
    await make(base_url=server.url + path).score(question())
    assert server.requests[0].path == "/v1/chat/completions"


@pytest.mark.parametrize("answer", [refuses_schemas, breaks_on_schemas, complains_of_schemas])
async def test_refused_schema_is_left_out(
    answer: Answer, server: Server, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out at once and from then on, logged once, also for servers that fail or refuse with 200."""
    server.answer = answer
    engine = make()
    with caplog.at_level(logging.INFO, "fingerpost"):
        assert await engine.score(question()) == won("travel")
        assert await engine.score(question()) == won("travel")
    assert ["response_format" in body for body in server.bodies] == [True, False, False]
    assert caplog.messages == [f"{server.place} refuses JSON schemas; answers are parsed leniently"]


async def test_other_refusal_does_not_end_schemas(server: Server, make: Make) -> None:
    """If the request is refused without a schema, too, the schema was not the reason."""
    engine = make()
    server.answer = raw(b"too long", 400)
    result = await engine.score(question())
    assert result == Unavailable(
        Reason.ORCHESTRATOR_ERROR, f"{server.place} returned an error (status 400)"
    )
    server.answer = says('{"route": "code"}')
    assert await engine.score(question()) == won("code")
    assert ["response_format" in body for body in server.bodies] == [True, False, True]


async def test_accepted_schema_is_kept(server: Server, make: Make) -> None:
    """Later failures are not due to the schema; a refusal still may be."""
    engine = make()
    await engine.score(question())
    for answer in (breaks_on_schemas, complains_of_schemas):
        server.answer = answer
        assert isinstance(await engine.score(question()), Unavailable)
    server.answer = refuses_schemas
    assert await engine.score(question()) == won("travel")
    schemas = ["response_format" in body for body in server.bodies]
    assert schemas == [True, True, True, True, False]


async def test_text_may_consist_of_parts(server: Server, make: Make) -> None:
    """Some servers send it so."""
    parts = [{"type": "text", "text": '{"route": '}, {"type": "text", "text": '"travel"}'}]
    server.answer = says(parts)
    assert await make().score(question()) == won("travel")


async def test_connections_are_kept(server: Server, make: Make) -> None:
    """Three requests use one connection, despite an error."""
    engine = make()
    await engine.score(question())
    server.answer = raw(b"oops", 500)
    await engine.score(question())
    await engine.score(question())
    assert len(server.requests) == 3
    assert len(server.peers) == 1


async def test_references_are_expanded_at_use(server: Server, make: Make) -> None:
    """The values come from the environment of the engine."""
    environ = {"KEY": SECRET, "ROUTER": server.url}
    engine = make(base_url="$ROUTER", access_key="${KEY}", environ=environ)
    assert await engine.score(question()) == won("code")
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"


async def test_routes_that_fill_the_budget_are_not_sent(server: Server, make: Make) -> None:
    """The server would truncate or refuse them; the fault tells what to do."""
    routes = tuple(Route(f"route {n}", "about many things " * 20, ()) for n in range(40))
    result = await make().score(question(routes=routes))
    assert isinstance(result, Unavailable)
    assert result.reason is Reason.ORCHESTRATOR_BUSY  # other routes may be fine
    fix = "shorten their descriptions or raise orchestrator.max_model_len"
    assert f"more than the budget of 2048; {fix}" in result.detail
    assert not server.requests
    assert await make(budget_tokens=9000).score(question(routes=routes)) == won(None)


async def test_long_conversation_is_shortened_to_the_budget(server: Server, make: Make) -> None:
    """Half a megabyte of the user becomes eight kilobytes."""
    assert await make().score(question("Book me a flight. " + "x" * 500_000)) == won("code")
    text = server.bodies[0]["messages"][0]["content"]
    assert 7000 < len(text.encode()) <= 4 * 2048
    assert "Book me a flight. xxx" in text


def test_unknown_family_is_refused() -> None:
    """The error lists the known ones."""
    with pytest.raises(ValueError, match="unknown family 'plano'; use one of arch-router, "):
        HttpEngineSettings(own_server("http://x", "m", None), family="plano")


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("好" * 4, 3)])  # fmt: skip
def test_tokens_are_a_quarter_of_the_bytes(text: str, tokens: int) -> None:
    """The number is rounded up."""
    assert estimate_tokens(text) == tokens
