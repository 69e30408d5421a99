"""Allowances, limits and budgets as clients meet them, through the whole API between fakes."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from serve_app.access.limiter import Limiter
from serve_app.domain import Scores
from serve_app.exchange import FaultKind, UpstreamFault, UpstreamReply, UpstreamRequest
from serve_app.snapshot import compile_snapshot
from tests.unit.access.api_rig import (
    CHAT,
    ENVIRON,
    MESSAGES,
    MODELS,
    RESPONSES,
    ApiRig,
    Got,
    ask_chat,
    rig_of,
)
from tests.unit.config.broken import V
from tests.unit.fakes import FakeChunks, FakeClock, reply

ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 200},
}
MESSAGE = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1000, "output_tokens": 200},
}
RESPONSE = {
    "id": "r1",
    "object": "response",
    "status": "completed",
    "model": "m",
    "output": [
        {
            "id": "i1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200},
}
EMBEDDING = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
    "model": "m",
    "usage": {"prompt_tokens": 1000, "total_tokens": 1000},
}
BODIES = {"/chat": ANSWER, "/messages": MESSAGE, "/responses": RESPONSE, "/embeddings": EMBEDDING}
GPT_4O_USD = (1000 * 2.5 + 200 * 10.0) / 1e6
"""The cost of one of these answers."""


class Provider:
    """Answers every request at once, unless its model fails."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing: set[str] = set()
        self.status = 200
        self.running = 0
        self.most = 0
        self.pause_s = 0.0
        self.headers = (("x-ratelimit-limit-requests", "9"), ("anthropic-ratelimit-x", "9"))

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        self.asked.append(str(request.model))
        if str(request.model) in self.failing:
            return UpstreamFault(FaultKind.CONNECT, "cannot connect")
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.pause_s)
        finally:
            self.running -= 1
        body = next((body for end, body in BODIES.items() if end in request.path), ANSWER)
        if "count_tokens" in request.path:
            body = {"input_tokens": 9}
        return reply(self.status, json.dumps(body).encode(), self.headers)


def keyed(fields: str) -> str:
    return (
        f"client_keys:\n  - {{key: $IDE, name: ide, {fields}}}\n  - {{key: $BATCH, name: batch}}\n"
    )


def used(rig: ApiRig) -> dict[str, int]:
    """What each counter of a rig in memory has used."""
    store: Any = rig.assembly.gateway.admission.limiter.store
    return {name: counter.used for name, counter in store._counters.items()}


def error_of(got: Got) -> tuple[int, str, str]:
    error = got.json["error"]
    return got.status, error["type"], error.get("code", "")


ALLOWED = [
    ("openai/gpt-4o", 200),
    ("gpt-4o", 200),
    ("fast", 200),
    ("openai/gpt-4o-mini", 200),
    ("vllm/own", 403),
    ("own", 403),
    ("auto", 403),
    ("smart", 403),
    (None, 403),
    ("nothing", 404),
]


@pytest.mark.parametrize(("model", "status"), ALLOWED)
async def test_allow_decides_about_names(model: str | None, status: int, tmp_path: Path) -> None:
    """A name that is not allowed is refused with the allowed ones, and asks no provider."""
    provider = Provider()
    rig = rig_of(tmp_path, keyed("allow: [openai/gpt-4o, fast]"), provider)
    got = await rig.ask(ask_chat(model))
    assert got.status == status
    assert len(provider.asked) == (status == 200)
    if status == 403:
        assert error_of(got)[1:] == ("permission_error", "model_not_allowed")
        assert "openai/gpt-4o, fast" in got.json["error"]["message"]
        assert got.headers["x-should-retry"] == "false"
    other = await rig.ask(ask_chat(model), key="fp-batch")
    assert other.status == (404 if status == 404 else 200)


