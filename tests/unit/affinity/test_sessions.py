"""The life of a binding, in the use case."""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.affinity.cached import CachedStore
from serve_app.affinity.guarded import GuardedStore
from serve_app.affinity.identify import Session
from serve_app.affinity.sessions import Sessions
from serve_app.breaker import Breaker
from serve_app.config.locations import ConfigError
from serve_app.domain import Binding, ModelRef, Reason, Scores, Unavailable
from serve_app.exchange import FaultKind
from serve_app.providers.prices import CatalogPrices
from serve_app.snapshot import Snapshot
from serve_app.telemetry.metrics import Metric, MetricsObserver
from tests.unit.fakes import (
    FakeOrchestrator,
    FakeUpstream,
    Rig,
    fault,
    headers_of,
    reply,
    snapshot_of,
)

TEXT: Final = """version: v0.4.0
model_providers:
  - {model: openai/a, default: true}
  - {model: openai/b}
  - {model: openai/c}
model_aliases:
  smart: {target: auto}
routing_preferences:
  - {name: code, description: code, models: [openai/b, openai/c]}
  - {name: talk, description: talk, models: [openai/c]}
"""
SESSION: Final = Session("s", "", "")
SAID: Final = {name: {"x-model-affinity": name} for name in "st"}
CODE: Final = Scores({"code": 0.7, "talk": 0.2}, 0.1, "code")
TALK: Final = Scores({"code": 0.2, "talk": 0.7}, 0.1, "talk")
NOTHING: Final = Scores({"code": 0.0, "talk": 0.0}, 0.1, None)
DOWN: Final = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "late")


def rig(folder: Path, text: str = TEXT, **script: Any) -> Rig:
    answers = {f"openai/{name}": [script.get(name, reply())] for name in "abc"}
    return Rig(snapshot_of(folder, text), FakeUpstream(answers), FakeOrchestrator(CODE))


async def ask(asking: Rig, said: Scores | Unavailable, **more: Any) -> dict[str, str]:
    asking.orchestrator.scores = said
    body = more.pop("body", {})
    return headers_of(await asking.ask(body, named=more.pop("named", SAID["s"]), **more))


async def test_a_bound_session_asks_nobody(tmp_path: Path) -> None:
    """Bound at the first answer; from then on the orchestrator is not asked."""
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
    """The session has its model, whatever it says next."""
    asking = rig(tmp_path)
    assert (await ask(asking, NOTHING))["x-fingerpost-model"] == "openai/a"
    assert (await ask(asking, CODE))["x-fingerpost-model"] == "openai/a"


async def test_an_orchestrator_in_trouble_binds_nobody(tmp_path: Path) -> None:
    """The default answers this turn; the next one is decided."""
    asking = rig(tmp_path)
    assert (await ask(asking, DOWN))["x-fingerpost-model"] == "openai/a"
    assert asking.store.bindings == {}
    assert (await ask(asking, CODE))["x-fingerpost-model"] == "openai/b"


async def test_what_failed_binds_nobody(tmp_path: Path) -> None:
    """No answer, no binding."""
    asking = rig(tmp_path, a=fault(FaultKind.CONNECT), b=reply(400), c=reply())
    headers = await ask(asking, CODE)
    assert headers["x-fingerpost-model"] == "openai/b"
    assert asking.store.bindings == {}


async def test_a_fail_over_moves_the_session(tmp_path: Path) -> None:
    """From the bound model to the one that answered in its place, by compare and set."""
    asking = rig(tmp_path, b=fault(FaultKind.CONNECT))
    asking.store.bindings["s"] = Binding(ModelRef("openai", "b"), "code")
    headers = await ask(asking, TALK)
    assert (headers["x-fingerpost-model"], headers["x-fingerpost-reason"]) == (
        "openai/c",
        "failover",
    )
    assert str(asking.store.bindings["s"].model) == "openai/c"
    assert ("rebind",) in asking.meter.counted(Metric.SESSIONS)


async def test_a_model_that_is_gone_voids_its_bindings(tmp_path: Path) -> None:
    """The session is decided anew, and bound again."""
    asking = rig(tmp_path)
    asking.store.bindings["s"] = Binding(ModelRef("openai", "gone"), "code")
    headers = await ask(asking, TALK)
    assert (headers["x-fingerpost-affinity"], headers["x-fingerpost-model"]) == ("void", "openai/c")
    assert str(asking.store.bindings["s"].model) == "openai/c"


