"""What a routing model is asked, and what it may answer, by family of models.

The prompts of katanemo's models are a wire format: the models were trained on these bytes, odd
English and spacing included, so nothing in them may be changed. Source: Plano, Apache-2.0,
``orchestrator_model_v1.rs`` for Plano-Orchestrator and, up to release 0.4.18, ``router_model_v1.rs``
for Arch-Router. The ``generic`` family is ours, and meant for any small instruct model.

Every prompt is one message of the user. Routes stand in configuration order, so that equal routes
make an equal beginning, which an engine's prefix cache can keep.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

from serve_app.domain import Json, Route, Turn

MAX_TURNS: Final = 16
"""Of a longer conversation the last ones are shown, as Plano does."""

LEAST_TOKENS: Final = 64
"""So many the newest turn may take, even where the routes alone fill the budget."""

MAX_NAMED: Final = 4
"""Routes in one answer, of models that name several; the bound keeps the answer short."""

NO_ROUTE: Final = "other"
"""What a model that names one route says when none fits."""

Count: TypeAlias = Callable[[str], int]
"""How many tokens a text is."""

_ELLIPSIS: Final = "…"
_BYTES_A_TOKEN: Final = 4
"""What a turn that has to be shortened is shortened to at first; Plano's measure, too."""

_MOST_CHARACTERS_A_TOKEN: Final = 6
"""A longer text is taken for too long without being counted: counting it would take too long."""

ARCH_ROUTER: Final = """
You are a helpful assistant designed to find the best suited route.
You are provided with route description within <routes></routes> XML tags:
<routes>
{routes}
</routes>

<conversation>
{conversation}
</conversation>

Your task is to decide which route is best suit with user intent on the conversation in <conversation></conversation> XML tags.  Follow the instruction:
1. If the latest intent from user is irrelevant or user intent is full filled, response with other route {"route": "other"}.
2. You must analyze the route descriptions and find the best match route for user latest intent.
3. You only response the name of the route that best matches the user's request, use the exact name in the <routes></routes>.

Based on your analysis, provide your response in the following JSON formats if you decide to match any route:
{"route": "route_name"}
"""

PLANO_ORCHESTRATOR: Final = """
You are a helpful assistant that selects the most suitable routes based on user intent.
You are provided with a list of available routes enclosed within <routes></routes> XML tags:
<routes>
{routes}
</routes>

You are also given the conversation context enclosed within <conversation></conversation> XML tags:
<conversation>
{conversation}
</conversation>

## Instructions
1. Analyze the latest user intent from the conversation.
2. Compare it against the available routes to find which routes can help fulfill the request.
3. Respond only with the exact route names from <routes>.
4. If no routes can help or the intent is already fulfilled, return an empty list.

## Response Format
Return your answer strictly in JSON as follows:
{{"route": ["route_name_1", "route_name_2", "..."]}}
If no routes are needed, return an empty list for `route`.
"""
"""The doubled braces are what Plano sends."""

GENERIC: Final = """\
Pick the route for what the user wants now.

Routes:
{routes}

Conversation:
{conversation}

Answer with JSON and nothing else: {"route": "NAME"}, where NAME is the name of a route above.
"""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text of the one message that a routing model gets."""

    text: str
    trimmed: bool
    """Not all of the conversation is in it."""


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """A whole answer as the family's models write it, and which route it means."""

    route: str | None
    """None: no route fits."""
    text: str


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are asked in one way and answer in one way."""

    name: str
    many: bool
    """They answer with a list of routes, the best first."""
    budget_tokens: int
    """What a prompt may take unless something else is said."""
    template: str = field(repr=False)
    lay_routes: Callable[[Sequence[Route]], str] = field(repr=False)
    lay_turns: Callable[[Sequence[Turn]], str] = field(repr=False)

    def messages(
        self, turns: Sequence[Turn], routes: Sequence[Route], *, budget: int, count: Count
    ) -> Prompt:
        """The prompt about these turns, newest kept, in at most ``budget`` tokens.

        ``count`` is asked for the frame with all the routes, which is the same text for equal
        routes and so worth remembering, and for each turn as it will stand there, but never for
        more text than could fit. A turn of the user that does not fit whole is shortened in its
        middle; what is older is left out.

        Routes are never cut. Where they leave less than LEAST_TOKENS, the newest turn gets so
        many all the same, and the prompt is over its budget: who sends it has to look.
        """
        before, _, rest = self.template.partition("{routes}")
        between, _, after = rest.partition("{conversation}")
        head = before + whole(self.lay_routes(routes)) + between
        spoken = [turn for turn in turns if turn.text]
        room = budget - count(head + after)
        kept, cut = self._newest(spoken[-MAX_TURNS:], room, count)
        text = head + self.lay_turns(kept) + after
        return Prompt(text, trimmed=cut or len(spoken) > MAX_TURNS)

    def answers(self, routes: Sequence[Route]) -> tuple[RouteAnswer, ...]:
        """All whole answers that say one route or none, no text twice; "none" is the last one.

        A route that bears the name NO_ROUTE takes its answer: then there is none for "none".
        """
        known: dict[str, RouteAnswer] = {}
        for name in [*(route.name for route in routes), None]:
            text = _answer(name, many=self.many)
            known.setdefault(text, RouteAnswer(name, text))
        return tuple(known.values())

    def _newest(self, turns: Sequence[Turn], room: int, count: Count) -> tuple[list[Turn], bool]:
        """The last turns that fit, oldest first, and whether anything was cut or left out."""
        kept: list[Turn] = []
        for turn in reversed(turns):
            most = room if kept else max(room, LEAST_TOKENS)
            if len(turn.text) <= _MOST_CHARACTERS_A_TOKEN * most:
                same = Turn(turn.role, whole(turn.text))
                size = self._size(same, most, count)
                if size <= most:
                    kept.append(same)
                    room -= size
                    continue
            short = None
            if turn.role == "user" or not kept:
                short = self._shortened(turn, most, count)
            return [*([] if short is None else [short]), *reversed(kept)], True
        return kept[::-1], False

    def _shortened(self, turn: Turn, room: int, count: Count) -> Turn | None:
        """The turn with as much of its ends as fits; None where nothing does."""
        text = whole(turn.text)
        limit = _BYTES_A_TOKEN * (room - count(self.lay_turns([Turn(turn.role, "")])))
        while limit > 0:
            short = Turn(turn.role, shortened(text, limit))
            size = self._size(short, room, count)
            if size <= room:
                return short if short.text else None
            limit = limit * room // size * 15 // 16  # denser text than most; never a small step
        return None

    def _size(self, turn: Turn, room: int, count: Count) -> int:
        """How many tokens a turn is; not counted, but surely more than ``room``, if it is huge."""
        laid = self.lay_turns([turn])
        if len(laid) > _MOST_CHARACTERS_A_TOKEN * room:
            return len(laid) // _BYTES_A_TOKEN + 1
        return count(laid)


def shortened(text: str, limit_bytes: int) -> str:
    """A text of at most so many bytes of UTF-8: 60 % from its head, an ellipsis, and its tail.

    People say what they want before a long paste, or after it. Where not even the ellipsis fits,
    the head alone.

    >>> shortened("given the image In style of Andy Warhol", 12)
    'given…rhol'
    """
    raw = text.encode()
    if len(raw) <= limit_bytes:
        return text
    room = limit_bytes - len(_ELLIPSIS.encode())
    if room <= 0:
        return raw[:limit_bytes].decode("utf-8", "ignore")  # which leaves half characters out
    head = raw[: room * 3 // 5].decode("utf-8", "ignore")
    tail = raw[len(raw) - (room - len(head.encode())) :].decode("utf-8", "ignore")
    return f"{head}{_ELLIPSIS}{tail}"


def whole(text: str) -> str:
    """The text without halves of surrogate pairs, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()


