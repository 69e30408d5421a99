"""Limits of keys, teams and models, through the whole API between fakes."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from serve_app.domain import Scores
from serve_app.snapshot import compile_snapshot
from tests.unit.access.answering import (
    Provider,
    StreamingProvider,
    error_of,
    keyed,
    used,
)
from tests.unit.access.api_rig import CHAT, ENVIRON, MESSAGES, MODELS, RESPONSES, ask_chat, rig_of
from tests.unit.config.broken import V


async def test_requests_are_limited_per_key(tmp_path: Path) -> None:
    """Of 200 requests at once exactly 50 pass, and another key is not concerned."""
    provider = Provider()
    rig = rig_of(tmp_path, keyed("limits: {requests_per_minute: 50}"), provider)
    got = await asyncio.gather(*(rig.ask(ask_chat()) for _ in range(200)))
    assert Counter(one.status for one in got) == {200: 50, 429: 150}
    assert len(provider.asked) == 50
    assert (await rig.ask(ask_chat(), key="fp-batch")).status == 200


async def test_refused_flood_costs_no_decision(tmp_path: Path) -> None:
    """A key that is known to be at its limit is refused before anything is decided."""
    rig = rig_of(tmp_path, keyed("limits: {requests_per_minute: 1}"), Provider())
    for _ in range(3):
        await rig.ask(ask_chat(None))
    orchestrator: Any = rig.assembly.gateway._orchestrator
    asked = orchestrator.asked
    assert (await rig.ask(ask_chat(None))).status == 429
    assert orchestrator.asked == asked


async def test_raised_limit_holds_at_once(tmp_path: Path) -> None:
    """A reload changes the limit, keeps what is used, and forgets earlier refusals."""
    rig = rig_of(tmp_path, keyed("limits: {requests_per_minute: 2}"), Provider())
    assert [(await rig.ask(ask_chat())).status for _ in range(4)] == [200, 200, 429, 429]
    file = tmp_path / "gateway.yaml"
    file.write_text(V + MODELS + keyed("limits: {requests_per_minute: 3}"))
    rig.snapshot = compile_snapshot(file, ENVIRON)
    assert [(await rig.ask(ask_chat())).status for _ in range(2)] == [200, 429]


async def test_team_shares_its_limit(tmp_path: Path) -> None:
    """Keys of a team use one limit up together, and the error says whose it is."""
    text = (
        "teams: {ml: {limits: {requests_per_minute: 3}}}\nclient_keys:\n"
        "  - {key: $IDE, name: ide, team: ml}\n  - {key: $BATCH, name: batch, team: ml}\n"
    )
    rig = rig_of(tmp_path, text, Provider())
    keys = ["fp-ide", "fp-batch", "fp-ide", "fp-batch"]
    got = [await rig.ask(ask_chat(), key=key) for key in keys]
    assert [one.status for one in got] == [200, 200, 200, 429]
    assert (
        "the team 'ml' is at its limit of 3 requests per minute" in got[-1].json["error"]["message"]
    )


async def test_slots_become_free(tmp_path: Path) -> None:
    """At most so many requests run at once, and each frees its slot however it ends."""
    provider = Provider()
    provider.pause_s = 0.01
    rig = rig_of(tmp_path, keyed("limits: {concurrent: 3}"), provider)
    got = await asyncio.gather(*(rig.ask(ask_chat()) for _ in range(10)))
    assert Counter(one.status for one in got) == {200: 3, 429: 7}
    assert provider.most == 3
    assert "3 requests at once" in got[-1].json["error"]["message"]
    provider.failing = {"openai/gpt-4o"}
    await rig.ask(ask_chat())
    task = asyncio.create_task(rig.ask(ask_chat("openai/gpt-4o-mini")))
    await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert used(rig) == {"key:ide:concurrent": 0}


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        (CHAT, ask_chat(max_tokens=50), 1200),
        (MESSAGES, {**ask_chat(), "max_tokens": 50}, 1200),
        (RESPONSES, {"model": "openai/gpt-4o", "input": "x"}, 1200),
        ("/v1/embeddings", {"model": "openai/gpt-4o", "input": "x"}, 1000),
        ("/v1/messages/count_tokens", {**ask_chat("anthropic/claude-sonnet-4-20250514")}, 0),
        ("/v1/route", ask_chat(), 0),
    ],
)
async def test_tokens_are_settled_by_usage(
    path: str, body: dict[str, Any], tokens: int, tmp_path: Path
) -> None:
    """On each surface the tokens that count in the end are those of the provider's usage."""
    rig = rig_of(tmp_path, keyed("limits: {tokens_per_minute: 100000}"), Provider())
    got = await rig.ask(body, path=path)
    assert got.status == 200, got.body
    assert used(rig).get("key:ide:tokens", 0) == tokens


