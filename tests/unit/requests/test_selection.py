"""The order of a route's models: cheapest or fastest first, and last those that do not fit."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.dialects.earlier_answers import Reference
from serve_app.domain import Binding, ModelRef, Scores
from serve_app.exchange import FaultKind, UpstreamRequest
from serve_app.requests.earlier import Earlier
from serve_app.requests.gateway import Gateway
from serve_app.requests.latencies import EXPLORE_UNKNOWN_EVERY
from serve_app.requests.selection import Selection
from tests.unit.config.broken import V
from tests.unit.fakes import (
    FakeChunks,
    Rig,
    fault,
    headers_of,
    reply,
    request_of,
    snapshot_of,
)
from tests.unit.requests.gateway_rig import make_rig

TEXT: Final = """
model_providers:
  - {model: openai/a, max_input_tokens: 1000, default: true}
  - {model: openai/b, max_input_tokens: 50}
  - {model: vllm/c, base_url: "http://h:1", lacks: [images, tools]}
  - {model: openai/gpt-4}
  - {model: anthropic/claude-sonnet-4-5, access_key: k}
prices:
  openai/a: {input: 3, output: 6}
  openai/b: {input: 2, output: 10}
  vllm/c: {input: 4, output: 4}
"""
FAST: Final = Scores({"r": 0.9}, 0.2, "r")
A, B, C = "openai/a", "openai/b", "vllm/c"
TEXT_PART: Final = {"type": "text", "text": "Hi"}
IMAGE: Final = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + 3200 * "A"}}


def rig_of(
    directory: Path, route: str, *, more: str = "", script: Mapping[str, Any] | None = None
) -> Rig:
    routes = f"routing_preferences:\n  - {{name: r, description: d, {route}}}\n{more}"
    snapshot = snapshot_of(directory, V + TEXT + routes)
    return make_rig(
        snapshot, script or {str(name): reply() for name in snapshot.policy.models.values()}, FAST
    )


async def explained(rig: Rig, gateway: Gateway | None = None, **body: Any) -> list[dict[str, Any]]:
    """The candidates as ``/v1/route`` shows them."""
    content = json.dumps({"messages": [{"role": "user", "content": "Hello"}], **body})
    request = request_of(rig.snapshot, content, arrived=rig.clock.now)
    answer = await (gateway or rig.gateway).explain(request)
    assert isinstance(answer.body, bytes)
    candidates: list[dict[str, Any]] = json.loads(answer.body)["candidates"]
    return candidates


def names(candidates: list[dict[str, Any]]) -> list[str]:
    return [candidate["model"] for candidate in candidates]


async def test_cheapest_model_comes_first(tmp_path: Path) -> None:
    """The sum of both prices counts."""
    route = "models: [openai/b, openai/a, vllm/c], selection_policy: {prefer: cheapest}"
    rig = rig_of(tmp_path, route)
    shown = await explained(rig)
    assert names(shown) == [C, A, B]
    assert shown[0]["why"] == (
        "model 3 of route 'r', cheapest first, 8 USD per million tokens of input and output"
    )
    headers = headers_of(await rig.ask({}))
    assert (headers["x-fingerpost-model"], headers["x-fingerpost-reason"]) == (C, "route")


async def test_model_without_price_is_last_by_price(tmp_path: Path) -> None:
    """It keeps its place among those without one."""
    route = "models: [vllm/own, vllm/c, openai/b], selection_policy: {prefer: cheapest}"
    text = V + TEXT.replace("prices:", '  - {model: vllm/own, base_url: "http://h:1"}\nprices:')
    snapshot = snapshot_of(
        tmp_path, f"{text}routing_preferences:\n  - {{name: r, description: d, {route}}}\n"
    )
    shown = await explained(make_rig(snapshot, {}, FAST))
    assert names(shown) == [C, B, "vllm/own", A]
    assert shown[2]["why"] == "model 1 of route 'r', cheapest first, unknown"


async def test_fastest_model_is_measured(tmp_path: Path) -> None:
    """Requests measure the models; some explore those that have not been asked yet."""
    rig = rig_of(tmp_path, "models: [openai/a, openai/b], selection_policy: {prefer: fastest}")

    def answers(seconds: float) -> Any:
        def answer(request: UpstreamRequest) -> Any:
            del request
            rig.clock.now += seconds
            return reply()

        return answer

    rig.upstream = make_rig(rig.snapshot, {A: answers(2.0), B: answers(0.5)}).upstream
    gateway = rig.gateway
    assert names(await explained(rig, gateway)) == [A, B]
    for _ in range(EXPLORE_UNKNOWN_EVERY):
        await rig.ask({}, gateway=gateway)
    assert rig.upstream.models == [*[A] * (EXPLORE_UNKNOWN_EVERY - 1), B]
    shown = await explained(rig, gateway)
    assert [candidate["why"] for candidate in shown] == [
        "model 2 of route 'r', fastest first, answer after 0.50 s",
        "model 1 of route 'r', fastest first, answer after 2.00 s",
    ]
    streamed = await explained(rig, gateway, stream=True)
    assert streamed[0]["why"] == "model 1 of route 'r', fastest first, not measured"


async def test_failures_and_streams_are_measured(tmp_path: Path) -> None:
    """A stream counts until its first content, a failure as slow, an invalid request not at all."""
    policy = "models: [openai/a, openai/b], selection_policy: {prefer: fastest}"
    word = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'
    script = {A: fault(FaultKind.CONNECT), B: reply(200, FakeChunks(word))}
    rig = rig_of(tmp_path, policy, script=script)
    gateway = rig.gateway
    await rig.ask({"stream": True}, gateway=gateway)
    shown = await explained(rig, gateway, stream=True)
    assert names(shown) == [B, A]
    assert shown[0]["why"].endswith("fastest first, first token after 0.00 s")
    assert shown[1]["why"].endswith("fastest first, first token after 10.00 s")
    rig.upstream = make_rig(rig.snapshot, {A: reply(400, b"{}")}).upstream
    gateway = rig.gateway
    await rig.ask({}, gateway=gateway)
    assert (await explained(rig, gateway))[0]["why"].endswith("not measured")


@pytest.mark.parametrize(
    ("body", "order", "why"),
    [
        ({}, [B, C, A], ""),
        (
            {"messages": [{"role": "user", "content": 240 * "x"}]},
            [C, A, B],
            "model 1 of route 'r'; too long: about 71 tokens, maximum 50",
        ),
        ({"messages": [{"role": "user", "content": 9000 * "x"}]}, [C, B, A], None),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            [B, A, C],
            "model 2 of route 'r'; does not take tools",
        ),
        (
            {"messages": [{"role": "user", "content": [TEXT_PART, IMAGE]}]},
            [B, A, C],
            "model 2 of route 'r'; does not take images",
        ),
    ],
)
async def test_models_that_do_not_fit_come_last(
    tmp_path: Path, body: dict[str, Any], order: list[str], why: str | None
) -> None:
    """Too long a request, or what a model does not take, moves it behind the default model."""
    rig = rig_of(tmp_path, "models: [openai/b, vllm/c]")
    shown = await explained(rig, **body)
    assert names(shown) == order
    assert why is None or not why or shown[-1]["why"] == why
    headers = headers_of(await rig.ask(body))
    assert headers["x-fingerpost-model"] == order[0]


async def test_order_stays_where_no_model_fits(tmp_path: Path) -> None:
    """The providers judge; each candidate says why it may refuse."""
    rig = rig_of(tmp_path, "models: [openai/b]")
    shown = await explained(rig, messages=[{"role": "user", "content": 9000 * "x"}])
    assert names(shown) == [B, A]
    assert all("; too long: about" in candidate["why"] for candidate in shown)


async def test_known_context_has_room_for_the_answer(tmp_path: Path) -> None:
    """Of a published context the limit of the output takes its part."""
    rig = rig_of(tmp_path, "models: [openai/gpt-4, openai/a]")
    assert names(await explained(rig, max_tokens=8000))[0] == "openai/gpt-4"
    shown = await explained(rig, max_tokens=8190)
    assert shown[1]["why"] == (
        "model 1 of route 'r'; too long: about 18 tokens and 8190 of output, context 8192"
    )


async def test_long_context_of_anthropic_is_the_clients_choice(tmp_path: Path) -> None:
    """A client that asks for the longer context gets it, whatever the published one is."""
    rig = rig_of(tmp_path, "models: [anthropic/claude-sonnet-4-5, vllm/c]")
    content = json.dumps({"messages": [{"role": "user", "content": 900_000 * "x"}]})
    first = []
    for headers in ((), (("anthropic-beta", "x,context-1m-2025-08-07"),)):
        request = request_of(rig.snapshot, content, headers=headers)
        answer = await rig.gateway.explain(request)
        first.append(headers_of(answer)["x-fingerpost-model"])
    assert first == [C, "anthropic/claude-sonnet-4-5"]


async def test_named_model_is_not_reordered(tmp_path: Path) -> None:
    """A client that names its models gets them in its order."""
    rig = rig_of(tmp_path, "models: [openai/a]")
    long = [{"role": "user", "content": 900 * "x"}]
    shown = await explained(rig, model=B, models=[A], messages=long)
    assert names(shown) == [B, A]


async def test_decision_api_names_models_in_their_order(tmp_path: Path) -> None:
    """Plano's decision API gives the models of the route, the one to call first."""
    rig = rig_of(
        tmp_path, "models: [openai/a, openai/b, vllm/c], selection_policy: {prefer: cheapest}"
    )
    request = request_of(rig.snapshot, json.dumps({"messages": [{"role": "user", "content": "x"}]}))
    answer = await rig.gateway.match(request)
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body)["models"] == [C, A, B]


