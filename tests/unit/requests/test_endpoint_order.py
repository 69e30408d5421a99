"""The order in which the endpoints of a model are tried: by conversation, or in turn, by weight."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from serve_app.domain import DataPath, ModelRef
from serve_app.providers.endpoints import Endpoint, ProviderTable
from serve_app.requests import endpoint_order
from serve_app.requests.endpoint_order import EndpointOrder, by_affinity, never
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of
from tests.unit.requests.test_gateway_endpoints import Asker

M = ModelRef("p", "m")


def endpoints(weights: Sequence[float], names: str = "ABCDEFGH") -> list[Endpoint]:
    """Endpoints with keys of their own."""
    return [
        Endpoint(
            *("openai", "openai", "https://h", DataPath.SHARED, f"${name}"),
            key_needed=True,
            weight=weight,
        )
        for weight, name in zip(weights, names, strict=False)
    ]


def table(weights: Sequence[float]) -> ProviderTable:
    return ProviderTable({M: tuple(endpoints(weights))}, {})


def firsts(weights: Sequence[float], requests: int, resting: Sequence[int] = ()) -> str:
    """The endpoints at which requests without a conversation begin."""
    order, providers = EndpointOrder(), table(weights)
    orders = [
        order.order(providers, M, lambda: None, lambda _, place: place in resting)
        for _ in range(requests)
    ]
    assert all(sorted(one) == list(range(len(weights))) for one in orders)
    return "".join(str(one[0]) for one in orders)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1, 1), "0101"),
        ((1, 1, 1), "012012"),
        ((2.5, 2.5), "0101"),
        ((3, 1), "00100010"),
        ((5, 1, 1), "00102000010200"),
        ((0.5, 0.25, 0.25), "01200120"),
        ((1, 0), "0000"),
        ((0, 2, 1, 0), "121121"),
        ((0, 0), "0101"),
        ((0, 0, 0), "012012"),
    ],
)
def test_endpoints_take_turns_by_weight(weights: Sequence[float], expected: str) -> None:
    """Each begins as often as its weight says, spread over time; spares share alone if there are no others."""
    assert firsts(weights, len(expected)) == expected


@pytest.mark.parametrize("weights", [(7, 3), (1, 2, 3, 4), (90, 9, 1), (13, 11, 7, 5, 3)])
def test_turns_are_exactly_in_proportion(weights: Sequence[int]) -> None:
    """Of any window as long as the sum of the weights, each endpoint begins exactly its weight."""
    total = sum(weights)
    made = firsts(weights, 4 * total)
    for start in range(3 * total):
        counted = Counter(made[start : start + total])
        assert [counted[str(place)] for place in range(len(weights))] == list(weights)


def test_turns_of_a_heavy_endpoint_are_spread() -> None:
    """The lighter ones do not come in a row."""
    made = firsts((4, 1, 1), 60)
    assert all("0" in pair for pair in pairwise(made))


def test_resting_endpoint_leaves_its_turns_in_proportion() -> None:
    """The others share what it would have begun by their weights, and it catches up on nothing."""
    assert Counter(firsts((6, 2, 1), 300, resting=[0])) == {"1": 200, "2": 100}
    assert Counter(firsts((6, 2, 1), 90, resting=[0, 1, 2])) == {"0": 60, "1": 20, "2": 10}
    order, providers = EndpointOrder(), table((1, 1, 1))
    for _ in range(50):
        order.order(providers, M, lambda: None, lambda _, place: place == 0)
    back = Counter(order.order(providers, M, lambda: None)[0] for _ in range(30))
    assert back == {0: 10, 1: 10, 2: 10}


def test_spares_come_last() -> None:
    """A spare is behind every other endpoint of its model, in turn and by conversation."""
    order, providers = EndpointOrder(), table((0, 1, 0, 3))
    in_turn = [order.order(providers, M, lambda: None) for _ in range(4)]
    assert {frozenset(one[2:]) for one in in_turn} == {frozenset({0, 2})}
    assert [one[2] for one in in_turn] == [0, 2, 0, 2]
    for number in range(50):
        assert set(by_affinity(str(number), endpoints((0, 1, 0, 3)))[2:]) == {0, 2}


def test_new_configuration_begins_turns_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of a request's own configuration count, and what is kept for models is bounded."""
    order = EndpointOrder()
    assert order.order(table((1, 5)), M, lambda: None)[0] == 1
    assert order.order(table((5, 1)), M, lambda: None)[0] == 0
    monkeypatch.setattr(endpoint_order, "MAX_TURNS", 3)
    names = [ModelRef("p", str(number)) for number in range(50)]
    for name in names:
        providers = ProviderTable({name: tuple(endpoints((1, 1)))}, {})
        order.order(providers, name, lambda: None)
        assert len(order._turns) <= 3


