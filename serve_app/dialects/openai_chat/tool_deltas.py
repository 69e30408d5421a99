"""Which call a piece of ``tool_calls`` in a stream belongs to.

OpenAI gives each call an index, and its id and name in the first piece only. Other servers leave
the index out, repeat id and name, give every call the index 0, or send a whole call at once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from serve_app.dialects import ir
from serve_app.dialects.json_values import count_of, object_of, text_of
from serve_app.dialects.openai_chat.reasoning import EXTRA, thoughts_of_call
from serve_app.dialects.tool_arguments import arguments_of
from serve_app.domain import Json


@dataclass(slots=True)
class CallInStream:
    """One call, as far as it is known."""

    key: int
    id: str | None = None
    given: str = ""
    """The id that the client gets; empty until the call begins."""
    name: str | None = None
    is_custom: bool = False
    has_arguments: bool = False
    early: list[str] = field(default_factory=list)
    """Arguments that came before the name."""
    extra: dict[str, Json] = field(default_factory=dict)
    """What the provider wants back with it."""
    has_thoughts: bool = False
    """``extra`` is out."""


@dataclass(frozen=True, slots=True)
class _Fragment:
    """What one piece says."""

    index: int | None
    id: str | None
    name: str | None
    arguments: str
    is_custom: bool
    extra: dict[str, Json]

    @classmethod
    def of(cls, entry: Mapping[str, Json]) -> "_Fragment":
        function, custom = object_of(entry.get("function")), object_of(entry.get("custom"))
        is_custom = bool(custom) and not function
        place = custom if is_custom else function
        return cls(
            index=count_of(entry.get("index")),
            id=text_of(entry.get("id")) or None,
            name=text_of(place.get("name")) or None,
            arguments=arguments_of(place.get("input" if is_custom else "arguments")),
            is_custom=is_custom,
            extra=object_of(entry.get(EXTRA)),
        )


class ToolDeltas:
    """Brings the pieces of all calls of one stream to their calls."""

    def __init__(self, new_id: Callable[[int], str]) -> None:
        self._new_id = new_id
        self._count = 0
        self._last: CallInStream | None = None
        self._by_index: dict[int, CallInStream] = {}
        self._by_id: dict[str, CallInStream] = {}
        self._given: set[str] = set()
        """The ids of the calls so far, which have to differ."""

    def read(
        self, entry: Mapping[str, Json]
    ) -> Iterator[tuple[int, ir.Thinking | ir.ToolCall | ir.Delta]]:
        """The call that begins with a piece, and the arguments in it, each with the call's key.

        What the provider wants back with a call comes before it, or as soon as it is known: some
        servers send it last.
        """
        fragment = _Fragment.of(entry)
        call = self._call_of(fragment)
        self._last = call
        call.id = call.id or fragment.id
        call.extra = call.extra or fragment.extra
        begins = bool(fragment.name) and call.name is None
        if begins:
            call.name, call.is_custom = fragment.name, fragment.is_custom
            call.given = self._id_for_client(call)
        for thinking in _new_thoughts(call):
            yield call.key, thinking
        if begins:
            yield call.key, ir.ToolCall(call.given, call.name or "", is_custom=call.is_custom)
            for text in call.early:
                yield call.key, ir.Delta(text)
            call.early.clear()
        if fragment.arguments:
            call.has_arguments = True
            if call.name is None:
                call.early.append(fragment.arguments)
            else:
                yield call.key, ir.Delta(fragment.arguments)

    def _id_for_client(self, call: CallInStream) -> str:
        given = call.id
        if given is None or given in self._given:
            given = self._new_id(call.key)
        self._given.add(given)
        return given

    def _call_of(self, fragment: _Fragment) -> CallInStream:
        if fragment.index is not None:
            call = self._by_index.get(fragment.index)
            if call is None or _is_other(fragment, call):
                call = self._by_index[fragment.index] = self._begin(fragment)
            return call
        if fragment.id is not None:
            return self._by_id.get(fragment.id) or self._begin(fragment)
        if self._last is None or _starts_anew(fragment, self._last):
            return self._begin(fragment)
        return self._last

    def _begin(self, fragment: _Fragment) -> CallInStream:
        call = CallInStream(self._count)
        self._count += 1
        if fragment.id is not None:
            self._by_id[fragment.id] = call
        return call


def _new_thoughts(call: CallInStream) -> Iterator[ir.Thinking]:
    if call.given and call.extra and not call.has_thoughts:
        call.has_thoughts = True
        yield from thoughts_of_call(call.given, call.extra)


def _is_other(fragment: _Fragment, call: CallInStream) -> bool:
    """True for a call with the index of another one: its id is another, or else its name.

    A piece that continues a call has no name, or repeats it.
    """
    if fragment.name is None or call.name is None:
        return False
    if fragment.id is None or call.id is None:
        return fragment.name != call.name
    return fragment.id != call.id


def _starts_anew(fragment: _Fragment, last: CallInStream) -> bool:
    """True if a piece without index and id begins a call.

    Its name is another one, or it brings new arguments from their beginning.
    """
    if fragment.name is None or last.name is None:
        return False
    is_beginning = last.has_arguments and fragment.arguments.lstrip().startswith("{")
    return fragment.name != last.name or is_beginning
