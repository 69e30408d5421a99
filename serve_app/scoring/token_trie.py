"""The probabilities of a few allowed answers, from the log-probabilities of single tokens.

The answers, as token ids, share beginnings, so they form a tree. The model has a choice only where
it branches; all other tokens are forced. The probabilities of the branches give the probability of
each answer, exactly as in decoding that is constrained to the answers, and the log-probabilities of
all branches can be requested at once.
"""

import math
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Tokens: TypeAlias = tuple[int, ...]

MAX_CHILDREN: Final = 128
"""Number of tokens whose log-probabilities a request returns; a limit of vLLM."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for the log-probabilities of tokens after a prefix."""

    prefix: Tokens
    """The tokens from the beginning of the answer."""
    children: Tokens


@dataclass(frozen=True, slots=True)
class Node:
    """A prefix after which answers branch."""

    prefix: Tokens
    """All tokens of the answers up to here, including forced ones."""
    children: Tokens
    """At least two, in ascending order."""

    def asks(self, limit: int = MAX_CHILDREN) -> tuple[Ask, ...]:
        """The requests for this node, at most ``limit`` tokens each."""
        return tuple(
            Ask(self.prefix, self.children[start : start + limit])
            for start in range(0, len(self.children), limit)
        )


@dataclass(frozen=True, slots=True)
class TrieOutcome:
    """The probabilities of the answers."""

    probabilities: tuple[float, ...]
    """One for each answer, in their order; the sum is 1."""
    off_schema: float
    """The probability that the model, without constraints, would generate something else.

    That is its probability to leave the answers at any node on its way, provided that it generates
    the forced tokens: 0 if it always generates one of the answers, 1 if it never does.
    """


class Trie:
    """The tree of the answers."""

    def __init__(
        self, forced: Tokens, after: Mapping[Tokens, Node], ends: Mapping[Tokens, Tokens]
    ) -> None:
        self.forced = forced
        """The common beginning of all answers."""
        self.nodes = tuple(after.values())
        """All nodes; each comes after those on the way to it."""
        self._after = after
        """The node that follows a path; a path ends in a node's child, or is empty."""
        self._ends = ends
        """The answers that a path selects: one, or several equal ones."""
        self._size = sum(map(len, ends.values()))

    @property
    def depth(self) -> int:
        """Maximum number of tokens after the forced ones that select an answer; 0 without a choice."""
        return max(map(len, self._ends)) - len(self.forced) if self.nodes else 0

    def answer(self, path: Tokens) -> int | None:
        """The index of the answer that these tokens select, the first of equal ones.

        Returns None if they do not select one.
        """
        ends = (self._ends.get(path[:length]) for length in range(len(path) + 1))
        return next((indexes[0] for indexes in ends if indexes is not None), None)

    def likelihood(self, index: int, odds: Mapping[Tokens, Mapping[int, float]]) -> float:
        """The probability of an answer, from the log-probabilities at its nodes, by prefix.

        They may be over any vocabulary that has the node's children: as in ``score``, only these
        count, relative to one another. Raises ValueError if the one of a child is missing.
        """
        path, equal = next((path, ends) for path, ends in self._ends.items() if index in ends)
        probability = 1.0 / len(equal)
        for node in self.nodes:
            length = len(node.prefix)
            if length < len(path) and path[:length] == node.prefix:
                shares, _ = _shares(_of_children(node, odds.get(node.prefix, {})))
                probability *= dict(zip(node.children, shares, strict=True))[path[length]]
        return probability

    def asks(self, limit: int = MAX_CHILDREN) -> tuple[Ask, ...]:
        """The requests that ``score`` needs, at most ``limit`` tokens each."""
        return tuple(ask for node in self.nodes for ask in node.asks(limit))

    def score(self, logprobs: Mapping[Ask, Mapping[int, float]]) -> TrieOutcome:
        """The probability of each answer, from the results of ``asks``, for any limit.

        The log-probabilities are over the whole vocabulary. Of each node only the children
        count, relative to one another; equal answers have equal shares. If all children have
        probability 0, they have equal shares, and the model is assumed to leave the answers there.
        Raises ValueError if the log-probability of a child is missing.
        """
        odds: dict[Tokens, dict[int, float]] = {}
        for ask, values in logprobs.items():
            odds.setdefault(ask.prefix, {}).update(values)
        probabilities = [0.0] * self._size
        left = 0.0
        reached: dict[Tokens, tuple[float, float]] = {(): (1.0, 1.0)}
        for path, node in self._after.items():
            probability, free = reached.pop(path)
            shares, mass = _shares(_of_children(node, odds.get(node.prefix, {})))
            left += free * (1.0 - mass)
            for child, share in zip(node.children, shares, strict=True):
                reached[*node.prefix, child] = (probability * share, free * mass * share)
        for path, (probability, _) in reached.items():
            equal = self._ends[path]
            for answer in equal:
                probabilities[answer] = probability / len(equal)
        return TrieOutcome(tuple(probabilities), min(max(left, 0.0), 1.0))

    def walk(self, limit: int = MAX_CHILDREN) -> Generator[Ask, Mapping[int, float], int]:
        """Requests one node after the other, each time the likeliest child of the last one.

        It is sent the log-probabilities that it requested, and returns the index of the answer:
        the same as greedy decoding that is constrained to the answers. Of equally likely tokens
        it selects the lowest, as decoders do; of equal answers the first.
        Raises ValueError if the log-probability of a child is missing.
        """
        path: Tokens = ()
        while path in self._after:
            node = self._after[path]
            logprobs: dict[int, float] = {}
            for ask in node.asks(limit):
                logprobs.update((yield ask))
            odds = _of_children(node, logprobs)
            path = (*node.prefix, node.children[odds.index(max(odds))])
        return self._ends[path][0]


def build_trie(answers: Sequence[Tokens]) -> Trie:
    """The tree of these answers, each the token ids of a whole answer including its end.

    Equal answers are allowed. Raises ValueError for no answers, for an empty one, and for one that
    is the beginning of another one, because the model could not choose between the two.
    """
    if not answers or not all(answers):
        raise ValueError("a trie needs at least one answer, and each answer at least one token")
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
                raise ValueError(f"answer {index} is the beginning of another one")
            children.setdefault(answers[index][len(shared)], []).append(index)
        node = Node(shared, tuple(sorted(children)))
        after[path] = node
        waiting.extend(((*shared, child), tuple(children[child])) for child in node.children)
    return Trie(_shared_prefix(answers), after, ends)


def _shared_prefix(answers: Sequence[Tokens]) -> Tokens:
    first, last = min(answers), max(answers)  # all others share what these two share
    for index, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return first[:index]
    return first


def _of_children(node: Node, logprobs: Mapping[int, float]) -> list[float]:
    """The log-probabilities of a node's children; NaN counts as probability 0."""
    missing = [child for child in node.children if child not in logprobs]
    if missing:
        raise ValueError(f"no log-probability of tokens {missing} after {node.prefix}")
    return [_at_most_zero(logprobs[child]) for child in node.children]


def _at_most_zero(logprob: float) -> float:
    return -math.inf if math.isnan(logprob) else min(logprob, 0.0)


def _shares(odds: Sequence[float]) -> tuple[Iterable[float], float]:
    """The share of each child in its node, and the probability of all of them together."""
    best = max(odds)
    if best == -math.inf:
        return [1.0 / len(odds)] * len(odds), 0.0
    weights = [math.exp(value - best) for value in odds]
    total = math.fsum(weights)
    return [weight / total for weight in weights], min(math.exp(best) * total, 1.0)