async def test_refused_request_takes_no_tokens(tmp_path: Path) -> None:
    """A provider's error gives the tokens back."""
    provider = Provider()
    provider.status = 400
    rig = rig_of(tmp_path, keyed("limits: {tokens_per_minute: 100000}"), provider)
    assert (await rig.ask(ask_chat())).status == 400
    assert used(rig) == {"key:ide:tokens": 0}


async def test_tokens_are_reserved_before(tmp_path: Path) -> None:
    """Requests at once can't all pass because none has been counted yet."""
    provider = Provider()
    provider.pause_s = 0.01
    rig = rig_of(tmp_path, keyed("limits: {tokens_per_minute: 5000}"), provider)
    got = await asyncio.gather(*(rig.ask(ask_chat(max_tokens=2000)) for _ in range(10)))
    assert Counter(one.status for one in got) == {200: 2, 429: 8}
    large = await rig.ask(ask_chat("openai/gpt-4o", max_tokens=4000))
    assert large.status == 429
    assert "5000 tokens per minute" in large.json["error"]["message"]


async def test_streams_settle_to_the_providers_usage(tmp_path: Path) -> None:
    """Of 500 streams, a tenth left by their clients, the tokens are the provider's within 1 %."""
    provider = StreamingProvider()
    rig = rig_of(
        tmp_path, keyed("limits: {tokens_per_minute: 10000000, concurrent: 1000}"), provider
    )
    text = [{"role": "user", "content": "some words " * 40}]

    async def stream(number: int) -> None:
        body = ask_chat(stream=True, messages=text)
        await rig.ask(body, leave_after=3 + number % 30 if number % 10 == 0 else -1)

    await asyncio.gather(*map(stream, range(500)))
    counts = used(rig)
    left = [one for one in rig.records.ended_requests if one.error_type == "client_gone"]
    assert len(left) == 50
    assert counts["key:ide:concurrent"] == 0
    assert counts["key:ide:tokens"] == pytest.approx(provider.usage, rel=0.01)


async def test_model_limit_moves_on_to_the_next_candidate(tmp_path: Path) -> None:
    """A model at its limit is not asked; of a named model that is a 429."""
    won = Scores({"code": 0.9}, 0.2, "code")
    provider = Provider()
    text = "allow_anonymous: true\nmodel_limits: {openai/gpt-4o-mini: {requests_per_minute: 2}}\n"
    rig = rig_of(tmp_path, text, provider, scores=won)
    for _ in range(4):
        assert (await rig.ask(ask_chat(None))).status == 200
    assert provider.asked == ["openai/gpt-4o-mini"] * 2 + ["anthropic/claude-sonnet-4-20250514"] * 2
    got = await rig.ask(ask_chat("openai/gpt-4o-mini"))
    assert error_of(got) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert "the model 'openai/gpt-4o-mini' is at its limit" in got.json["error"]["message"]


async def test_fallback_counts_for_the_model_that_answers(tmp_path: Path) -> None:
    """When another model answers, its limit is charged, and the first gets its tokens back."""
    provider = Provider()
    provider.failing = {"openai/gpt-4o"}
    text = (
        "allow_anonymous: true\nmodel_limits:\n"
        "  openai/gpt-4o: {tokens_per_minute: 100000}\n"
        "  openai/gpt-4o-mini: {tokens_per_minute: 100000, requests_per_minute: 9, concurrent: 9}\n"
    )
    rig = rig_of(tmp_path, text, provider)
    assert (await rig.ask(ask_chat(fallbacks=["openai/gpt-4o-mini"]))).status == 200
    counts = used(rig)
    assert counts["model:openai/gpt-4o-mini:tokens"] == 1200
    assert counts["model:openai/gpt-4o-mini:requests"] == 1
    assert counts.get("model:openai/gpt-4o-mini:concurrent", 0) == 0


RATELIMITS = """allow_anonymous: true
ratelimits:
  - {model: gpt-4o, selector: {key: X-User, value: ann}, limit: {tokens: 2000, unit: hour}}
  - {model: openai/gpt-4o, selector: {key: X-Org, value: ''}, limit: {tokens: 1200, unit: minute}}
"""


async def test_planos_ratelimits_are_enforced(tmp_path: Path) -> None:
    """Tokens are limited for a header with this value, or for each value by itself."""
    rig = rig_of(tmp_path, RATELIMITS, Provider())
    body = ask_chat(max_tokens=100)

    async def statuses(name: str, value: str, times: int) -> list[int]:
        return [(await rig.ask(body, headers={name: value})).status for _ in range(times)]

    assert await statuses("x-user", "ann", 3) == [200, 200, 429]
    assert await statuses("x-user", "bob", 3) == [200, 200, 200]
    assert await statuses("x-org", "one", 2) == [200, 429]
    assert await statuses("x-org", "two", 2) == [200, 429]
    assert "one" not in "".join(used(rig))


