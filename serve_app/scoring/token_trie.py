"""Which of a few known answers a language model would give, from the odds of single tokens.

The answers, as token ids, share their beginnings, so they make a tree. Only where it branches has
the model a choice; everything else is forced. What the model thinks of each branch there says how
likely each answer is, exactly as if the model had been held to the answers token by token, and
all the branches can be asked about at once.
"""

import math
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Tokens: TypeAlias = tuple[int, ...]

MAX_CHILDREN: Final = 128
"""Tokens whose odds an engine tells for one request; vLLM's own limit."""


@dataclass(frozen=True, slots=True)
class Ask:
    """How likely is each of these tokens after this prefix?"""

    prefix: Tokens
    """From the beginning of the answer."""
    children: Tokens


@dataclass(frozen=True, slots=True)
class Node:
    """A place where answers part."""

    prefix: Tokens
    """All tokens of the answer up to here, forced ones included."""
    children: Tokens
    """At least two, in ascending order."""

    def asks(self, limit: int = MAX_CHILDREN) -> tuple[Ask, ...]:
        """What to ask about this node, at most ``limit`` tokens at a time."""
        return tuple(
            Ask(self.prefix, self.children[start : start + limit])
            for start in range(0, len(self.children), limit)
        )


@dataclass(frozen=True, slots=True)
class TrieOutcome:
    """What the odds come to."""

    probabilities: tuple[float, ...]
    """Of the answers in the order they were given; their sum is 1."""
    off_schema: float
    """How likely the model, left to itself, would have said something else.

    That is its chance to leave the answers at any node on its way, given that it says what is
    forced. 0 where it is sure to give one of the answers, 1 where it never would.
    """


class Trie:
    """The tree of the answers."""

    def __init__(
        self, forced: Tokens, after: Mapping[Tokens, Node], ends: Mapping[Tokens, Tokens]
    ) -> None:
        self.forced = forced
        """What all answers begin with."""
        self.nodes = tuple(after.values())
        """Where answers part; each stands after those on the way to it."""
        self._after = after
        """The node that follows a path; a path ends in a node's child, or is empty."""
        self._ends = ends
        """The answers that a path decides for: one, or several equal ones."""
        self._size = sum(map(len, ends.values()))

    @property
    def depth(self) -> int:
        """How many tokens after the forced ones decide at most; 0 where there is no choice."""
        return max(map(len, self._ends)) - len(self.forced) if self.nodes else 0

    def answer(self, path: Tokens) -> int | None:
        """The place of the answer that these tokens have decided for, the first of equal ones.

        None where they have not, or belong to no answer.
        """
        ends = (self._ends.get(path[:length]) for length in range(len(path) + 1))
        return next((places[0] for places in ends if places is not None), None)

    def likelihood(self, place: int, odds: Mapping[Tokens, Mapping[int, float]]) -> float:
        """How likely an answer is, by the odds at the nodes on its way, each under its prefix.

        They may be over any vocabulary that has the node's children: as in ``score`` only these
        count, relative to one another. Raises ValueError when the odds of a child are missing.
        """
        path, equal = next((path, ends) for path, ends in self._ends.items() if place in ends)
        likely = 1.0 / len(equal)
        for node in self.nodes:
            length = len(node.prefix)
            if length < len(path) and path[:length] == node.prefix:
                shares, _ = _shares(_of_children(node, odds.get(node.prefix, {})))
                likely *= dict(zip(node.children, shares, strict=True))[path[length]]
        return likely

    def asks(self, limit: int = MAX_CHILDREN) -> tuple[Ask, ...]:
        """All that ``score`` needs, at most ``limit`` tokens at a time."""
        return tuple(ask for node in self.nodes for ask in node.asks(limit))

    def score(self, logprobs: Mapping[Ask, Mapping[int, float]]) -> TrieOutcome:
        """How likely each answer is, given what was said to ``asks``, whatever their limit was.

        The log-probabilities are over the whole vocabulary. Of each node only the children
        count, relative to one another; equal answers share alike. Where no child has any chance
        at all, all have the same, and the model is taken to leave the answers there.
        Raises ValueError when the odds of a child are missing.
        """
        odds: dict[Tokens, dict[int, float]] = {}
        for ask, said in logprobs.items():
            odds.setdefault(ask.prefix, {}).update(said)
        probabilities = [0.0] * self._size
        left = 0.0
        reached: dict[Tokens, tuple[float, float]] = {(): (1.0, 1.0)}
        for path, node in self._after.items():
            likely, free = reached.pop(path)
            shares, mass = _shares(_of_children(node, odds.get(node.prefix, {})))
            left += free * (1.0 - mass)
            for child, share in zip(node.children, shares, strict=True):
                reached[*node.prefix, child] = (likely * share, free * mass * share)
        for path, (likely, _) in reached.items():
            equal = self._ends[path]
            for answer in equal:
                probabilities[answer] = likely / len(equal)
        return TrieOutcome(tuple(probabilities), min(max(left, 0.0), 1.0))

    def walk(self, limit: int = MAX_CHILDREN) -> Generator[Ask, Mapping[int, float], int]:
        """Asks about one node after the other, each time going to the likeliest child.

        It is sent the log-probabilities of what it asked for, and returns the place of the
        answer: the same as greedy decoding that is held to the answers. Of equally likely
        tokens the lowest is taken, as decoders do; of equal answers the first.
        Raises ValueError when the odds of a child are missing.
        """
        path: Tokens = ()
        while path in self._after:
            node = self._after[path]
            said: dict[int, float] = {}
            for ask in node.asks(limit):
                said.update((yield ask))
            odds = _of_children(node, said)
            path = (*node.prefix, node.children[odds.index(max(odds))])
        return self._ends[path][0]