def answer_schema(answers: Sequence[RouteAnswer], *, many: bool) -> dict[str, Json]:
    """All that may be answered, and nothing else, as a JSON schema."""
    said = [json.loads(answer.text)["route"] for answer in answers]
    route: Json = {"type": "string", "enum": said}
    if many:
        names = [name for listed in said for name in listed]
        items = {"type": "string", "enum": names}
        route = {"type": "array", "items": items, "maxItems": MAX_NAMED}
    return {
        "type": "object",
        "properties": {"route": route},
        "required": ["route"],
        "additionalProperties": False,
    }


def _answer(route: str | None, *, many: bool) -> str:
    """As the models were trained to write it.

    >>> _answer(None, many=False), _answer("a", many=True)
    ('{"route": "other"}', '{"route": ["a"]}')
    """
    said: Json = NO_ROUTE if route is None else route
    if many:
        said = [] if route is None else [route]
    return whole(_spaced({"route": said}))


def _spaced(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _array_of_routes(routes: Sequence[Route]) -> str:
    return _compact([{"name": route.name, "description": route.description} for route in routes])


def _lines_of_routes(routes: Sequence[Route]) -> str:
    """As tools without parameters, one a line."""
    parameters = {"type": "object", "properties": {}, "required": []}
    return "\n".join(
        _spaced({"name": route.name, "description": route.description, "parameters": parameters})
        for route in routes
    )


def _list_of_routes(routes: Sequence[Route]) -> str:
    lines = [f"{route.name}: {' '.join(route.description.split())}" for route in routes]
    if all(route.name != NO_ROUTE for route in routes):
        lines.append(f"{NO_ROUTE}: none of these")
    return "\n".join(lines)


def _objects(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in turns]


def _array_of_turns(turns: Sequence[Turn]) -> str:
    return _compact(_objects(turns))


def _indented_turns(turns: Sequence[Turn]) -> str:
    return json.dumps(_objects(turns), ensure_ascii=False, indent=4)


def _script(turns: Sequence[Turn]) -> str:
    """One line a turn, whatever it holds."""
    return "\n".join(f"{turn.role}: {_spaced(turn.text)}" for turn in turns)


def _plano(name: str, template: str) -> Family:
    return Family(
        name=name,
        many=True,
        budget_tokens=8192,
        template=template,
        lay_routes=_lines_of_routes,
        lay_turns=_indented_turns,
    )


_ROWS: Final = (
    Family(
        name="arch-router",
        many=False,
        budget_tokens=2048,
        template=ARCH_ROUTER,
        lay_routes=_array_of_routes,
        lay_turns=_array_of_turns,
    ),
    _plano("plano-orchestrator", PLANO_ORCHESTRATOR),
    # the same with single braces, as others send it
    _plano("plano-orchestrator-card", PLANO_ORCHESTRATOR.replace("{{", "{").replace("}}", "}")),
    Family(
        name="generic",
        many=False,
        budget_tokens=2048,
        template=GENERIC,
        lay_routes=_list_of_routes,
        lay_turns=_script,
    ),
)

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({row.name: row for row in _ROWS})

_NAMES: Final = re.compile(r"(?<![a-z])(?:(arch[-_ ]?router)|plano[-_ ]?orchestrator)")


def family_of(model: str) -> str:
    """The family of a model by its name or path; of two names that a path holds, the last counts.

    >>> family_of("katanemo/Arch-Router-1.5B"), family_of("/models/plano_orchestrator_4b")
    ('arch-router', 'plano-orchestrator')
    """
    found = _NAMES.findall(model.lower())
    if not found:
        return "generic"
    return "arch-router" if found[-1] else "plano-orchestrator"
