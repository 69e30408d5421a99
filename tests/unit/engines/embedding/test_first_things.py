"""What the bundled engine makes of what people type into a new gateway first.

Both lists were written before anything was measured with them, and are not fitted to the engine.
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.config.load import load
from serve_app.domain import Question, Route, Scores, Turn
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.scoring.excerpt import ENOUGH_WORDS, recent

HERE: Final = Path(__file__).parent
DEMO: Final = load(HERE.parents[3] / "configs/demo.gateway.yaml").config
ROUTES: Final = {
    "demo": tuple(
        Route(entry.name, entry.description, ()) for entry in DEMO.routing_preferences or ()
    ),
    "plano": (
        Route(
            "complex_reasoning",
            "deep analysis, mathematical problem solving, and logical reasoning",
            (),
        ),
        Route(
            "code_generation",
            "generating new code, writing functions, or creating boilerplate",
            (),
        ),
        Route(
            "code_understanding",
            "understand and explain existing code snippets, functions, or libraries",
            (),
        ),
        Route(
            "creative_writing",
            "creative content generation, storytelling, and writing assistance",
            (),
        ),
    ),
}
"""The routes of the demo, and those of Plano's page."""


def rows(name: str) -> list[dict[str, Any]]:
    lines = (HERE / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


FIRST_THINGS: Final = rows("first_things.jsonl")
SHIFTS: Final = rows("topic_shifts.jsonl")


@pytest.fixture(scope="module")
def engine() -> EmbeddingEngine:
    return EmbeddingEngine(EmbeddingSettings.from_section(DEMO.orchestrator))


def winner(engine: EmbeddingEngine, routes: str, turns: tuple[Turn, ...]) -> str | None:
    scores = engine.score(Question(recent(turns), ROUTES[routes], routes), lambda: True)
    assert isinstance(scores, Scores)
    return scores.winner


def shift_turns(row: dict[str, Any]) -> tuple[Turn, ...]:
    first, answer, last = row["turns"]
    return (Turn("user", first), Turn("assistant", answer), Turn("user", last))


def test_lists_are_whole() -> None:
    """Thirty first things for each set of routes, and forty shifts from one route to another."""
    for name, routes in ROUTES.items():
        mine = [row for row in FIRST_THINGS if row["routes"] == name]
        assert len(mine) == len({row["text"] for row in mine}) == 30
        assert {row["expect"] for row in mine} == {None, *(route.name for route in routes)}
    assert all(row["expect"] is None for row in FIRST_THINGS if "kind" in row)
    assert len(SHIFTS) == 40
    assert all(row["from"] != row["expect"] for row in SHIFTS)


def test_first_things_get_their_route(engine: EmbeddingEngine) -> None:
    """At least 54 of 60 get what a careful person expects."""
    wrong = {}
    for row in FIRST_THINGS:
        found = winner(engine, row["routes"], (Turn("user", row["text"]),))
        if found != row["expect"]:
            wrong[row["routes"], row["text"]] = f"{found}, not {row['expect']}"
    assert len(FIRST_THINGS) - len(wrong) >= 54, wrong


def test_greetings_match_no_route(engine: EmbeddingEngine) -> None:
    """Neither do thanks."""
    greetings = [row for row in FIRST_THINGS if row.get("kind") == "greeting"]
    assert len(greetings) >= 8
    assert {
        row["text"]: found
        for row in greetings
        if (found := winner(engine, row["routes"], (Turn("user", row["text"]),))) is not None
    } == {}


@pytest.mark.parametrize("row", SHIFTS, ids=lambda row: row["turns"][2][:40])
def test_last_turn_that_says_enough_is_compared_alone(row: dict[str, Any]) -> None:
    """Nothing of the topic before it is left."""
    last = row["turns"][2]
    assert len(last.split()) >= ENOUGH_WORDS
    assert recent(shift_turns(row)) == (Turn("user", last),)


def test_shift_of_topic_is_followed(engine: EmbeddingEngine) -> None:
    """At least 36 of 40 conversations go where their last turn belongs."""
    wrong = {}
    for row in SHIFTS:
        found = winner(engine, "plano", shift_turns(row))
        if found != row["expect"]:
            wrong[row["turns"][2]] = f"{found}, not {row['expect']}"
    assert len(SHIFTS) - len(wrong) >= 36, wrong
