"""Bindings in Plano's format."""

import json
from typing import Any

import pytest

from serve_app.affinity import plano_format
from serve_app.domain import Binding, ModelRef, Spend, Visit

FULL = Binding(
    model=ModelRef("together", "meta/llama"),
    route="code",
    lane="fast",
    last_used=1_700_000_000.0,
    default_model="openai/gpt-4o",
    prefix_hash="00ff00ff00ff00ff",
    cached_tokens=1234,
    spend=Spend(0.5, 0.25, 1.75, 2, (Visit("openai/gpt-4o", 1.0, 10), Visit("a/b", 2.0, 20))),
)
PLANOS = {
    "anchor_model": "openai/gpt-4o",
    "default_model": "openai/gpt-4o",
    "requested_model": "fast",
    "route_name": "code",
    "prefix_hash": 2**64 - 1,
    "last_used": 1_700_000_000,
    "cached_tokens": 7,
    "baseline_usd": 0.1,
    "switch_spend_usd": 0,
    "switches": 1,
    "history": [{"model": "openai/gpt-4o", "last_used": 3, "cached_tokens": 7}],
    "session_cost_usd": 0.2,
}
BARE = Binding(ModelRef("p", "a"))


def read(value: Any) -> Binding | None:
    return plano_format.read_binding(json.dumps(value).encode())


def written(binding: Binding) -> dict[str, Any]:
    value = json.loads(plano_format.write_binding(binding))
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("binding", [FULL, BARE])
def test_binding_survives_writing_and_reading(binding: Binding) -> None:
    """It is equal, with all fields or with the fewest."""
    assert plano_format.read_binding(plano_format.write_binding(binding)) == binding


def test_binding_without_a_route_is_provisional() -> None:
    """Plano's JSON has no key of its own for it: the route is null, also in a value of Plano."""
    assert BARE.is_provisional
    assert not FULL.is_provisional
    assert written(BARE)["route_name"] is None
    assert set(written(BARE)) == set(PLANOS)
    theirs = read({**PLANOS, "route_name": None})
    assert theirs is not None
    assert theirs.is_provisional


def test_value_of_plano_is_read() -> None:
    """The value is as Plano writes it, with a hash of 64 bits and integer dollars."""
    assert read(PLANOS) == Binding(
        model=ModelRef("openai", "gpt-4o"),
        route="code",
        lane="fast",
        last_used=1_700_000_000.0,
        default_model="openai/gpt-4o",
        prefix_hash="f" * 16,
        cached_tokens=7,
        spend=Spend(0.1, 0.0, 0.2, 1, (Visit("openai/gpt-4o", 3.0, 7),)),
    )


@pytest.mark.parametrize("binding", [FULL, BARE])
def test_value_has_the_format_of_plano(binding: Binding) -> None:
    """All keys are there with the types that Plano requires; only two of them may be null."""
    value = written(binding)
    assert value.keys() == PLANOS.keys()
    for key, found in value.items():
        may_be = (type(PLANOS[key]), float) if key.endswith("_usd") else (type(PLANOS[key]),)
        optional = key in {"route_name", "prefix_hash"} and found is None
        assert optional or type(found) in may_be
    for visit in value["history"]:
        assert [type(visit[key]) for key in ("model", "last_used", "cached_tokens")] == [
            str,
            int,
            int,
        ]


def test_value_of_plano_survives_reading_and_writing() -> None:
    """The value that is written has the same meaning."""
    binding = read(PLANOS)
    assert binding is not None
    assert written(binding) == PLANOS


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b'"openai/gpt-4o"',
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        b'{"anchor_model":null}',
        b'{"anchor_model":7}',
        b'{"anchor_model":""}',
        b'{"anchor_model":"gpt-4o"}',
        b'{"anchor_model":"/gpt-4o"}',
        b'{"anchor_model":"openai/"}',
        b'{"model_name":"openai/gpt-4o"}',
        b'{"anchor_model":"p/a","switches":' + b"9" * 5000 + b"}",
    ],
)
def test_value_without_model_is_not_a_binding(value: bytes) -> None:
    """Reading it returns None."""
    assert plano_format.read_binding(value) is None


def test_value_needs_only_a_model() -> None:
    """Missing keys have defaults, unknown ones are ignored."""
    assert read({"anchor_model": "p/a", "logical_expires_at": 5, "x": [1]}) == BARE


@pytest.mark.parametrize(
    "found",
    [
        {"route_name": 5, "default_model": [], "requested_model": {}, "prefix_hash": "abc"},
        {"route_name": "x\r\nset-cookie: a", "prefix_hash": True, "default_model": ""},
        {"last_used": "now", "cached_tokens": -1, "switches": None, "prefix_hash": -1},
        {"last_used": True, "cached_tokens": float("nan"), "switches": float("inf")},
        {"baseline_usd": float("inf"), "switch_spend_usd": "1", "session_cost_usd": 10**400},
        {"cached_tokens": 2**64, "prefix_hash": 2**64},
        {"history": {"model": "a/b"}},
        {"history": [None, "a/b", {}, {"model": 5}, {"model": ""}]},
    ],
)
def test_invalid_value_counts_as_missing(found: dict[str, Any]) -> None:
    """It affects only its own key."""
    assert read({"anchor_model": "p/a", **found}) == BARE


def test_history_is_bounded() -> None:
    """The last eight visits by time are read, the newest last, and written."""
    visits = [{"model": f"p/{n}", "last_used": n, "cached_tokens": n} for n in (9, *range(9))]
    binding = read({"anchor_model": "p/a", "history": visits})
    assert binding is not None
    assert [visit.model for visit in binding.spend.history] == [f"p/{n}" for n in range(2, 10)]
    many = Spend(history=tuple(Visit("p/a", float(n)) for n in range(20)))
    assert [
        visit["last_used"] for visit in written(Binding(BARE.model, spend=many))["history"]
    ] == [*range(12, 20)]


def test_any_binding_is_written_for_plano() -> None:
    """Plano can read the value for any content."""
    odd = Binding(
        BARE.model,
        lane="half \ud800",
        last_used=-1.5,
        prefix_hash="not of 64 bits",
        cached_tokens=-1,
        spend=Spend(baseline_usd=float("nan"), session_cost_usd=float("inf"), switches=2**40),
    )
    value = written(odd)
    assert (value["requested_model"], value["last_used"], value["prefix_hash"]) == (
        "half ?",
        0,
        None,
    )
    assert (value["baseline_usd"], value["session_cost_usd"], value["switches"]) == (
        0.0,
        0.0,
        2**32 - 1,
    )