async def test_the_loser_of_a_race_keeps_its_answer(tmp_path: Path) -> None:
    """Not its binding."""
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
    """They neither read nor write."""
    asking = rig(tmp_path)
    headers = await ask(asking, CODE, body={"model": name})
    assert headers["x-fingerpost-reason"] == "explicit"
    assert "x-fingerpost-affinity" not in headers
    assert (asking.store.keys, asking.store.bindings) == ([], {})


LOOP = TEXT + "routing: {route_on_user_only: true}\n"
USER = {"role": "user", "content": "write a function"}
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "read", "arguments": "{}"}},
        {"id": "2", "type": "function", "function": {"name": "grep", "arguments": "{}"}},
    ],
}
RESULTS = [{"role": "tool", "tool_call_id": str(number), "content": "x"} for number in (1, 2)]
REMINDER = {"role": "user", "content": "<system-reminder>a poem is due</system-reminder>"}
DONE = {"role": "assistant", "content": "Here it is."}
POEM = {"role": "user", "content": "now write a poem"}


async def test_an_agent_s_loop_moves_only_when_the_user_speaks(tmp_path: Path) -> None:
    """User, tool calls, results, a reminder: it stays; a new word of the user may move it."""
    asking = rig(tmp_path, LOOP)

    async def turn(said: Scores, *messages: dict[str, Any]) -> tuple[str, int]:
        headers = await ask(asking, said, body={"messages": list(messages)})
        return headers["x-fingerpost-model"], len(asking.orchestrator.questions)

    assert await turn(CODE, USER) == ("openai/b", 1)
    assert await turn(TALK, USER, CALLS, RESULTS[0]) == ("openai/b", 1)
    assert await turn(TALK, USER, CALLS, *RESULTS) == ("openai/b", 1)
    assert await turn(TALK, USER, CALLS, *RESULTS, REMINDER) == ("openai/b", 1)
    assert await turn(TALK, USER, CALLS, *RESULTS, DONE, POEM) == ("openai/c", 2)
    assert await turn(CODE, USER, CALLS, *RESULTS, DONE, POEM, CALLS, *RESULTS) == ("openai/c", 2)
    assert await turn(NOTHING, USER, DONE, POEM, DONE, USER) == ("openai/c", 3)


async def test_route_on_user_only_finds_sessions_that_nobody_named(tmp_path: Path) -> None:
    """By how the conversation begins."""
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
async def test_implicit_sessions_are_asked_for(
    tmp_path: Path, section: str, implicit: bool
) -> None:
    """By Plano's keys."""
    asking = rig(tmp_path, TEXT + section)
    await ask(asking, CODE, named={})
    assert bool(asking.store.bindings) is implicit
    asking.store.bindings.clear()
    await ask(asking, CODE, named={"x-plano-cache": "off"})
    assert asking.store.bindings == {}


def test_redis_needs_an_address(tmp_path: Path) -> None:
    """Said with the place."""
    with pytest.raises(ConfigError, match="needs `url"):
        snapshot_of(tmp_path, TEXT + "routing: {session_cache: {type: redis}}\n")


def test_a_setup_knows_its_headers(tmp_path: Path) -> None:
    """Configured ones in place of the usual."""
    text = TEXT + "routing: {session_headers: [X-Mine], session_cache: {tenant_header: T}}\n"
    snapshot: Snapshot = snapshot_of(tmp_path, text)
    assert {b"x-mine", b"t", b"x-model-affinity"} <= snapshot.session_headers
    assert b"session-id" not in snapshot.session_headers


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("openia/a", "did you mean 'openai/a'"),
        ("b", "write the model in full: openai/b"),
        ("smart", "is an alias; name the model itself"),
    ],
)
def test_prices_are_those_of_models(tmp_path: Path, name: str, said: str) -> None:
    """A price that nobody would ever look up is a mistake, and told as one."""
    with pytest.raises(ConfigError, match=said):
        snapshot_of(tmp_path, f"{TEXT}prices: {{{name}: {{input: 1, output: 2}}}}\n")


async def test_who_waited_for_the_store_in_vain_waits_no_second_time(tmp_path: Path) -> None:
    """One deadline for a request; its binding holds in its ingress until the store is back."""
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