async def test_rule_with_a_route_orders_its_models(tmp_path: Path) -> None:
    """The models of the rule's route come in the order of that route, with its efforts."""
    rules = "routing_rules:\n  - {name: all, match: {alias: auto}, route: r}\n"
    route = "models: [{model: openai/b, effort: low}, vllm/c], selection_policy: {prefer: cheapest}"
    rig = rig_of(tmp_path, route, more=rules)
    shown = await explained(rig)
    assert names(shown) == [C, B, A]
    assert [candidate.get("effort") for candidate in shown] == [None, "low", None]
    assert shown[0]["why"].startswith("model 2 of route 'r', cheapest first, 8 USD")


def sent(rig: Rig, position: int = -1) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(rig.upstream.requests[position].body)
    return body


async def test_route_sets_the_effort_of_its_models(tmp_path: Path) -> None:
    """Each candidate gets its own; the default model behind them gets none."""
    down = fault(FaultKind.CONNECT)
    route = "models: [{model: openai/b, effort: high}, {model: vllm/c, effort: low}]"
    rig = rig_of(tmp_path, route, script={A: reply(), B: down, C: down})
    await rig.ask({})
    efforts = [sent(rig, position).get("reasoning_effort") for position in range(3)]
    assert (rig.upstream.models[:3], efforts) == ([B, C, A], ["high", "low", None])