def test_conversation_has_one_order_of_endpoints() -> None:
    """It does not depend on the order of the file, and conversations are spread evenly."""
    some = endpoints((1, 1, 1))
    for number in range(20):
        order = by_affinity(str(number), some)
        assert sorted(order) == [0, 1, 2]
        turned = by_affinity(str(number), some[1:] + some[:1])
        assert [(place + 1) % 3 for place in turned] == list(order)
    begun = Counter(by_affinity(str(number), some)[0] for number in range(3000))
    assert all(900 <= count <= 1100 for count in begun.values())


@pytest.mark.parametrize("weights", [(1, 1, 2), (8, 1, 1), (0.1, 0.3), (5, 0, 5)])
def test_conversations_are_spread_by_weight(weights: Sequence[float]) -> None:
    """The share of the conversations that begin at an endpoint is its share of the weights."""
    some, total = endpoints(weights), 4000
    begun = Counter(by_affinity(f"chat-{number}", some)[0] for number in range(total))
    for place, weight in enumerate(weights):
        expected = total * weight / sum(weights)
        assert abs(begun[place] - expected) <= 4 * expected**0.5  # four standard deviations


def test_added_endpoint_moves_only_its_share() -> None:
    """A conversation stays where it is or begins at the new endpoint; the rest of its order stays."""
    some, more = endpoints((1, 1, 4)), endpoints((1, 1, 4, 2))
    moved = 0
    for number in range(1000):
        before, after = by_affinity(str(number), some), by_affinity(str(number), more)
        assert [place for place in after if place != 3] == list(before)
        moved += after[0] == 3
    assert 200 <= moved <= 300


def test_raised_weight_only_draws_conversations_to_its_endpoint() -> None:
    """No conversation moves between the others."""
    some, more = endpoints((1, 1, 1)), endpoints((1, 1, 2))
    moves = {
        (by_affinity(str(number), some)[0], by_affinity(str(number), more)[0])
        for number in range(1000)
    }
    assert {move for move in moves if move[0] != move[1]} == {(0, 2), (1, 2)}


def test_single_endpoint_needs_no_order() -> None:
    """A model with one endpoint, or none, asks for no conversation and keeps nothing."""

    def home() -> str:
        raise AssertionError("the conversation was read")

    order = EndpointOrder()
    assert order.order(table((0,)), M, home) == (0,)
    assert order.order(table(()), M, home, never) == (0,)


async def test_weights_of_the_configuration_count(tmp_path: Path) -> None:
    """Requests go to the entries in proportion; those of a wildcard take turns together."""
    text = f"""{V}
model_providers:
  - {{model: openai/a, access_key: $A, weight: 3}}
  - {{model: openai/a, access_key: $B}}
  - {{model: openai/a, access_key: $C, weight: 0}}
  - {{model: vllm/*, base_url: "http://h:1"}}
  - {{model: vllm/*, base_url: "http://h:2", weight: 2}}
"""
    asker = Asker(snapshot_of(tmp_path, text))
    for _ in range(4):
        await asker.ask(model="openai/a")
    for name in "abcabc":
        await asker.ask(model=f"vllm/{name}")
    assert asker.upstream.tried == "a0 a0 a1 a0 a1 b0 c1 a1 b0 c1"
