"""The engine `http` with models of ``model_providers``, cut answers, and what answers cost."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from serve_app.domain import Reason, Scores, TokenUsage, Unavailable
from serve_app.engines.faults import EngineFaultError
from serve_app.engines.http import HttpEngine, HttpEngineSettings
from serve_app.engines.server_client import read_usage
from serve_app.engines.servers import SECOND, Servers
from tests.unit.config_texts import VERSION
from tests.unit.engines.chat_server import (
    SECRET,
    Answer,
    Make,
    Server,
    completion,
    question,
    raw,
    says,
    won,
)
from tests.unit.fakes import snapshot_of

THOUGHT: Final = "Okay, the user wants a function. Possible route: code, but let me"
CUT: Final = "ran out of tokens before answering; turn reasoning off for this model"
USAGE: Final = {"prompt_tokens": 90, "completion_tokens": 7, "total_tokens": 97}

FromConfig = Callable[..., HttpEngine]


@pytest.fixture
async def from_config(server: Server, tmp_path: Path) -> AsyncIterator[FromConfig]:
    """Builds the engine of ``when_unsure`` from a configuration with these providers."""
    engines: list[HttpEngine] = []

    def make(model: str, *entries: str, key: str = "") -> HttpEngine:
        rows = "".join(f"  - {{{entry.format(url=server.url)}}}\n" for entry in entries)
        text = f"{VERSION}model_providers:\n{rows}orchestrator:\n"
        text += f"  when_unsure: {{engine: http, model: {model}}}\n"
        snapshot = snapshot_of(tmp_path, text)
        better = snapshot.config.orchestrator.when_unsure
        assert better is not None
        servers = Servers.of(snapshot.config, snapshot.providers)
        settings = HttpEngineSettings.from_section(better, 5.0, servers, SECOND)
        engines.append(HttpEngine(settings, {"KEY": SECRET, "TEAM": "blue"}))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.close()


@pytest.mark.parametrize(
    "answer",
    [
        says(THOUGHT, finish_reason="length"),
        says(THOUGHT, finish_reason="stop"),
        says(THOUGHT),
        says("Okay. Possible route: code", finish_reason="length"),
        says('{"route": ["code', finish_reason="length"),
        says("code", finish_reason="length"),
    ],
)
async def test_thoughts_and_cut_answers_decide_nothing(
    answer: Answer, server: Server, make: Make
) -> None:
    """A model that thinks aloud, or that ran out of tokens, has not answered."""
    server.answer = answer
    result = await make().score(question())
    assert isinstance(result, Unavailable)
    assert result.reason is Reason.ORCHESTRATOR_ERROR
    assert "code" not in result.detail


async def test_cut_answer_is_reported_with_its_cause(server: Server, make: Make) -> None:
    """The fault tells how to avoid it."""
    server.answer = says(THOUGHT, finish_reason="length")
    expected = Unavailable(Reason.ORCHESTRATOR_ERROR, f"{server.place} {CUT}")
    assert await make().score(question()) == expected


async def test_answer_before_an_explanation_counts(server: Server, make: Make) -> None:
    """JSON at the beginning is the answer, even if what the model adds was cut."""
    server.answer = says('{"route": "travel"} because the user', finish_reason="length")
    assert await make().score(question()) == won("travel")


@pytest.mark.parametrize(
    ("text", "usage", "expected"),
    [
        ('{"route": "code"}', USAGE, TokenUsage(90, 7)),
        ('{"route": "code"}', {**USAGE, "prompt_tokens_details": {"cached_tokens": 64}}, TokenUsage(90, 7, 64)),
        (THOUGHT, USAGE, TokenUsage(180, 14)),
        (None, USAGE, TokenUsage(180, 14)),
        ('{"route": "code"}', {}, None),
    ],
)  # fmt: skip
async def test_tokens_are_counted_as_the_server_does(
    text: str | None, usage: Any, expected: TokenUsage | None, server: Server, make: Make
) -> None:
    """Those of an answer that cannot be used, too, and of both attempts if there are two."""

    async def answer(request: web.Request) -> web.StreamResponse:
        with_schema = "response_format" in await request.json()
        if text == THOUGHT and with_schema:  # refused with 200, so it is asked again without
            return completion("", usage=usage)
        return completion(text, usage=usage)

    server.answer = answer
    result = await make().score(question())
    assert result.usage == expected
    assert isinstance(result, Scores if text == '{"route": "code"}' else Unavailable)


@pytest.mark.parametrize(
    "usage",
    [None, [], {"prompt_tokens": "9"}, {"prompt_tokens": True}, {"prompt_tokens": -1}, {"completion_tokens": 9}],
)  # fmt: skip
def test_unreadable_usage_is_unknown(usage: object) -> None:
    """A wrong number would be a wrong price."""
    assert read_usage({"usage": usage}) is None
    assert read_usage([usage]) is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9}, TokenUsage(9)),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, TokenUsage(9)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": None}}, TokenUsage(9)),
        ({"input_tokens": 9}, TokenUsage(9)),
        (
            {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 2},
            TokenUsage(9, 2, 4),
        ),
    ],
)
def test_usage_may_lack_parts(usage: object, expected: TokenUsage) -> None:
    """What a server does not count is 0."""
    assert read_usage({"usage": usage}) == expected


async def test_model_of_a_provider_is_asked_at_its_entry(
    server: Server, from_config: FromConfig
) -> None:
    """Address, key and headers are those of the entry, and the name is the provider's own."""
    entry = "model: openai/org/router, base_url: '{url}/own', access_key: $KEY, headers: {{x-team: $TEAM}}"
    engine = from_config("openai/org/router", entry)
    assert await engine.score(question()) == won("code")
    (request,), (body,) = server.requests, server.bodies
    assert (request.path, body["model"]) == ("/own/chat/completions", "org/router")
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert request.headers["x-team"] == "blue"
    assert SECRET not in repr(engine) + repr(engine._settings)