def build_trie(answers: Sequence[Tokens]) -> Trie:
    """The tree of these answers, each the token ids of a whole answer, its end included.

    Equal answers are allowed. Raises ValueError for no answers, for an empty one, and for one
    that another one begins with: a model can't be asked which of the two it means.
    """
    if not answers or not all(answers):
        raise ValueError("a trie needs at least one answer, and of each at least one token")
    after: dict[Tokens, Node] = {}
    ends: dict[Tokens, Tokens] = {}
    waiting: deque[tuple[Tokens, Tokens]] = deque([((), tuple(range(len(answers))))])
    while waiting:
        path, group = waiting.popleft()
        shared = _shared_prefix([answers[index] for index in group])
        if all(len(answers[index]) == len(shared) for index in group):
            ends[path] = group
            continue
        children: dict[int, list[int]] = {}
        for index in group:
            if len(answers[index]) == len(shared):
                raise ValueError(f"another answer begins with the whole of answer {index}")
            children.setdefault(answers[index][len(shared)], []).append(index)
        node = Node(shared, tuple(sorted(children)))
        after[path] = node
        waiting.extend(((*shared, child), tuple(children[child])) for child in node.children)
    return Trie(_shared_prefix(answers), after, ends)


def _shared_prefix(answers: Sequence[Tokens]) -> Tokens:
    first, last = min(answers), max(answers)  # what these two share, all between them do
    for place, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return first[:place]
    return first


def _of_children(node: Node, said: Mapping[int, float]) -> list[float]:
    """The log-probabilities of a node's children; no number at all is no chance."""
    missing = [child for child in node.children if child not in said]
    if missing:
        raise ValueError(f"nothing was said about tokens {missing} after {node.prefix}")
    return [_at_most_certain(said[child]) for child in node.children]


def _at_most_certain(logprob: float) -> float:
    return -math.inf if math.isnan(logprob) else min(logprob, 0.0)


def _shares(odds: Sequence[float]) -> tuple[Iterable[float], float]:
    """What each child has of its node, of 1 in all; and what all have of the vocabulary."""
    best = max(odds)
    if best == -math.inf:
        return [1.0 / len(odds)] * len(odds), 0.0
    weights = [math.exp(value - best) for value in odds]
    total = math.fsum(weights)
    return [weight / total for weight in weights], min(math.exp(best) * total, 1.0)
