"""Sessions that were bound without a match: the first turn that matches a route decides."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from serve_app.affinity.cached import CachedStore
from serve_app.affinity.guarded import GuardedStore
from serve_app.affinity.memory import MemoryStore
from serve_app.affinity.redis import RedisStore
from serve_app.breaker import Breaker
from serve_app.domain import Binding, ModelRef, Scores, Unavailable
from serve_app.ports import AffinityStore
from serve_app.telemetry.metrics import Metric
from tests.unit.affinity.redis_server import Server, running
from tests.unit.affinity.session_rig import (
    CALLS,
    CODE,
    DOWN,
    NOTHING,
    RESULTS,
    TALK,
    TEXT,
    USER,
    ask,
    rig,
)
from tests.unit.fakes import Rig

TTL_S: Final = 600.0
AUDIO: Final = {"role": "assistant", "audio": {"id": "audio_1"}}
REMINDER: Final = {"role": "user", "content": "<system-reminder>be brief</system-reminder>"}
DEFAULT_ROUTE: Final = TEXT.replace(
    "routing_preferences:\n",
    "routing_preferences:\n  - {name: chat, description: chat, models: [openai/a]}\n",
)
CHAT: Final = Scores({"chat": 0.7, "code": 0.1, "talk": 0.1}, 0.1, "chat")
BUDGET: Final = """prices:
  openai/a: {input: 3.0, output: 15.0, cached_input: 0.3}
  openai/b: {input: 5.0, output: 25.0}
  openai/c: {input: 5.0, output: 25.0}
routing: {routing_budget: {max_switch_spend_pct: 0}}
"""

Ingress = Callable[..., Rig]


class InMemory:
    """The memory of the deployment Affinity, without Serve."""

    def __init__(self) -> None:
        self._store = MemoryStore(max_entries=9, ttl_s=TTL_S, clock=time.monotonic)

    async def get(self, key: str) -> Binding | None:
        return self._store.get(key)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        return self._store.bind(key, binding, instead_of=instead_of)


def with_store(asking: Rig, shared: AffinityStore) -> Rig:
    """An ingress in front of a store, as it is assembled."""
    clock = asking.clock
    faults: list[str] = []
    guarded = GuardedStore(
        shared, clock=clock, breaker=Breaker(clock), report=faults.append, deadline_s=5.0
    )
    asking.other_store = CachedStore(guarded, max_entries=9, ttl_s=TTL_S, clock=clock)
    return asking


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def ingress(
    request: pytest.FixtureRequest, tmp_path: Path, server: Server
) -> AsyncIterator[Ingress]:
    """Makes ingresses that share one store, each with a cache of its own."""
    async with AsyncExitStack() as stack:
        shared: AffinityStore = InMemory()
        if request.param == "redis":
            redis = RedisStore(server.url, ttl_s=TTL_S)
            stack.push_async_callback(redis.aclose)
            shared = redis

        def made(text: str = TEXT) -> Rig:
            return with_store(rig(tmp_path, text), shared)

        yield made


@pytest.fixture
def named() -> dict[str, str]:
    """A session that no other test has."""
    return {"x-model-affinity": uuid4().hex}


async def turn(
    asking: Rig, scores: Scores | Unavailable, named: dict[str, str], *messages: dict[str, Any]
) -> tuple[str, str]:
    """The model that answers a turn, and the reason."""
    body = {"messages": list(messages)} if messages else {}
    headers = await ask(asking, scores, named=named, body=body)
    return headers["x-fingerpost-model"], headers["x-fingerpost-reason"]


async def test_first_match_replaces_the_binding(ingress: Ingress, named: dict[str, str]) -> None:
    """It binds for good, in every ingress; the turns before it stay on the default model."""
    one, other = ingress(), ingress()
    assert await turn(one, NOTHING, named) == ("openai/a", "no_match")
    assert await turn(one, NOTHING, named) == ("openai/a", "affinity")
    assert await turn(other, DOWN, named) == ("openai/a", "affinity")
    assert await turn(one, CODE, named) == ("openai/b", "route")
    assert await turn(one, TALK, named) == ("openai/b", "affinity")
    assert len(one.orchestrator.questions) == 3
    assert one.meter.counted(Metric.SESSIONS)[-3:] == [("hit",), ("rebind",), ("hit",)]
    other.clock.now += 10
    assert await turn(other, TALK, named) == ("openai/b", "affinity")


async def test_late_orchestrator_leaves_an_agent_on_its_model(
    ingress: Ingress, named: dict[str, str]
) -> None:
    """Its next step carries results of tools, which only the model that called them reads on; the
    user's next turn is decided by its content.
    """
    asking = ingress()
    assert await turn(asking, DOWN, named) == ("openai/a", "orchestrator_timeout")
    assert await turn(asking, CODE, named, USER, CALLS, *RESULTS) == ("openai/a", "affinity")
    assert await turn(asking, DOWN, named, USER) == ("openai/a", "affinity")
    assert await turn(asking, CODE, named, USER) == ("openai/b", "route")


async def test_match_of_the_same_model_binds_for_good(
    ingress: Ingress, named: dict[str, str]
) -> None:
    """A route may begin with the default model."""
    asking = ingress(DEFAULT_ROUTE)
    assert await turn(asking, NOTHING, named) == ("openai/a", "no_match")
    assert await turn(asking, CHAT, named) == ("openai/a", "route")
    assert await turn(asking, CODE, named) == ("openai/a", "affinity")


async def test_slower_match_keeps_its_answer_only(ingress: Ingress, named: dict[str, str]) -> None:
    """Two ingresses replace one provisional binding: the first one binds."""
    one, other = ingress(), ingress()
    for asking in (one, other):
        await turn(asking, NOTHING, named)
    assert await turn(one, CODE, named) == ("openai/b", "route")
    assert await turn(other, TALK, named) == ("openai/c", "route")
    assert ("lost",) in other.meter.counted(Metric.SESSIONS)
    assert await turn(other, TALK, named) == ("openai/b", "affinity")


@pytest.mark.parametrize(
    "messages",
    [
        [USER, CALLS],
        [USER, CALLS, RESULTS[0]],
        [USER, CALLS, *RESULTS],
        [USER, CALLS, *RESULTS, REMINDER],
        [USER, AUDIO, USER],
    ],
    ids=["calls", "one result", "results", "reminder", "audio"],
)
async def test_open_state_keeps_the_model(
    ingress: Ingress, named: dict[str, str], messages: list[dict[str, Any]]
) -> None:
    """Only the model that answered can read on; the orchestrator is not asked."""
    asking = ingress()
    await turn(asking, NOTHING, named)
    assert await turn(asking, CODE, named, *messages) == ("openai/a", "affinity")
    assert len(asking.orchestrator.questions) == 1
    assert await turn(asking, CODE, named, USER) == ("openai/b", "route")


async def test_steps_of_an_agent_keep_the_model(ingress: Ingress, named: dict[str, str]) -> None:
    """With route_on_user_only, only the user's own turn can match."""
    asking = ingress(TEXT + "routing: {route_on_user_only: true}\n")
    await turn(asking, NOTHING, named)
    done = {"role": "assistant", "content": "Done."}
    assert await turn(asking, CODE, named, USER, done, REMINDER) == ("openai/a", "affinity")
    assert await turn(asking, CODE, named, USER) == ("openai/b", "route")


