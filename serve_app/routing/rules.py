"""Rules: decisions by what a request shows outside of its conversation.

A rule reads headers, the requested name and the size of the body, so it takes microseconds and
does no I/O. compiled_rules.py makes rules of a configuration.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

from serve_app.domain import AUTO, AUTO_NAMES, ModelRef, Route

ANY: Final = "*"
"""Stands for any characters in a pattern."""


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What rules read of one request."""

    headers: Mapping[str, str]
    """By lower-case name: values that are not empty, in folded letter case."""
    name: str
    """The name that the request asks for; ``auto`` if it asks for none."""
    body_bytes: int

    @classmethod
    def of(cls, headers: Mapping[str, str], name: str, body_bytes: int) -> Self:
        """The facts of a request with these headers, by their lower-case names."""
        folded = ((key, value.strip().casefold()) for key, value in headers.items())
        shown = {key: value for key, value in folded if value}
        return cls(shown, AUTO if name.lower() in AUTO_NAMES else name, body_bytes)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text in which ``*`` stands for any characters; letter case does not count.

    It is matched piece by piece rather than by a regular expression, whose time could grow with
    a power of the length of a header that a client sends.
    """

    first: str
    """What is before the first star, in folded letter case."""
    middle: tuple[str, ...]
    """What is between the stars."""
    last: str | None
    """What is behind the last star; None without stars."""
    text: str = field(compare=False)
    """As it is configured."""

    @classmethod
    def of(cls, text: str) -> Self:
        """The pattern that a configuration writes so."""
        first, *middle = text.strip().casefold().split(ANY)
        last = middle.pop() if middle else None
        return cls(first, tuple(middle), last, text)

    def fits(self, value: str) -> bool:
        """True if a whole value in folded letter case has this form."""
        first, last = self.first, self.last
        if last is None:
            return value == first
        if not (value.startswith(first) and value.endswith(last)):
            return False
        position, end = len(first), len(value) - len(last)
        if position > end:
            return False
        for piece in self.middle:
            position = value.find(piece, position, end)
            if position < 0:
                return False
            position += len(piece)
        return True


class Condition(Protocol):
    """One condition of a rule; equal conditions hold for the same requests."""

    def holds(self, facts: RequestFacts) -> str | None:
        """What of the request meets the condition, in words; None if nothing does."""
        ...


@dataclass(frozen=True, slots=True)
class HeaderCondition:
    """A header has one of these forms; one that is absent or empty has none of them."""

    header: str
    patterns: tuple[Pattern, ...]
    """Sorted by their texts, each once."""

    def holds(self, facts: RequestFacts) -> str | None:
        """The header with the pattern that its value fits."""
        value = facts.headers.get(self.header)
        if value is None:
            return None
        for pattern in self.patterns:
            if pattern.fits(value):
                return f"header {self.header}: {pattern.text}"
        return None


@dataclass(frozen=True, slots=True)
class NameCondition:
    """The request asks for one of these names."""

    names: frozenset[str]

    def holds(self, facts: RequestFacts) -> str | None:
        """The name that the request asks for."""
        return f"alias: {facts.name}" if facts.name in self.names else None


@dataclass(frozen=True, slots=True)
class SizeCondition:
    """The body has a size within these bounds, in bytes; None is unbounded."""

    at_least: int | None
    at_most: int | None

    def holds(self, facts: RequestFacts) -> str | None:
        """The size of the body."""
        size = facts.body_bytes
        if self.at_least is not None and size < self.at_least:
            return None
        if self.at_most is not None and size > self.at_most:
            return None
        return f"body_bytes: {size}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions, and the model or the route of the requests that meet all of them."""

    name: str
    conditions: tuple[Condition, ...]
    """At least one."""
    model: ModelRef | None = None
    """None if the rule names a route."""
    route: str | None = None
    """None if the rule names a model."""

    def match(self, facts: RequestFacts) -> tuple[str, ...] | None:
        """What of the request meets each condition, in words; None if the rule does not match."""
        met: list[str] = []
        for condition in self.conditions:
            what = condition.holds(facts)
            if what is None:
                return None
            met.append(what)
        return tuple(met)


@dataclass(frozen=True, slots=True)
class MatchedRule:
    """The rule that decides a request, and why it does."""

    rule: Rule
    models: tuple[ModelRef, ...]
    """The rule's own, or those of its route, best first."""
    matched: tuple[str, ...]
    """What of the request meets the conditions, in words."""


def first_match(
    rules: Iterable[Rule], facts: RequestFacts, routes: tuple[Route, ...]
) -> MatchedRule | None:
    """The first rule that matches. Returns None if none does.

    ``routes`` are those that apply to the request. A rule whose route is not among them is
    skipped, since a request may bring routes of its own.
    """
    for rule in rules:
        matched = rule.match(facts)
        if matched is None:
            continue
        models = (rule.model,) if rule.model is not None else _models(rule.route, routes)
        if models:
            return MatchedRule(rule, models, matched)
    return None


def _models(name: str | None, routes: tuple[Route, ...]) -> tuple[ModelRef, ...]:
    return next((route.models for route in routes if route.name == name), ())


def read_headers_of(rules: Iterable[Rule]) -> frozenset[bytes]:
    """The names of all headers that rules read, in lower case."""
    conditions = (condition for rule in rules for condition in rule.conditions)
    return frozenset(
        condition.header.encode()
        for condition in conditions
        if isinstance(condition, HeaderCondition)
    )
