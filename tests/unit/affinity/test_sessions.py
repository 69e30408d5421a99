"""The life of a binding, in the use case."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.affinity.cached import CachedStore
from serve_app.affinity.guarded import GuardedStore
from serve_app.affinity.sessions import Sessions
from serve_app.breaker import Breaker
from serve_app.config.locations import ConfigError
from serve_app.domain import Binding, ModelRef, Scores
from serve_app.exchange import FaultKind
from serve_app.providers.prices import CatalogPrices
from serve_app.snapshot import Snapshot
from serve_app.telemetry.metrics import Metric, MetricsObserver
from tests.unit.affinity.session_rig import (
    CALLS,
    CODE,
    DOWN,
    NOTHING,
    RESULTS,
    SESSION,
    TALK,
    TEXT,
    USER,
    ask,
    rig,
)
from tests.unit.fakes import fault, reply, snapshot_of


async def test_bound_session_skips_orchestrator(tmp_path: Path) -> None:
    """The first answer binds it; after that the orchestrator is not called."""
    asking = rig(tmp_path)
    assert (await ask(asking, CODE))["x-fingerpost-model"] == "openai/b"
    asked = len(asking.orchestrator.questions)
    headers = await ask(asking, TALK)
    assert (headers["x-fingerpost-model"], headers["x-fingerpost-reason"]) == (
        "openai/b",
        "affinity",
    )
    assert len(asking.orchestrator.questions) == asked
    assert asking.meter.counted(Metric.SESSIONS) == [("miss",), ("store",), ("hit",)]
    assert asking.store.bindings["s"] == Binding(
        ModelRef("openai", "b"), "code", "", last_used=1_700_000_000.0
    )


async def test_no_match_binds_the_default(tmp_path: Path) -> None:
    """The binding is provisional, and its model answers as long as no route matches."""
    asking = rig(tmp_path)
    assert (await ask(asking, NOTHING))["x-fingerpost-model"] == "openai/a"
    assert asking.store.bindings["s"].is_provisional
    headers = await ask(asking, NOTHING)
    assert (headers["x-fingerpost-model"], headers["x-fingerpost-reason"]) == (
        "openai/a",
        "affinity",
    )


async def test_unavailable_orchestrator_binds_provisionally(tmp_path: Path) -> None:
    """The default answers this turn; the next one is decided."""
    asking = rig(tmp_path)
    assert (await ask(asking, DOWN))["x-fingerpost-model"] == "openai/a"
    assert all(binding.is_provisional for binding in asking.store.bindings.values())
    assert (await ask(asking, CODE))["x-fingerpost-model"] == "openai/b"


async def test_failed_request_binds_nothing(tmp_path: Path) -> None:
    """Only an answer makes a binding."""
    asking = rig(tmp_path, a=fault(FaultKind.CONNECT), b=reply(400), c=reply())
    headers = await ask(asking, CODE)
    assert headers["x-fingerpost-model"] == "openai/b"
    assert asking.store.bindings == {}


async def test_failover_moves_the_session(tmp_path: Path) -> None:
    """It is moved by compare-and-set from the bound model to the one that answered."""
    asking = rig(tmp_path, b=fault(FaultKind.CONNECT))
    asking.store.bindings["s"] = Binding(ModelRef("openai", "b"), "code")
    headers = await ask(asking, TALK)
    assert (headers["x-fingerpost-model"], headers["x-fingerpost-reason"]) == (
        "openai/c",
        "failover",
    )
    assert str(asking.store.bindings["s"].model) == "openai/c"
    assert ("rebind",) in asking.meter.counted(Metric.SESSIONS)


async def test_failover_keeps_a_route_that_is_not_of_this_request(tmp_path: Path) -> None:
    """A binding that was made by a match does not become provisional."""
    asking = rig(tmp_path, b=fault(FaultKind.CONNECT))
    asking.store.bindings["s"] = Binding(ModelRef("openai", "b"), "renamed")
    assert (await ask(asking, TALK))["x-fingerpost-model"] == "openai/a"
    binding = asking.store.bindings["s"]
    assert (str(binding.model), binding.route) == ("openai/a", "renamed")


async def test_removed_model_voids_its_bindings(tmp_path: Path) -> None:
    """The session is decided anew, and bound again."""
    asking = rig(tmp_path)
    asking.store.bindings["s"] = Binding(ModelRef("openai", "gone"), "code")
    headers = await ask(asking, TALK)
    assert (headers["x-fingerpost-affinity"], headers["x-fingerpost-model"]) == ("void", "openai/c")
    assert str(asking.store.bindings["s"].model) == "openai/c"


async def test_loser_of_a_race_keeps_its_answer(tmp_path: Path) -> None:
    """It does not keep its binding."""
    asking = rig(tmp_path)
    winner = Binding(ModelRef("openai", "c"), "talk")

    async def late(key: str) -> Binding | None:
        asking.store.bindings[key] = winner
        return None

    asking.store.get = late  # type: ignore[method-assign]
    assert (await ask(asking, CODE))["x-fingerpost-model"] == "openai/b"
    assert asking.store.bindings["s"] == winner
    assert ("lost",) in asking.meter.counted(Metric.SESSIONS)


@pytest.mark.parametrize("name", ["openai/a", "b"])
async def test_explicit_names_have_no_session(tmp_path: Path, name: str) -> None:
    """Such requests neither read nor write a binding."""
    asking = rig(tmp_path)
    headers = await ask(asking, CODE, body={"model": name})
    assert headers["x-fingerpost-reason"] == "explicit"
    assert "x-fingerpost-affinity" not in headers
    assert (asking.store.keys, asking.store.bindings) == ([], {})


LOOP = TEXT + "routing: {route_on_user_only: true}\n"
REMINDER = {"role": "user", "content": "<system-reminder>a poem is due</system-reminder>"}
DONE = {"role": "assistant", "content": "Here it is."}
POEM = {"role": "user", "content": "now write a poem"}


async def test_tool_loop_stays_until_the_user_writes(tmp_path: Path) -> None:
    """Tool calls, results and reminders keep the session; a new text of the user may move it."""
    asking = rig(tmp_path, LOOP)

    async def turn(scores: Scores, *messages: dict[str, Any]) -> tuple[str, int]:
        headers = await ask(asking, scores, body={"messages": list(messages)})
        return headers["x-fingerpost-model"], len(asking.orchestrator.questions)

    assert await turn(CODE, USER) == ("openai/b", 1)
    assert await turn(TALK, USER, CALLS, RESULTS[0]) == ("openai/b", 1)
    assert await turn(TALK, USER, CALLS, *RESULTS) == ("openai/b", 1)
    assert await turn(TALK, USER, CALLS, *RESULTS, REMINDER) == ("openai/b", 1)
    assert await turn(TALK, USER, CALLS, *RESULTS, DONE, POEM) == ("openai/c", 2)
    assert await turn(CODE, USER, CALLS, *RESULTS, DONE, POEM, CALLS, *RESULTS) == ("openai/c", 2)
    assert await turn(NOTHING, USER, DONE, POEM, DONE, USER) == ("openai/c", 3)


async def test_route_on_user_only_identifies_sessions(tmp_path: Path) -> None:
    """Unnamed sessions are identified by the beginning of the conversation."""
    asking = rig(tmp_path, LOOP)
    await ask(asking, CODE, body={"messages": [USER]}, named={})
    headers = await ask(asking, TALK, body={"messages": [USER, CALLS, *RESULTS]}, named={})
    assert headers["x-fingerpost-affinity"] == "hit"
    (key,) = asking.store.bindings
    assert key.startswith("implicit:")


@pytest.mark.parametrize(
    ("section", "implicit"),
    [
        ("", False),
        ("prompt_caching: {enabled: true}\n", True),
        ("prompt_caching: {enabled: true, session_affinity: false}\n", False),
        ("prompt_caching: {session_affinity: true}\n", True),
    ],
)
async def test_implicit_sessions_are_configured(
    tmp_path: Path, section: str, implicit: bool
) -> None:
    """Plano's keys turn them on."""
    asking = rig(tmp_path, TEXT + section)
    await ask(asking, CODE, named={})
    assert bool(asking.store.bindings) is implicit
    asking.store.bindings.clear()
    await ask(asking, CODE, named={"x-plano-cache": "off"})
    assert asking.store.bindings == {}


