"""Orders the endpoints of a model that has several, in proportion to their weights.

Requests of one conversation begin at the same endpoint, which has its prompt in a cache; others
take turns. An endpoint of weight 0 is a spare: it comes after all others of its model.
"""

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import count
from typing import Final, TypeAlias

from serve_app.domain import ModelRef
from serve_app.providers.endpoints import Endpoint, ProviderTable

EndpointTest: TypeAlias = Callable[[ModelRef, int], bool]
"""A property of a model's endpoint, at the moment of the call."""

MAX_TURNS: Final = 4096
"""Models that are counted before all begin again."""
_DIGEST_BITS: Final = 64
_FRACTION_BITS: Final = 52


def never(candidate: ModelRef, endpoint: int) -> bool:
    """False for every endpoint."""
    del candidate, endpoint
    return False


def by_affinity(home: str, endpoints: Sequence[Endpoint]) -> tuple[int, ...]:
    """The ordinals of endpoints in the order of a conversation, which all its requests share.

    Weighted rendezvous hashing: every process has the same order, the share of the conversations
    that begin at an endpoint is its share of the weights, and an endpoint that is added, removed or
    weighted anew moves only the conversations whose share that changes. ``home`` names the
    conversation.
    """

    def rank(ordinal: int) -> tuple[float, bytes]:
        endpoint = endpoints[ordinal]
        name = f"{home}\0{endpoint.fingerprint}"
        digest = blake2b(name.encode("utf-8", "replace"), digest_size=_DIGEST_BITS // 8).digest()
        # 52 bits and a half: a float between 0 and 1, never 1, whose logarithm would be 0
        drawn = (int.from_bytes(digest) >> _DIGEST_BITS - _FRACTION_BITS) + 0.5
        return -endpoint.weight / math.log(drawn / 2**_FRACTION_BITS), digest

    return tuple(sorted(range(len(endpoints)), key=rank, reverse=True))


class _Turns:
    """Smooth weighted round robin over the endpoints of a model.

    Of as many requests as the sum of the weights, each endpoint begins exactly its weight, and its
    turns are spread; one that rests leaves its turns to the others, in proportion to their weights.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints
        self._weighted = [place for place, one in enumerate(endpoints) if one.weight > 0]
        self._spares = [place for place, one in enumerate(endpoints) if one.weight <= 0]
        self._credits = [0.0] * len(endpoints)
        self._spare_turns = count()

    def next(self, rests: Callable[[int], bool]) -> tuple[int, ...]:
        """The ordinals of the endpoints for the next request."""
        turning = [place for place in self._weighted if not rests(place)] or self._weighted
        total = 0.0
        for place in turning:
            weight = self.endpoints[place].weight
            self._credits[place] += weight
            total += weight
        # sorting is stable: of equal credits, the first of the file comes first
        order = sorted(self._weighted, key=lambda place: -self._credits[place])
        if turning:
            first = max(turning, key=self._credits.__getitem__)
            order.remove(first)
            order.insert(0, first)
            self._credits[first] -= total
        return (*order, *self._in_turn())

    def _in_turn(self) -> Sequence[int]:
        """The spares, each of which comes first in its turn."""
        if not self._spares:
            return ()
        start = next(self._spare_turns) % len(self._spares)
        return self._spares[start:] + self._spares[:start]


class EndpointOrder:
    """Keeps whose turn it is at each model with several endpoints."""

    def __init__(self) -> None:
        self._turns: dict[ModelRef | str, _Turns] = {}

    def order(
        self,
        providers: ProviderTable,
        candidate: ModelRef,
        home: Callable[[], str | None],
        rests: EndpointTest = never,
    ) -> tuple[int, ...]:
        """The ordinals of a candidate's endpoints, in the order for this request.

        ``home`` names its conversation, and is called only where there are several endpoints.
        """
        endpoints = providers.endpoints_of(candidate)
        if len(endpoints) <= 1:
            return (0,)
        conversation = home()
        if conversation is not None:
            return by_affinity(conversation, endpoints)
        # names below a wildcard share their turns: there is no limit to their number
        key = candidate if candidate in providers.of_models else candidate.provider
        turns = self._turns.get(key)
        if turns is None or turns.endpoints is not endpoints:  # new, or configured anew
            if len(self._turns) >= MAX_TURNS:
                self._turns.clear()
            turns = self._turns[key] = _Turns(endpoints)
        return turns.next(lambda ordinal: rests(candidate, ordinal))