async def test_headers_show_what_is_left(tmp_path: Path) -> None:
    """Good answers and refusals show the tightest limit in the client's dialect, not the provider's."""
    text = (
        "teams: {ml: {limits: {requests_per_minute: 2}}}\nclient_keys:\n"
        "  - {key: $IDE, name: ide, team: ml, limits: {requests_per_minute: 9, tokens_per_minute: 90000}}\n"
    )
    rig = rig_of(tmp_path, text, Provider())
    chat = await rig.ask(ask_chat(max_tokens=10))
    assert chat.headers["x-ratelimit-limit-requests"] == "2"
    assert chat.headers["x-ratelimit-remaining-requests"] == "1"
    assert chat.headers["x-ratelimit-reset-requests"][:2] in {"1m", "60", "59"}
    assert 89_000 < int(chat.headers["x-ratelimit-remaining-tokens"]) < 90_000
    assert not [name for name in chat.headers if name.startswith("anthropic-")]
    message = await rig.ask({**ask_chat(), "max_tokens": 5}, path=MESSAGES)
    assert message.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert message.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert not [name for name in message.headers if name.startswith("x-ratelimit-")]
    for path in (CHAT, MESSAGES):
        refused = await rig.ask({**ask_chat(), "max_tokens": 5}, path=path)
        assert refused.status == 429
        assert refused.json["error"]["type"] == "rate_limit_error"
        assert 0 < int(refused.headers["retry-after"]) <= 65
        names = {name for name in refused.headers if "ratelimit" in name}
        start = "x-ratelimit-" if path == CHAT else "anthropic-ratelimit-"
        assert len(names) == 3
        assert all(name.startswith(start) for name in names)


async def test_key_without_limits_keeps_the_providers_headers(tmp_path: Path) -> None:
    """Nothing is counted or replaced for a key without limits."""
    rig = rig_of(tmp_path, keyed("limits: {requests_per_minute: 9}"), Provider())
    got = await rig.ask(ask_chat(), key="fp-batch")
    assert got.headers["x-ratelimit-limit-requests"] == "9"
    assert used(rig) == {}


async def test_requests_to_every_surface_count(tmp_path: Path) -> None:
    """Decisions without an answer count as requests, too."""
    rig = rig_of(tmp_path, keyed("limits: {requests_per_minute: 3}"), Provider())
    paths = ["/v1/route", "/routing/v1/chat/completions", CHAT, "/v1/route", CHAT]
    assert [(await rig.ask(ask_chat(), path=path)).status for path in paths] == [200] * 3 + [
        429
    ] * 2


async def test_client_that_leaves_before_the_answer_pays_for_its_prompt(tmp_path: Path) -> None:
    """What a provider was asked counts as read, and nothing as written."""
    provider = Provider()
    provider.pause_s = 5.0
    rig = rig_of(tmp_path, keyed("limits: {tokens_per_minute: 100000}, budget: {usd: 1}"), provider)
    text = "word " * 400
    body = ask_chat(messages=[{"role": "user", "content": text}])
    task = asyncio.create_task(rig.ask(body))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    tokens, nano_usd = used(rig).values()
    assert 500 <= tokens <= 550
    assert nano_usd == round(tokens * 2.5e-6 * 1e9)


async def test_images_are_not_counted_as_text(tmp_path: Path) -> None:
    """The bytes of an image are not four to a token."""
    provider = Provider()
    provider.pause_s = 0.01
    rig = rig_of(tmp_path, keyed("limits: {tokens_per_minute: 100000}"), provider)
    url = f"data:image/png;base64,{'A' * 800_000}"
    content = [
        {"type": "text", "text": "what is it"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    got = await rig.ask(ask_chat(max_tokens=10, messages=[{"role": "user", "content": content}]))
    left = int(got.headers["x-ratelimit-remaining-tokens"])
    assert 98_000 < left < 98_500


async def test_wildcard_limits_all_models_of_a_provider(tmp_path: Path) -> None:
    """One limit holds for all models of the provider together, unless a model has its own."""
    text = (
        "allow_anonymous: true\nmodel_limits:\n  openai/*: {requests_per_minute: 2}\n"
        "  vllm/own: {requests_per_minute: 1}\n"
    )
    rig = rig_of(tmp_path, text, Provider())
    models = ["openai/gpt-4o", "openai/gpt-4o-mini", "openai/gpt-4o", "vllm/own", "vllm/own"]
    statuses = [(await rig.ask(ask_chat(model))).status for model in models]
    assert statuses == [200, 200, 429, 200, 429]