async def test_effort_of_the_client_wins(tmp_path: Path) -> None:
    """The description of the route chose the model; how hard it thinks is the client's to say."""
    rig = rig_of(tmp_path, "models: [{model: openai/b, effort: high}]")
    await rig.ask({"reasoning_effort": "low"})
    assert sent(rig)["reasoning_effort"] == "low"


async def test_named_model_has_no_effort(tmp_path: Path) -> None:
    """The route did not decide."""
    rig = rig_of(tmp_path, "models: [{model: openai/b, effort: high}]")
    await rig.ask({"model": B})
    assert "reasoning_effort" not in sent(rig)


async def test_pinned_session_keeps_the_effort(tmp_path: Path) -> None:
    """A session on a route goes on as it began, and on its model, whatever is cheaper."""
    route = (
        "models: [{model: openai/b, effort: high}, openai/a, vllm/c], "
        "selection_policy: {prefer: cheapest}"
    )
    rig = rig_of(tmp_path, route)
    key = {"x-model-affinity": "s"}
    await rig.ask({}, named=key)
    assert rig.upstream.models == [C]
    (name,) = rig.store.bindings
    rig.store.bindings[name] = Binding(ModelRef.parse(B), "r")
    headers = headers_of(await rig.ask({}, named=key))
    assert (headers["x-fingerpost-model"], headers["x-fingerpost-reason"]) == (B, "affinity")
    assert sent(rig)["reasoning_effort"] == "high"