async def test_unknown_name_suggests_allowed_names_only(tmp_path: Path) -> None:
    """The nearest names are those of the key, not those that others may use."""
    rig = rig_of(tmp_path, keyed("allow: [fast]"), Provider())
    got = await rig.ask(ask_chat("openai/gpt-4oo"))
    assert got.status == 404
    assert "gpt-4o-mini" not in got.json["error"]["message"]
    assert "'fast'" in (await rig.ask(ask_chat("fas"))).json["error"]["message"]


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, "/v1/embeddings", "/v1/route"])
async def test_allow_holds_on_every_surface(path: str, tmp_path: Path) -> None:
    """Each surface refuses a model that is not allowed, in its own dialect."""
    rig = rig_of(tmp_path, keyed("allow: [fast]"), Provider())
    fields = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
    body = fields if path in {CHAT, MESSAGES, "/v1/route"} else {"input": "x"}
    got = await rig.ask({"model": "openai/gpt-4o", **body}, path=path)
    assert got.status == 403
    assert got.json["error"]["type"] == "permission_error"
    assert ("type" in got.json) is (path == MESSAGES)
    hint = {"x-arch-llm-provider-hint": "openai/gpt-4o"}
    assert (await rig.ask({"model": "fast", **body}, path=path, headers=hint)).status == 403


async def test_allow_leaves_candidates_out(tmp_path: Path) -> None:
    """Of a route only the allowed models are asked, also when the first one fails."""
    won = Scores({"code": 0.9}, 0.2, "code")
    provider = Provider()
    text = keyed("allow: [auto, openai/gpt-4o-mini, openai/gpt-4o]")
    rig = rig_of(tmp_path, text, provider, scores=won)
    provider.failing = {"openai/gpt-4o-mini"}
    got = await rig.ask(ask_chat(None))
    assert got.status == 200
    assert "anthropic/claude-sonnet-4-20250514" not in provider.asked
    assert got.headers["x-fingerpost-model"] == "openai/gpt-4o"
    provider.asked.clear()
    provider.failing.add("openai/gpt-4o")
    await rig.ask(ask_chat(None), key="fp-batch")
    assert "anthropic/claude-sonnet-4-20250514" in provider.asked


async def test_allow_without_a_candidate_left_is_refused(tmp_path: Path) -> None:
    """A route none of whose models is allowed answers 403, before a session is bound."""
    won = Scores({"code": 0.9}, 0.2, "code")
    rig = rig_of(tmp_path, keyed("allow: [auto, vllm/own]"), Provider(), scores=won)
    for path in (CHAT, "/routing/v1/chat/completions", "/v1/route"):
        got = await rig.ask(ask_chat(None), path=path, headers={"x-model-affinity": "s"})
        assert got.status == 403, path
        assert "auto, vllm/own" in got.json["error"]["message"]
    assert rig.store.bindings == {}


@pytest.mark.parametrize(
    ("allow", "models"),
    [
        ("[auto]", ["smart", "auto"]),
        (
            "[code, openai/gpt-4o]",
            [
                "openai/gpt-4o",
                "openai/gpt-4o-mini",
                "anthropic/claude-sonnet-4-20250514",
                "fast",
                "smart",
                "auto",
            ],
        ),
        ("['openai/*']", ["openai/gpt-4o", "openai/gpt-4o-mini", "fast"]),
        ("[fast]", ["openai/gpt-4o-mini", "fast"]),
    ],
)
async def test_models_lists_what_the_key_may_use(
    allow: str, models: list[str], tmp_path: Path
) -> None:
    """The list has exactly the names that a request of the key may name."""
    rig = rig_of(tmp_path, keyed(f"allow: {allow}"), Provider())
    got = await rig.ask(path="/v1/models")
    assert [one["id"] for one in got.json["data"]] == models
    for name in ("openai/gpt-4o", "openai/gpt-4o-mini", "vllm/own", "fast", "auto"):
        shown = await rig.ask(path=f"/v1/models/{name}")
        answered = await rig.ask(ask_chat(name))
        assert (shown.status == 200) is (name in models) is (answered.status == 200), name


async def test_fallbacks_must_be_allowed(tmp_path: Path) -> None:
    """A fallback that the client names is held to the same rule."""
    rig = rig_of(tmp_path, keyed("allow: [fast, openai/gpt-4o]"), Provider())
    assert (await rig.ask(ask_chat("fast", fallbacks=["openai/gpt-4o"]))).status == 200
    assert (await rig.ask(ask_chat("fast", fallbacks=["vllm/own"]))).status == 403


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


