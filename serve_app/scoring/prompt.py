"""Prompts for routing models and the answers to them, by family of models.

The prompts of katanemo's models are a wire format: the models were trained on these bytes, with
their English and spacing, so nothing in them may be changed. Source: Plano, Apache-2.0,
``orchestrator_model_v1.rs`` for Plano-Orchestrator and, up to release 0.4.18, ``router_model_v1.rs``
for Arch-Router. The ``generic`` family is the gateway's own, for any small instruct model.

Every prompt is one user message. Routes are in configuration order, so that equal routes have
equal beginnings, which the prefix cache of an engine can reuse.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

from serve_app.domain import Json, Route, Turn

MAX_TURNS: Final = 16
"""Number of turns in a prompt, the last ones of the conversation, as in Plano."""

MIN_TURN_TOKENS: Final = 64
"""Tokens for the newest turn, even if the routes alone fill the budget."""

MAX_NAMED: Final = 4
"""Maximum number of routes in an answer that names several, which keeps it short."""

NO_ROUTE: Final = "other"
"""The answer of a model that names one route, if none fits."""

Count: TypeAlias = Callable[[str], int]
"""Returns the number of tokens of a text."""

_ELLIPSIS: Final = "…"
_BYTES_PER_TOKEN: Final = 4
"""First estimate when a turn is shortened, as in Plano."""

_MAX_CHARACTERS_PER_TOKEN: Final = 6
"""A longer text counts as too long without being tokenized, which would take too long."""

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
    """The user message for a routing model."""

    text: str
    trimmed: bool
    """True if parts of the conversation are left out."""


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """A whole answer in the form of a family, and the route that it means."""

    route: str | None
    """None if no route fits."""
    text: str


@dataclass(frozen=True, slots=True)
class Family:
    """Models with the same form of prompts and answers."""

    name: str
    many: bool
    """True if they answer with a list of routes, the best first."""
    budget_tokens: int
    """Default maximum of tokens in a prompt."""
    template: str = field(repr=False)
    format_routes: Callable[[Sequence[Route]], str] = field(repr=False)
    format_turns: Callable[[Sequence[Turn]], str] = field(repr=False)

    def messages(
        self, turns: Sequence[Turn], routes: Sequence[Route], *, budget: int, count: Count
    ) -> Prompt:
        """The prompt about these turns, newest kept, in at most ``budget`` tokens.

        ``count`` is called with the frame including all routes, which is worth caching because it
        is the same text for equal routes, and with each formatted turn, but never with more text
        than could fit. A user turn that does not fit is shortened in its middle; older turns are
        left out.

        Routes are never cut. If they leave less than MIN_TURN_TOKENS, the newest turn gets these
        all the same, and the prompt exceeds its budget: the caller must check.
        """
        before, _, rest = self.template.partition("{routes}")
        between, _, after = rest.partition("{conversation}")
        head = before + replace_surrogates(self.format_routes(routes)) + between
        with_text = [turn for turn in turns if turn.text]
        room = budget - count(head + after)
        kept, cut = self._newest(with_text[-MAX_TURNS:], room, count)
        text = head + self.format_turns(kept) + after
        return Prompt(text, trimmed=cut or len(with_text) > MAX_TURNS)

    def answers(self, routes: Sequence[Route]) -> tuple[RouteAnswer, ...]:
        """The answers that name one route, and at last the one that names none, without duplicates.

        A route with the name NO_ROUTE has the same answer as none; then it means the route.
        """
        by_text: dict[str, RouteAnswer] = {}
        for name in [*(route.name for route in routes), None]:
            text = _answer(name, many=self.many)
            by_text.setdefault(text, RouteAnswer(name, text))
        return tuple(by_text.values())

    def _newest(self, turns: Sequence[Turn], room: int, count: Count) -> tuple[list[Turn], bool]:
        """The last turns that fit, oldest first, and True if anything was shortened or left out."""
        kept: list[Turn] = []
        for turn in reversed(turns):
            limit = room if kept else max(room, MIN_TURN_TOKENS)
            if len(turn.text) <= _MAX_CHARACTERS_PER_TOKEN * limit:
                valid = Turn(turn.role, replace_surrogates(turn.text))
                size = self._size(valid, limit, count)
                if size <= limit:
                    kept.append(valid)
                    room -= size
                    continue
            short = None
            if turn.role == "user" or not kept:
                short = self._shorten(turn, limit, count)
            return [*([] if short is None else [short]), *reversed(kept)], True
        return kept[::-1], False

    def _shorten(self, turn: Turn, room: int, count: Count) -> Turn | None:
        """The turn with as much of its ends as fits. Returns None if nothing fits."""
        text = replace_surrogates(turn.text)
        limit = _BYTES_PER_TOKEN * (room - count(self.format_turns([Turn(turn.role, "")])))
        while limit > 0:
            short = Turn(turn.role, shorten(text, limit))
            size = self._size(short, room, count)
            if size <= room:
                return short if short.text else None
            limit = limit * room // size * 15 // 16  # few bytes per token; never a small step
        return None

    def _size(self, turn: Turn, room: int, count: Count) -> int:
        """The tokens of a turn; for a huge one an estimate, which is certainly more than ``room``."""
        formatted = self.format_turns([turn])
        if len(formatted) > _MAX_CHARACTERS_PER_TOKEN * room:
            return len(formatted) // _BYTES_PER_TOKEN + 1
        return count(formatted)


def shorten(text: str, limit_bytes: int) -> str:
    """A text of at most ``limit_bytes`` of UTF-8: 60 % from its head, an ellipsis, and its tail.

    People write their request before or after a long paste. If not even the ellipsis fits, only
    the head is left.

    >>> shorten("given the image In style of Andy Warhol", 12)
    'given…rhol'
    """
    raw = text.encode()
    if len(raw) <= limit_bytes:
        return text
    room = limit_bytes - len(_ELLIPSIS.encode())
    if room <= 0:
        return raw[:limit_bytes].decode("utf-8", "ignore")  # leaves incomplete characters out
    head = raw[: room * 3 // 5].decode("utf-8", "ignore")
    tail = raw[len(raw) - (room - len(head.encode())) :].decode("utf-8", "ignore")
    return f"{head}{_ELLIPSIS}{tail}"


def replace_surrogates(text: str) -> str:
    """The text with unpaired surrogates replaced, which no tokenizer accepts."""
    return text.encode("utf-8", "replace").decode()


def answer_schema(answers: Sequence[RouteAnswer], *, many: bool) -> dict[str, Json]:
    """A JSON schema that allows exactly these answers."""
    values = [json.loads(answer.text)["route"] for answer in answers]
    route: Json = {"type": "string", "enum": values}
    if many:
        names = [name for listed in values for name in listed]
        items = {"type": "string", "enum": names}
        route = {"type": "array", "items": items, "maxItems": MAX_NAMED}
    return {
        "type": "object",
        "properties": {"route": route},
        "required": ["route"],
        "additionalProperties": False,
    }


def _answer(route: str | None, *, many: bool) -> str:
    """The text of an answer, as the models were trained to write it.

    >>> _answer(None, many=False), _answer("a", many=True)
    ('{"route": "other"}', '{"route": ["a"]}')
    """
    value: Json = NO_ROUTE if route is None else route
    if many:
        value = [] if route is None else [route]
    return replace_surrogates(_spaced({"route": value}))


def _spaced(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _array_of_routes(routes: Sequence[Route]) -> str:
    return _compact([{"name": route.name, "description": route.description} for route in routes])


def _lines_of_routes(routes: Sequence[Route]) -> str:
    """The routes as tools without parameters, one per line."""
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
    """The turns as a script, one line each."""
    return "\n".join(f"{turn.role}: {_spaced(turn.text)}" for turn in turns)


def _plano(name: str, template: str) -> Family:
    return Family(
        name=name,
        many=True,
        budget_tokens=8192,
        template=template,
        format_routes=_lines_of_routes,
        format_turns=_indented_turns,
    )


_ROWS: Final = (
    Family(
        name="arch-router",
        many=False,
        budget_tokens=2048,
        template=ARCH_ROUTER,
        format_routes=_array_of_routes,
        format_turns=_array_of_turns,
    ),
    _plano("plano-orchestrator", PLANO_ORCHESTRATOR),
    # the same with single braces, as its model card has it
    _plano("plano-orchestrator-card", PLANO_ORCHESTRATOR.replace("{{", "{").replace("}}", "}")),
    Family(
        name="generic",
        many=False,
        budget_tokens=2048,
        template=GENERIC,
        format_routes=_list_of_routes,
        format_turns=_script,
    ),
)

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({row.name: row for row in _ROWS})

_NAMES: Final = re.compile(r"(?<![a-z])(?:(arch[-_ ]?router)|plano[-_ ]?orchestrator)")


def family_of(model: str) -> str:
    """The family of a model by its name or path; of two names in a path, the last one counts.

    >>> family_of("katanemo/Arch-Router-1.5B"), family_of("/models/plano_orchestrator_4b")
    ('arch-router', 'plano-orchestrator')
    """
    matches = _NAMES.findall(model.lower())
    if not matches:
        return "generic"
    return "arch-router" if matches[-1] else "plano-orchestrator"
