"""Examples that a chat model writes: what it is asked, what its answers contain, what is kept.

No I/O: the caller sends the prompts of ``batches`` and passes the answers to ``take``.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from serve_app.config.schema.routes import MAX_EXAMPLES
from serve_app.domain import Route
from serve_app.evaluation.example_prompt import NO_ROUTE_KEY, no_route_prompt, route_prompt

MAX_CHARACTERS: Final = 500
"""Maximum length of an example; longer ones are dropped."""

ENOUGH: Final = 3
"""Number of examples from which a route counts as complete although the model wrote fewer."""

_MAX_NAMED: Final = 6
_ANSWER_TOKENS: Final = 3000
_TOKENS_PER_EXAMPLE: Final = 35
"""Of 12 messages about 27 on average in English, more in other scripts."""

Target: TypeAlias = str | None
"""The name of a route; None means "no route"."""

_STRING: Final = r'"(?:[^"\\]|\\.)*+"'
_ENTRY: Final = re.compile(rf"({_STRING})\s*+:\s*+\[", re.DOTALL)
_ITEM: Final = re.compile(rf"[\s,]*+({_STRING})", re.DOTALL)
_BARE: Final = re.compile(r'\[(?=\s*+")')
_NEEDLESS: Final = re.compile(r"(\\\\)|\\(?![\"\\/bfnrtu])")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_ENDS: Final = " .!?…\u3002\uff01\uff1f"


class UnreadableExamplesError(Exception):
    """Raised for an answer without a list of messages."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request asks for."""

    prompt: str
    wanted: Mapping[Target, int]
    """How many messages of each route, or of "no route" alone."""

    @property
    def name(self) -> str:
        """The routes in words, the first ones of many."""
        return names_of(self.wanted)


class Suggestions:
    """Collects examples of all routes and of "no route"."""

    def __init__(
        self,
        routes: Sequence[Route],
        no_route: Sequence[str],
        wanted: Mapping[Target, int],
        languages: Sequence[str],
    ) -> None:
        """``wanted``: how many messages of each route, by name, and of None are asked for."""
        self._routes = routes
        self._languages = languages
        self._existing: dict[Target, tuple[str, ...]] = {r.name: r.examples for r in routes}
        self._existing[None] = tuple(no_route)
        self._wanted = {target: count for target, count in wanted.items() if count > 0}
        self._received: dict[Target, list[str]] = {target: [] for target in self._wanted}

    def batches(self) -> list[Batch]:
        """The requests for what is lacking: small enough for one answer, "no route" alone."""
        lacking, new = self.lacking(), self.new()
        written = {t: (*self._existing.get(t, ()), *new.get(t, ())) for t in self._wanted}
        asked = []
        for counts in _packed({name: n for name, n in lacking.items() if name is not None}):
            own = {name: written[name] for name in counts}
            prompt = route_prompt(self._routes, counts, own, self._languages)
            asked.append(Batch(prompt, dict[Target, int](counts.items())))
        if None in lacking:
            count = lacking[None]
            prompt = no_route_prompt(self._routes, count, written[None], self._languages)
            asked.append(Batch(prompt, {None: count}))
        return asked

    def take(self, batch: Batch, answer: str) -> int:
        """Takes the messages in an answer; returns how many usable ones they add to the batch.

        Raises UnreadableExamplesError if the answer has no list for a route of the batch.
        """
        before = self._usable(batch)
        lists = read_lists(answer, batch.wanted)
        if not lists:
            raise UnreadableExamplesError
        for target, texts in lists:
            self._received[target] += [text for text in map(clean, texts) if text]
        return self._usable(batch) - before

    def new(self) -> dict[Target, tuple[str, ...]]:
        """The new examples to keep: none that exists already or occurs under two routes."""
        targets: dict[str, set[Target]] = {}
        for target, texts in self._received.items():
            for text in texts:
                targets.setdefault(_key(text), set()).add(target)
        taken = {_key(text) for texts in self._existing.values() for text in texts}
        kept = {}
        for target, texts in self._received.items():
            unique = {_key(text): text for text in reversed(texts)}
            usable = [
                unique[key]
                for key in dict.fromkeys(map(_key, texts))
                if key not in taken and len(targets[key]) == 1
            ]
            kept[target] = tuple(usable[: self._wanted[target]])
        return {target: texts for target, texts in kept.items() if texts}

    def lacking(self) -> dict[Target, int]:
        """How many messages are still missing, by route; empty if there are enough."""
        new = self.new()
        counts = {t: count - len(new.get(t, ())) for t, count in self._wanted.items()}
        return {target: count for target, count in counts.items() if count > 0}

    def incomplete(self) -> list[Target]:
        """The routes that have too few examples to be used, existing ones included."""
        new = self.new()
        return [
            target
            for target, count in self.lacking().items()
            if len(self._existing[target]) + len(new.get(target, ()))
            < min(ENOUGH, len(self._existing[target]) + self._wanted[target])
        ]

    def _usable(self, batch: Batch) -> int:
        new = self.new()
        return sum(len(new.get(target, ())) for target in batch.wanted)