STREAM = [
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"t"},"finish_reason":null}]}\n\n'
] * 40
END = (
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":%d,"completion_tokens":40}}\n\ndata: [DONE]\n\n'
)


class Tokens(FakeChunks):
    """A stream of forty tokens that pauses after each, and counts those that were read."""

    def __init__(self, prompt_tokens: int) -> None:
        super().__init__(*(item for event in STREAM for item in (event, 0.0)), END % prompt_tokens)
        self.sent = 0

    async def __anext__(self) -> bytes:
        event = await super().__anext__()
        self.sent += event is STREAM[0]
        return event


class StreamingProvider(Provider):
    """Streams, and counts what it has read and sent."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0
        self.streams: list[Tokens] = []

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        prompt_tokens = len(request.body) // 4
        self.read += prompt_tokens
        self.streams.append(Tokens(prompt_tokens))
        return reply(200, self.streams[-1], (("content-type", "text/event-stream"),))

    @property
    def usage(self) -> int:
        """What the provider itself would bill: prompts, and each token that it sent."""
        return self.read + sum(stream.sent for stream in self.streams)


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


async def test_budget_is_exceeded_by_what_was_in_flight_at_most(tmp_path: Path) -> None:
    """Requests at once stop at the budget; what is spent beyond is less than what was under way."""
    provider = Provider()
    provider.pause_s = 0.001
    rig = rig_of(tmp_path, keyed("budget: {usd: 0.1, window: day}"), provider)
    at_once = 8
    statuses: Counter[int] = Counter()
    for _ in range(10):
        got = await asyncio.gather(*(rig.ask(ask_chat(max_tokens=200)) for _ in range(at_once)))
        statuses.update(one.status for one in got)
    spent = statuses[200] * GPT_4O_USD
    assert 0.1 <= spent <= 0.1 + at_once * GPT_4O_USD
    assert statuses[429] > 0
    (counted,) = used(rig).values()
    assert counted / 1e9 == pytest.approx(spent)
    refused = await rig.ask(ask_chat())
    assert error_of(refused) == (429, "rate_limit_error", "spending_cap_reached")
    assert refused.headers["x-should-retry"] == "false"


async def test_message_headers_warn_of_the_budget(tmp_path: Path) -> None:
    """Good messages carry Anthropic's standing, from 75 % on with a warning; then a billing error."""
    rig = rig_of(tmp_path, keyed("budget: {usd: 0.0225, window: week}"), Provider())
    body = {**ask_chat(), "max_tokens": 5}
    seen = []
    for _ in range(5):
        got = await rig.ask(body, path=MESSAGES)
        prefix = "anthropic-ratelimit-unified-"
        own = {
            name.removeprefix(prefix): value
            for name, value in got.headers.items()
            if name.startswith(prefix)
        }
        assert "anthropic-ratelimit-x" not in got.headers
        assert own["reset"] == own["overage-reset"]
        seen.append(
            (own["status"], own.get("overage-surpassed-threshold"), own["overage-utilization"])
        )
        assert own["representative-claim"] == "overage"
        assert own["overage-status"] == own["status"]
    assert [status for status, _, _ in seen] == ["allowed"] * 4 + ["allowed_warning"]
    assert seen[-1][1] == "0.75"
    refused = await rig.ask(body, path=MESSAGES)
    assert refused.status == 429
    assert refused.json["error"]["type"] == "billing_error"
    assert "budget of 0.02 USD for this week" in refused.json["error"]["message"]
    assert refused.headers["anthropic-ratelimit-unified-overage-period"] == "weekly"
    assert "anthropic-ratelimit-unified-representative-claim" not in refused.headers
    other = await rig.ask(body, path=MESSAGES, key="fp-batch")
    assert not [name for name in other.headers if name.startswith("anthropic-ratelimit-unified")]


async def test_budget_begins_again_with_its_window(tmp_path: Path) -> None:
    """A day's budget is spent until midnight UTC, and whole again after it."""
    wall = FakeClock(1_796_083_100.0)
    limiter = Limiter(clock=FakeClock(), wall_clock=wall)
    text = keyed("budget: {usd: 0.001, window: day}")
    rig = rig_of(tmp_path, text, Provider(), limiter)
    assert [(await rig.ask(ask_chat())).status for _ in range(2)] == [200, 429]
    refused = await rig.ask(ask_chat())
    assert refused.headers["retry-after"] == "100"
    wall.now += 100
    assert [(await rig.ask(ask_chat())).status for _ in range(2)] == [200, 429]