async def test_session_leaves_a_model_that_it_has_outgrown(tmp_path: Path) -> None:
    """The next model that takes the conversation answers, and the session is bound to it."""
    rig = rig_of(tmp_path, "models: [openai/b, vllm/c]")
    key = {"x-model-affinity": "s"}
    await rig.ask({}, named=key)
    assert rig.upstream.models == [B]
    long = {"messages": [{"role": "user", "content": 600 * "x"}]}
    headers = headers_of(await rig.ask(long, named=key))
    assert headers["x-fingerpost-model"] == C
    assert [binding.model for binding in rig.store.bindings.values()] == [ModelRef.parse(C)]


async def test_session_stays_where_the_provider_has_a_part_of_it(tmp_path: Path) -> None:
    """Only the model that has heard itself can go on, however long the conversation is."""
    rig = rig_of(tmp_path, "models: [openai/b, vllm/c]")
    key = {"x-model-affinity": "s"}
    await rig.ask({}, named=key)
    heard = {"role": "assistant", "audio": {"id": "audio_1"}}
    long = {"messages": [heard, {"role": "user", "content": 600 * "x"}]}
    headers = headers_of(await rig.ask(long, named=key))
    assert headers["x-fingerpost-model"] == B


async def test_routes_of_a_request_have_orders_and_efforts(tmp_path: Path) -> None:
    """They take the keys of the configuration."""
    rig = rig_of(tmp_path, "models: [openai/a]")
    own = {
        "name": "own",
        "description": "d",
        "models": [B, {"model": C, "effort": "max"}],
        "selection_policy": {"prefer": "cheapest"},
    }
    rig.orchestrator.scores = Scores({"own": 0.9}, 0.2, "own")
    headers = headers_of(await rig.ask({"routing_preferences": [own]}))
    assert headers["x-fingerpost-model"] == C
    assert sent(rig)["reasoning_effort"] == "max"


@pytest.mark.parametrize(("route", "effort"), [("r", "high"), ("gone", None), (None, None)])
async def test_answer_is_continued_with_the_effort_of_its_route(
    tmp_path: Path, route: str | None, effort: str | None
) -> None:
    """Also where its provider alone can go on, so that nothing is decided."""
    rig = rig_of(tmp_path, "models: [openai/a, {model: openai/b, effort: high}]")
    earlier = Earlier(
        Reference("id", "previous_response_id"), ModelRef.parse(B), route, "e", is_at_provider=True
    )
    content = json.dumps({"messages": [{"role": "user", "content": "Hello"}]})
    request = replace(request_of(rig.snapshot, content), earlier=earlier)
    answer = await rig.gateway.explain(request)
    assert isinstance(answer.body, bytes)
    (shown,) = json.loads(answer.body)["candidates"]
    assert (shown["model"], shown.get("effort")) == (B, effort)


async def test_capabilities_are_compiled_once(tmp_path: Path) -> None:
    """All requests of one configuration share them; a new configuration has its own."""
    rig = rig_of(tmp_path, "models: [openai/a]")
    selection = Selection(rig.gateway._selection.latencies)
    first = await selection.ranking(rig.snapshot, stream=False)
    again = await selection.without_exploring().ranking(rig.snapshot, stream=True)
    assert first.capabilities is again.capabilities
    assert (first.explores, again.explores) == (True, False)
    other = await selection.ranking(snapshot_of(tmp_path, V + TEXT), stream=False)
    assert other.capabilities is not first.capabilities


async def test_no_match_orders_the_default_by_fit(tmp_path: Path) -> None:
    """Without a default model the models of the first route answer, those that fit first."""
    text = TEXT.replace(", default: true", "")
    routes = "routing_preferences:\n  - {name: r, description: d, models: [openai/b, openai/a]}\n"
    rig = make_rig(snapshot_of(tmp_path, V + text + routes), {}, Scores({"r": 0.1}, 0.5, None))
    shown = await explained(rig, messages=[{"role": "user", "content": 600 * "x"}])
    assert names(shown) == [A, B]
    assert shown[0]["why"] == "of the first route, because there is no default model"