def _packed(counts: Mapping[str, int]) -> list[dict[str, int]]:
    """The routes with their numbers of messages, as many together as fit into one answer."""
    packed: list[dict[str, int]] = []
    room = 0
    for name, count in counts.items():
        if count > room:
            packed.append({})
            room = _ANSWER_TOKENS // _TOKENS_PER_EXAMPLE
        packed[-1][name] = count
        room -= count
    return packed


def names_of(targets: Collection[Target]) -> str:
    """Routes in words, the first ones of many."""
    names = [NO_ROUTE_KEY if target is None else target for target in targets]
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def wanted_counts(
    routes: Iterable[Route], no_route: Sequence[str], count: int, *, more: bool
) -> dict[Target, int]:
    """How many messages to ask for: up to ``count`` of each route, or as many in addition.

    "No route" is everything else, so it gets twice as many.
    """
    existing: dict[Target, int] = {route.name: len(route.examples) for route in routes}
    existing[None] = len(no_route)
    counts = {}
    for target, there in existing.items():
        goal = min(count if target is not None else 2 * count, MAX_EXAMPLES)
        counts[target] = min(goal, MAX_EXAMPLES - there) if more else goal - there
    return {target: number for target, number in counts.items() if number > 0}


def clean(text: str) -> str:
    """A message on one line without control characters; empty if it cannot be an example."""
    text = " ".join(_UNPRINTABLE.sub(" ", text).split())
    return text if len(text) <= MAX_CHARACTERS else ""


def _key(text: str) -> str:
    """Equal for messages that differ in case, spaces or the mark at their end only."""
    return " ".join(text.casefold().split()).rstrip(_ENDS)


def read_lists(answer: str, targets: Iterable[Target]) -> list[tuple[Target, list[str]]]:
    """The lists of strings in an answer, each with its route.

    Code fences, words around the object, and objects around it are allowed. An answer that was cut
    off keeps its whole strings. A name may differ in case and in its separators. Where one list is
    asked for, a list without a known name is that one.
    """
    wanted = list(targets)
    exact = {NO_ROUTE_KEY if target is None else target: target for target in wanted}
    folded = {_folded(name): target for name, target in exact.items()}
    lists = []
    position = 0
    while (match := _ENTRY.search(answer, position)) is not None:
        texts, position = _strings(answer, match.end())
        name = _decoded(match[1])
        if name in exact or _folded(name) in folded:
            lists.append((exact.get(name, folded[_folded(name)]), texts))
    if lists or len(wanted) != 1:
        return lists
    bare = _BARE.search(answer)
    return [] if bare is None else [(wanted[0], _strings(answer, bare.end())[0])]


def _strings(answer: str, position: int) -> tuple[list[str], int]:
    """The strings of a list from the position after its bracket, and the position after them."""
    texts = []
    while (match := _ITEM.match(answer, position)) is not None:
        texts.append(_decoded(match[1]))
        position = match.end()
    return texts, position


def _decoded(quoted: str) -> str:
    """The text of a JSON string; a needless backslash is dropped, any other fault empties it."""
    try:
        text = json.loads(_NEEDLESS.sub(r"\1", quoted), strict=False)
    except ValueError:
        return ""
    return str(text)


def _folded(name: str) -> str:
    return " ".join(re.split(r"[\s_.-]+", name.casefold()))
