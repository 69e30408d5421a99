"""Where the values of a YAML text begin and end, so that text can be inserted between them.

Unlike the nodes of yaml's composer, spots keep an alias apart from what it stands for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, cast

import yaml


@dataclass(frozen=True, slots=True)
class OtherSpot:
    """A scalar, an alias, or nothing; positions count characters of the text."""

    start: int
    end: int
    column: int
    value: str | None = None
    """None for an alias or nothing."""
    style: str | None = None
    """The quote, or ``|`` or ``>``, of a scalar."""

    @property
    def last(self) -> "OtherSpot":
        """Itself."""
        return self

    @property
    def in_block(self) -> bool:
        """True for a scalar below ``|`` or ``>``; blank lines after it belong to it."""
        return self.style in {"|", ">"}

    def below(self, _step: str | int) -> "Spot":
        """Nothing."""
        return NOWHERE


NOWHERE = OtherSpot(0, 0, 0)


@dataclass(frozen=True, slots=True)
class ListSpot:
    """A list; ``flow`` if it is in brackets."""

    start: int
    end: int
    column: int
    flow: bool
    items: "tuple[Spot, ...]"

    @property
    def last(self) -> "Spot":
        """What its text ends with: of a block the last item, in brackets the list itself."""
        return self if self.flow or not self.items else self.items[-1].last

    def below(self, step: str | int) -> "Spot":
        """The item of that index."""
        return self.items[step] if isinstance(step, int) else NOWHERE


@dataclass(frozen=True, slots=True)
class MappingSpot:
    """A mapping; ``flow`` if it is in braces."""

    start: int
    end: int
    column: int
    flow: bool
    items: "tuple[tuple[Spot, Spot], ...]"

    @property
    def last(self) -> "Spot":
        """What its text ends with: of a block the last value, in braces the mapping itself."""
        return self if self.flow or not self.items else self.items[-1][1].last

    @property
    def is_json(self) -> bool:
        """True if its keys are written as in JSON."""
        key = self.items[0][0] if self.items else NOWHERE
        return self.flow and isinstance(key, OtherSpot) and key.style == '"'

    def below(self, step: str | int) -> "Spot":
        """The value of a key."""
        return next((value for key, value in self.items if _is(key, step)), NOWHERE)

    def __contains__(self, step: str) -> bool:
        return any(_is(key, step) for key, _ in self.items)


Spot: TypeAlias = OtherSpot | ListSpot | MappingSpot


def _is(key: Spot, step: str | int) -> bool:
    return isinstance(key, OtherSpot) and key.value == step


def root_spot(text: str) -> Spot:
    """The spot of the one value of a text that yaml can read."""
    events = yaml.parse(text, yaml.SafeLoader)
    while not isinstance(next(events), yaml.DocumentStartEvent):
        pass
    return _spot(next(events), events)


def _spot(event: yaml.Event, events: Iterator[yaml.Event]) -> Spot:
    first, last = cast("yaml.Mark", event.start_mark), cast("yaml.Mark", event.end_mark)
    start, column = first.index, first.column
    if isinstance(event, yaml.ScalarEvent):
        return OtherSpot(start, last.index, column, event.value, event.style)
    if not isinstance(event, yaml.CollectionStartEvent):
        return OtherSpot(start, last.index, column)
    inner: list[Spot] = []
    while not isinstance(following := next(events), yaml.CollectionEndEvent):
        inner.append(_spot(following, events))
    end = cast("yaml.Mark", following.end_mark).index
    flow = bool(event.flow_style)
    if isinstance(event, yaml.SequenceStartEvent):
        return ListSpot(start, end, column, flow, tuple(inner))
    pairs = tuple(zip(inner[::2], inner[1::2], strict=True))
    return MappingSpot(start, end, column, flow, pairs)