async def test_unpriced_model_is_refused_under_a_budget(tmp_path: Path) -> None:
    """Unpriced is not free: a key with a budget can't use such a model, others can."""
    provider = Provider()
    rig = rig_of(tmp_path, keyed("budget: {usd: 5}"), provider)
    got = await rig.ask(ask_chat("vllm/own"))
    assert error_of(got) == (403, "permission_error", "model_without_price")
    assert "prices" in got.json["error"]["message"]
    assert (await rig.ask(ask_chat("vllm/own"), key="fp-batch")).status == 200
    await rig.ask(ask_chat("vllm/own", fallbacks=["openai/gpt-4o"]))
    assert provider.asked == ["vllm/own", "openai/gpt-4o"]
    priced = rig_of(
        tmp_path,
        keyed("budget: {usd: 5}") + "prices: {vllm/own: {input: 1, output: 1}}\n",
        provider,
    )
    assert (await priced.ask(ask_chat("vllm/own"))).status == 200


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


async def test_sessions_of_two_keys_do_not_meet(tmp_path: Path) -> None:
    """Two clients that name one session have two; a shared tenant, or a header, joins them."""
    won = Scores({"code": 0.9}, 0.2, "code")
    named = {"x-model-affinity": "s"}
    rig = rig_of(tmp_path, keyed("limits: {concurrent: 9}"), Provider(), scores=won)
    for key in ("fp-ide", "fp-batch"):
        got = await rig.ask(ask_chat(None), key=key, headers=named)
        assert got.headers["x-fingerpost-affinity"] == "miss"
    assert set(rig.store.bindings) == {"ide:s", "batch:s"}
    text = (
        "client_keys: [{key: $IDE, name: ide, tenant: both}, {key: $BATCH, name: batch, tenant: both}]\n"
        "routing: {session_cache: {tenant_header: X-Tenant}}\n"
    )
    rig = rig_of(tmp_path, text, Provider(), scores=won)
    states = [
        (await rig.ask(ask_chat(None), key=key, headers={**named, **more})).headers[
            "x-fingerpost-affinity"
        ]
        for key, more in (("fp-ide", {}), ("fp-batch", {}), ("fp-batch", {"x-tenant": "own"}))
    ]
    assert states == ["miss", "hit", "miss"]
    assert set(rig.store.bindings) == {"both:s", "own:s"}


async def test_cost_header_and_savings(tmp_path: Path) -> None:
    """A complete answer shows its cost if asked for, and the record what the baseline would cost."""
    text = (
        keyed("limits: {concurrent: 9}") + "cost_header: true\nsavings: {baseline: openai/gpt-4o}\n"
    )
    rig = rig_of(tmp_path, text, Provider())
    got = await rig.ask(ask_chat("fast"))
    record = rig.records.ended_requests[-1]
    assert record.usd is not None
    assert float(got.headers["x-fingerpost-cost-usd"]) == pytest.approx(record.usd)
    assert record.baseline_usd == pytest.approx(GPT_4O_USD)
    assert record.usd < record.baseline_usd
    assert "x-fingerpost-cost-usd" not in (await rig.ask(ask_chat("vllm/own"))).headers


async def test_own_orchestrator_is_a_model_to_allow(tmp_path: Path) -> None:
    """Typed questions for the gateway itself need auto, or its name, in the allowance."""
    body = {
        "model": "fingerpost/route",
        "input": "x",
        "questions": [{"question": "q", "options": [{"name": "a", "description": "a"}]}],
    }
    rig = rig_of(tmp_path, keyed("allow: [fast]"), Provider())
    assert (await rig.ask(body, path="/v1/decisions")).status == 403
    for allow in ("[auto]", "[fingerpost/route]"):
        rig = rig_of(tmp_path, keyed(f"allow: {allow}"), Provider())
        assert (await rig.ask(body, path="/v1/decisions")).status != 403