def test_redis_needs_an_address(tmp_path: Path) -> None:
    """The problem has its location."""
    with pytest.raises(ConfigError, match="needs `url"):
        snapshot_of(tmp_path, TEXT + "routing: {session_cache: {type: redis}}\n")


def test_snapshot_lists_session_headers(tmp_path: Path) -> None:
    """Configured headers replace the default ones."""
    text = TEXT + "routing: {session_headers: [X-Mine], session_cache: {tenant_header: T}}\n"
    snapshot: Snapshot = snapshot_of(tmp_path, text)
    assert {b"x-mine", b"t", b"x-model-affinity"} <= snapshot.deciding_headers
    assert b"session-id" not in snapshot.deciding_headers


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("openia/a", "did you mean 'openai/a'"),
        ("b", "write the model in full: openai/b"),
        ("smart", "is an alias; name the model itself"),
    ],
)
def test_price_of_unknown_model_is_a_problem(tmp_path: Path, name: str, text: str) -> None:
    """Such a price would never be used."""
    with pytest.raises(ConfigError, match=text):
        snapshot_of(tmp_path, f"{TEXT}prices: {{{name}: {{input: 1, output: 2}}}}\n")


async def test_request_waits_for_unavailable_store_once(tmp_path: Path) -> None:
    """Its binding stays in the ingress until the store is available."""
    asking = rig(tmp_path)
    asked: list[str] = []

    class Hanging:
        async def get(self, key: str) -> Binding | None:
            asked.append(f"get {key}")
            await asyncio.Event().wait()
            return None

        async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
            asked.append(f"bind {key} {binding} {instead_of}")
            return await asyncio.Event().wait()

    steady = GuardedStore(
        Hanging(), clock=asking.clock, breaker=Breaker(asking.clock), report=asked.append,
        deadline_s=0.05,
    )  # fmt: skip
    local = CachedStore(steady, max_entries=9, ttl_s=600, clock=asking.clock)
    sessions = Sessions(local, MetricsObserver(asking.meter), CatalogPrices)
    place = await sessions.find(SESSION, lambda _: True)
    assert (place.found, place.away) == (None, True)
    await sessions.settle(place, ModelRef("openai", "b"), "code")
    assert asked == [f"get {SESSION.key}", "error"]
    again = await sessions.find(SESSION, lambda _: True)
    assert again.live
    assert again.found is not None
    assert again.found.model == ModelRef("openai", "b")


async def test_binding_lives_as_long_as_the_cache_that_the_client_asks_for(tmp_path: Path) -> None:
    """A later turn can prolong it, and none shortens it."""
    asking, route_b = rig(tmp_path), {"prompt_cache_options": {"ttl": "30m"}}
    await ask(asking, CODE)
    first = asking.store.bindings["s"]
    assert first.ttl_s == 0
    asking.wall_clock.now += 60
    await ask(asking, CODE, body=route_b)
    assert asking.store.bindings["s"] == replace(first, ttl_s=1800.0)
    await ask(asking, CODE, body={"prompt_cache_retention": "24h"})
    for body in (route_b, {}):
        await ask(asking, CODE, body=body)
        assert asking.store.bindings["s"] == replace(first, ttl_s=86_400.0)
    assert asking.meter.counted(Metric.SESSIONS).count(("hit",)) == 4
    await ask(asking, CODE, body=route_b, named={"x-model-affinity": "t"})
    assert asking.store.bindings["t"].ttl_s == 1800.0
