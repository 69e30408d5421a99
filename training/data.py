"""Policies for training, and how they become tokens.

A policy is a file of ``training/policies``: first ``{"routes": [{"name", "description",
"variants"?}]}``, then one conversation a line, ``{"messages", "expect", "lang"}``, as
``fingerpost eval`` reads it. A variant is another way in which the same route may be described.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import BertWordPieceTokenizer

from serve_app.domain import Route, Turn
from serve_app.engines.embedding.engine import VOCABULARY
from serve_app.scoring.embedding import phrases, readable, whole_text
from serve_app.scoring.excerpt import recent
from serve_app.scoring.query import query_parts, query_tokens

HERE: Final = Path(__file__).parent
POLICIES: Final = HERE / "policies"
SUGGESTED: Final = HERE / "suggested"
LIMIT: Final = 64
"""Tokens of a conversation or a route; ``orchestrator.max_query_tokens`` by default."""

HELD_OUT_FROM: Final = {
    **dict.fromkeys("efgh", 21),
    **dict.fromkeys("ijklmno", 12),
    **dict.fromkeys("pqt", 15),
    "s": 17,
    "u": 11,
}
"""Numbers from which on a family of policies is held out: about a fifth of each."""

TRAINED_WHOLE: Final = frozenset("vwxyz")
"""Families that came after the measure was fixed: none of them is held out."""

_CLS, _SEP = 101, 102
Tokens = tuple[int, ...]
Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation with what is expected."""

    turns: tuple[Turn, ...]
    route: int
    """The index of its route; -1 for none."""
    language: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Routes, other descriptions of them, and conversations."""

    id: str
    routes: tuple[Route, ...]
    variants: tuple[tuple[Route, ...], ...]
    talks: tuple[Talk, ...]

    @property
    def held_out(self) -> bool:
        """True for a policy that is measured on, and never trained on."""
        family = self.id[0]
        return family not in TRAINED_WHOLE and int(self.id[1:]) >= HELD_OUT_FROM[family]

    def of_route(self, route: int) -> list[int]:
        """The conversations of a route, by index; -1 for those that match none."""
        return [index for index, talk in enumerate(self.talks) if talk.route == route]


def read_policy(file: Path) -> Policy:
    """The policy in a file."""
    head, *lines = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line]
    routes = tuple(_route(entry) for entry in head["routes"])
    names = {route.name: index for index, route in enumerate(routes)}
    return Policy(
        file.stem,
        routes,
        tuple(tuple(map(_route, entry.get("variants", ()))) for entry in head["routes"]),
        tuple(
            Talk(
                tuple(Turn(turn["role"], turn["content"]) for turn in line["messages"]),
                -1 if line["expect"] is None else names[line["expect"]],
                line.get("lang", "en"),
            )
            for line in lines
        ),
    )


def read_policies(folder: Path = POLICIES) -> list[Policy]:
    """All policies of a folder, in the order of their names."""
    return [read_policy(file) for file in sorted(folder.glob("*.jsonl"))]


def _route(entry: Mapping[str, Any]) -> Route:
    return Route(entry["name"], entry["description"] or entry["name"], ())


class Tokenizer:
    """Texts as tokens, exactly as the embedded engine makes them; remembers what it has seen."""

    def __init__(self) -> None:
        self._tokenizer = BertWordPieceTokenizer(str(VOCABULARY), lowercase=True)
        self._known: dict[str, list[int]] = {}

    def text(self, text: str) -> Tokens:
        """The tokens of a text of a route."""
        return tuple(query_tokens([self._ids(text)], LIMIT, _CLS, _SEP))

    def turns(self, turns: Sequence[Turn]) -> Tokens:
        """The tokens of a conversation."""
        parts = [self._ids(text) for text in query_parts(recent(turns) or turns[-1:])]
        return tuple(query_tokens(parts, LIMIT, _CLS, _SEP))

    def _ids(self, text: str) -> list[int]:
        ids = self._known.get(text)
        if ids is None:
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
            self._known[text] = ids
        return ids


# ------------------------------------------------------------------ styles that are drawn

_GREETINGS: Final = ("hi", "hello", "thanks", "thank you", "good morning", "ok", "please", "hey")
_ANSWERS: Final = ("Sure.", "Here you go.", "Done. Anything else?", "Let me check that for you.")
_WELCOME: Final = "Hello! How can I help you today?"
_INTENTS: Final = (
    "questions about",
    "questions and requests about",
    "requests about",
    "anything about",
)


def route_text(route: Route, chance: Random) -> str:
    """One of the texts of a route: mostly all of it, sometimes its name or description alone."""
    draw = chance.random()
    name = readable(route.name)
    if draw < 0.05:
        return f"{name}: {_INTENTS[int(chance.integers(len(_INTENTS)))]} {name}"
    if draw < 0.20:
        return name
    return route.description if draw < 0.35 else whole_text(route)


def varied(talk: Talk, other: Callable[[], Talk], chance: Random) -> tuple[Turn, ...]:
    """A conversation as it is, or with noise in its last turn, or after other turns."""
    turns = talk.turns
    if chance.random() < 0.2:
        turns = (*turns[:-1], Turn("user", noisy(turns[-1].text, chance)))
    if len(turns) > 1 or chance.random() >= 0.1:
        return turns
    draw = chance.random()
    greeting = _GREETINGS[int(chance.integers(len(_GREETINGS)))]
    if draw < 0.5:
        answer = _ANSWERS[int(chance.integers(len(_ANSWERS)))]
        return (Turn("user", other().turns[-1].text), Turn("assistant", answer), turns[0])
    if draw < 0.8:
        return (Turn("user", greeting), Turn("assistant", _WELCOME), turns[0])
    return (Turn("user", f"{greeting}, {turns[0].text}"),)


def noisy(text: str, chance: Random) -> str:
    """The text without its punctuation, or with a few slips of the keyboard."""
    draw = chance.random()
    if draw < 0.3:
        return text.rstrip(".?!") or text
    if draw < 0.5:
        return re.sub(r"[^\w\s]", "", text) or text
    return _slips(list(text), chance) if draw < 0.8 and len(text) > 12 else text


def _slips(letters: list[str], chance: Random) -> str:
    for _ in range(max(1, len(letters) // 40)):
        at, kind = int(chance.integers(1, len(letters) - 1)), chance.random()
        if not letters[at].isalpha():
            continue
        if kind < 0.4:
            letters[at], letters[at - 1] = letters[at - 1], letters[at]
        else:
            letters[at] = "" if kind < 0.7 else letters[at] * 2
    return "".join(letters)


def texts_of_route(route: Route) -> tuple[str, str, tuple[str, ...]]:
    """The three forms in which a route is compared: whole, name, phrases."""
    return whole_text(route), readable(route.name), phrases(route.description)
