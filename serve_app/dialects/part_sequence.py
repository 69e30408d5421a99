"""Brings the parts of a stream into sequence, one after the other.

Providers may send the pieces of several tool calls in turns, while ``ir`` promises, and clients
expect, that a part is complete before the next one begins.
"""

import re
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from serve_app.dialects import ir

Piece: TypeAlias = ir.Delta | ir.Signed | ir.Cited
"""What a part consists of, in its order."""

_NOTHING: Final = ir.Delta("")
"""Many providers send an empty text along with each piece of a tool call."""

_MARK: Final = re.compile(r'["{}\[\]]')
_MARK_IN_STRING: Final = re.compile(r'["\\]')


class _Brackets:
    """Counts the brackets of a JSON text that comes in pieces, each piece once."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._skipped = 0
        """Characters of the next piece that a backslash takes: 0 or 1."""
        self.are_closed = False
        """True once the outermost bracket is closed."""

    def read(self, text: str) -> None:
        at = self._skipped
        while mark := (_MARK_IN_STRING if self._in_string else _MARK).search(text, at):
            at = mark.end()
            if mark[0] == "\\":
                at += 1
            elif mark[0] == '"':
                self._in_string = not self._in_string
            else:
                self._depth += 1 if mark[0] in "{[" else -1
                self.are_closed = self.are_closed or self._depth == 0
        self._skipped = max(0, at - len(text))


@dataclass(slots=True)
class _SequencedPart:
    """A part that has begun at the provider."""

    part: ir.AnswerPart
    has_end: bool = False
    """The provider said that it is complete."""
    is_out: bool = False
    """Its ``PartEnded`` is out."""
    waiting: list[Piece] = field(default_factory=list)
    """Pieces that came while an older part was open."""
    _unread: list[str] = field(default_factory=list)
    _brackets: _Brackets = field(default_factory=_Brackets)

    def note(self, piece: Piece) -> None:
        """Remembers what ``is_whole`` needs of a piece."""
        if isinstance(self.part, ir.ToolCall) and isinstance(piece, ir.Delta):
            self._unread.append(piece.text)

    def is_whole(self) -> bool:
        """True if it may end as soon as another part waits.

        Arguments are read only when this is asked, which most streams never do.
        """
        if not isinstance(self.part, ir.ToolCall):
            return True
        if self.part.is_custom:
            return False  # any text may follow
        self._brackets.read("".join(self._unread))
        self._unread.clear()
        return self._brackets.are_closed

    def go_on(self, piece: Piece) -> ir.AnswerPart | None:
        """The beginning of a part for a piece that came late; None if it says nothing more."""
        if isinstance(self.part, ir.ToolCall) or piece == _NOTHING:
            return None
        if isinstance(self.part, ir.Thinking):
            return replace(self.part, signature=None)
        return self.part


class PartSequence:
    """Takes the pieces of parts by key in any order; gives events of one part at a time.

    The oldest part streams, the others wait. It ends when the provider says so, or when another one
    waits and it is a tool call whose arguments are a complete JSON object, or not a tool call. If
    more of a text comes after that, it goes on as a new part.
    """

    def __init__(self) -> None:
        self._parts: dict[Hashable, _SequencedPart] = {}
        self._queue: deque[_SequencedPart] = deque()
        """The open part, and those that wait."""

    def has(self, key: Hashable) -> bool:
        """True once the part of this key has begun."""
        return key in self._parts

    def start(self, key: Hashable, part: ir.AnswerPart) -> Iterator[ir.Event]:
        """A part begins; nothing happens if it has begun before."""
        if key not in self._parts:
            yield from self._begin(key, part)

    def add(self, key: Hashable, piece: Piece) -> Iterable[ir.Event]:
        """A piece of a part that has begun.

        Left out: pieces of an unknown part, of one that the provider ended, and of a tool call
        whose arguments were complete and which has ended for that.
        """
        part = self._parts.get(key)
        if part is None or part.has_end:
            return ()
        if not part.is_out and part is self._queue[0]:
            part.note(piece)
            return (piece,)
        return self._add_later(key, part, piece)

    def _add_later(self, key: Hashable, part: _SequencedPart, piece: Piece) -> Iterator[ir.Event]:
        """A piece of a part that waits, or is out."""
        if part.is_out:
            rest = part.go_on(piece)
            if rest is None:
                return
            yield from self._begin(key, rest)
            part = self._parts[key]
        part.note(piece)
        if part is self._queue[0]:
            yield piece
        else:
            part.waiting.append(piece)
            yield from self._advance()

    def end(self, key: Hashable) -> Iterator[ir.Event]:
        """A part is complete."""
        part = self._parts.get(key)
        if part is not None:
            part.has_end = True
            yield from self._advance()

    def end_all(self) -> Iterator[ir.Event]:
        """Every part is complete."""
        for part in self._parts.values():
            part.has_end = True
        yield from self._advance()

    def _begin(self, key: Hashable, part: ir.AnswerPart) -> Iterator[ir.Event]:
        begun = self._parts[key] = _SequencedPart(part)
        self._queue.append(begun)
        if len(self._queue) == 1:
            yield ir.PartStarted(part)
        else:
            yield from self._advance()

    def _advance(self) -> Iterator[ir.Event]:
        """Ends the open part if it is complete, and lets the next one speak; and so on."""
        queue = self._queue
        while queue and (queue[0].has_end or (len(queue) > 1 and queue[0].is_whole())):
            queue.popleft().is_out = True
            yield ir.PartEnded()
            if queue:
                yield ir.PartStarted(queue[0].part)
                yield from queue[0].waiting
                queue[0].waiting.clear()