async def test_wildcard_serves_any_model_of_its_provider(
    server: Server, from_config: FromConfig
) -> None:
    """The model itself needs no entry."""
    engine = from_config("vllm/mine", "model: vllm/*, base_url: '{url}'")
    assert await engine.score(question()) == won("code")
    assert server.bodies[0]["model"] == "mine"


async def test_body_is_what_the_model_takes(server: Server, from_config: FromConfig) -> None:
    """A reasoning model of OpenAI takes no temperature, and has another name for the limit."""
    engine = from_config("openai/gpt-5-mini", "model: openai/gpt-5-mini, base_url: '{url}'")
    await engine.score(question())
    (body,) = server.bodies
    assert {"max_completion_tokens", "model", "messages"} <= set(body)
    assert {"max_tokens", "temperature"}.isdisjoint(body)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, "rejected the key (status 401); set access_key of the entry 'vllm/m' of model_providers"),
        (404, "has no such model or path (status 404); check the entry 'vllm/m' of model_providers"),
    ],
)  # fmt: skip
async def test_refusal_names_the_entry(
    status: int, text: str, server: Server, from_config: FromConfig
) -> None:
    """That is where the key and the address are."""
    server.answer = raw(b"", status)
    result = await from_config("vllm/m", "model: vllm/m, base_url: '{url}'").score(question())
    assert isinstance(result, Unavailable)
    assert result.detail == f"vllm-{server.place.replace('.', '-').replace(':', '-')} {text}"


async def test_missing_key_is_a_fault(from_config: FromConfig) -> None:
    """The variable is named, and nothing is sent."""
    entry = "model: vllm/m, base_url: '{url}', access_key: $OTHER"
    result = await from_config("vllm/m", entry).score(question())
    assert isinstance(result, Unavailable)
    assert "the environment variable OTHER is not set" in result.detail


def test_unknown_model_cannot_be_asked(tmp_path: Path) -> None:
    """A configuration is checked before; the command line may name any model."""
    text = f"{VERSION}orchestrator: {{when_unsure: {{engine: http, model: m, base_url: 'http://h'}}}}\n"
    better = snapshot_of(tmp_path, text).config.orchestrator.when_unsure
    assert better is not None
    for name in ("openai/x", "x", "/x"):
        section = better.model_copy(update={"model": name, "base_url": None})
        with pytest.raises(
            EngineFaultError, match=f"no entry of model_providers is named '{name}'; name"
        ):
            HttpEngineSettings.from_section(section, 5.0, Servers(), SECOND)