async def test_budget_does_not_keep_a_provisional_model(
    ingress: Ingress, named: dict[str, str]
) -> None:
    """The sums begin with the model that replaces it; from then on the budget holds."""
    asking = ingress(TEXT + BUDGET)
    long = {"role": "user", "content": "x" * 40_000}
    assert await turn(asking, NOTHING, named, long) == ("openai/a", "no_match")
    asking.wall_clock.now += 10
    assert await turn(asking, CODE, named, long) == ("openai/b", "route")
    assert asking.other_store is not None
    binding = await asking.other_store.get(named["x-model-affinity"])
    assert binding is not None
    assert (binding.route, binding.default_model) == ("code", "openai/b")
    assert (binding.spend.switches, binding.spend.switch_spend_usd) == (0, 0.0)
    asking.wall_clock.now += 10
    assert await turn(asking, TALK, named, long) == ("openai/b", "affinity")


async def test_binding_of_plano_without_a_route_is_replaced(
    tmp_path: Path, server: Server, named: dict[str, str]
) -> None:
    """Its JSON is as Plano writes it, before and after."""
    key = f"plano:affinity:{named['x-model-affinity']}"
    theirs = {"anchor_model": "openai/c", "default_model": "openai/c", "route_name": None}
    store = RedisStore(server.url, ttl_s=TTL_S)
    async with Redis.from_url(server.url) as raw:
        await raw.set(key, json.dumps(theirs))
        asking = with_store(rig(tmp_path), store)
        assert await turn(asking, NOTHING, named) == ("openai/c", "affinity")
        assert await turn(asking, CODE, named) == ("openai/b", "route")
        value = json.loads(await raw.get(key) or "")
    await store.aclose()
    assert (value["anchor_model"], value["route_name"]) == ("openai/b", "code")
