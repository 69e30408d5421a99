"""Labelled sets: how they are read, and what is calculated from the scores of an engine."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from serve_app.config.locations import ConfigError
from serve_app.domain import Json, Route, Turn
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.evaluation.draws import draw_examples
from serve_app.evaluation.labelled_set import Case, LabelledSet, read_set
from serve_app.evaluation.measure import COLLIDING, NO_ROUTE, CaseOutcome, RouteQuality, evaluate
from serve_app.scoring.archetypes import ARCHETYPES
from serve_app.scoring.embedding import Vector
from tests.unit.evaluation.labelled_sets import (
    CODE,
    HEAD,
    OUTCOMES,
    POEMS,
    PROMPTS,
    evaluation_of,
    line,
    outcome,
    write_set,
)

BARE: Final = EmbeddingSettings(archetypes=False)
GOOD: Final = line("Write a haiku", "poems")
MISSED: Final = line("A ballad about the sea, in rhymes", "code")


def test_a_set_is_read(tmp_path: Path) -> None:
    """Routes with their examples, then cases as turns; blank lines and other keys are nothing."""
    head = json.dumps({"routes": [{**CODE, "examples": ["fix it"], "models": ["x/y"]}, POEMS]})
    dialogue = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello"},
    ]
    odd = "two\u2028lines\x85and\x1cmore"
    file = write_set(
        tmp_path, head, "", line(odd, "code", id=7), " ", line("", None, messages=dialogue)
    )
    read = read_set(file)
    assert read.file == str(file)
    assert read.routes == (
        Route("code", CODE["description"], (), examples=("fix it",)),
        Route("poems", POEMS["description"], ()),
    )
    assert read.cases == (
        Case((Turn("user", odd),), "code"),
        Case((Turn("user", "Hi"), Turn("assistant", "Hello")), None),
    )


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    """With carriage returns, and the last one with nothing."""
    file = tmp_path / "set.jsonl"
    file.write_bytes(f"{HEAD}\r\n\r\n{GOOD}".encode())
    assert read_set(file).cases == (Case((Turn("user", "Write a haiku"),), "poems"),)


NO_ROUTES = (1, "", 'must be {"routes": [{"name": ..., "description": ...}, ...]}')
NO_NAMES = "must have a name and a description, both strings"
EXPECT = "must be a route of line 1 or null, not"


def head(*routes: Json) -> str:
    return json.dumps({"routes": [*routes, POEMS]})


# fmt: off
WRONG: dict[str, tuple[list[str], list[tuple[int, str, str]]]] = {
    "empty": ([], [NO_ROUTES]),
    "no JSON": (["routes", GOOD], [NO_ROUTES]),
    "too deep": (["[" * 99_999], [NO_ROUTES]),
    "a list": (["[]"], [NO_ROUTES]),
    "no routes": ([json.dumps({"cases": []})], [NO_ROUTES]),
    "empty routes": ([json.dumps({"routes": []})], [NO_ROUTES]),
    "routes a mapping": ([json.dumps({"routes": CODE})], [NO_ROUTES]),
    "a case first": ([line("x", None), GOOD], [NO_ROUTES]),
    "a route that is a text": ([head("code"), GOOD], [(1, "routes[0]", NO_NAMES)]),
    "no set at all": (["# Notes", "", "nothing", "to measure"], [NO_ROUTES]),
    "a route and its cases": ([head({"name": "code"}), line("x", "code"), line("y", "code")], [(1, "routes[0]", NO_NAMES)]),
    "a nameless route and its cases": ([head({"description": "x"}), line("x", "code"), line("y", "what")], [(1, "routes[0]", NO_NAMES)]),
    "no description": ([head({"name": "code"}), GOOD], [(1, "routes[0]", NO_NAMES)]),
    "an empty description": ([head({**CODE, "description": ""}), GOOD], [(1, "routes[0]", NO_NAMES)]),
    "no name": ([head({"description": "x"}), GOOD], [(1, "routes[0]", NO_NAMES)]),
    "a number as name": ([head({**CODE, "name": 1}), GOOD], [(1, "routes[0]", NO_NAMES)]),
    "two of one name": ([head(CODE, POEMS), GOOD], [(1, "routes[2]", "duplicate route 'poems'; keep one")]),
    "examples a text": ([head({**CODE, "examples": "x"}), GOOD], [(1, "routes[0].examples", "must be a list of strings")]),
    "examples numbers": ([head({**CODE, "examples": ["x", 1]}), GOOD], [(1, "routes[0].examples", "must be a list of strings")]),
    "no cases": ([HEAD], [(2, "", "no cases; add one per line")]),
    "case no JSON": ([HEAD, GOOD, "{", GOOD], [(3, "", "must be a JSON object")]),
    "case too deep": ([HEAD, '{"a":' * 99_999], [(2, "", "must be a JSON object")]),
    "case a list": ([HEAD, "", "[1]"], [(3, "", "must be a JSON object")]),
    "unknown expect": ([HEAD, line("x", "cod")], [(2, "expect", f"{EXPECT} 'cod'")]),
    "empty expect": ([HEAD, line("x", "")], [(2, "expect", f"{EXPECT} ''")]),
    "expect a list": ([HEAD, line("x", None, expect=["code"])], [(2, "expect", f"{EXPECT} ['code']")]),
    "no expect": ([HEAD, json.dumps({"messages": []})], [(2, "expect", f"{EXPECT} ''")]),
    "no messages": ([HEAD, json.dumps({"expect": None})], [(2, "messages", "messages must be a list")]),
    "messages a text": ([HEAD, line("x", "code", messages="x")], [(2, "messages", "messages must be a list")]),
    "message a text": ([HEAD, line("x", "code", messages=["x"])], [(2, "messages", "messages[0] must be an object")]),
}
# fmt: on


@pytest.mark.parametrize(("lines", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told(
    lines: list[str], expected: list[tuple[int, str, str]], tmp_path: Path
) -> None:
    """With the file, the line, the place in it, and what should stand there."""
    file = write_set(tmp_path, *lines)
    with pytest.raises(ConfigError) as caught:
        read_set(file)
    assert caught.value.file == str(file)
    assert [(p.line, p.path, p.message) for p in caught.value.problems] == expected


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """In the order of the lines; what is right between them changes nothing."""
    first = json.dumps({"routes": [CODE, {"name": "x"}, CODE, POEMS]})
    file = write_set(tmp_path, first, GOOD, "{", line("x", "no"), line("x", None, messages=1), GOOD)
    with pytest.raises(ConfigError) as caught:
        read_set(file)
    assert str(caught.value).splitlines() == [
        f"{file} has 5 problems:",
        f"  line 1: routes[1]: {NO_NAMES}",
        "  line 1: routes[2]: duplicate route 'code'; keep one",
        "  line 3: must be a JSON object",
        f"  line 4: expect: {EXPECT} 'no'",
        "  line 5: messages: messages must be a list",
    ]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the system's reason; so is a directory."""
    for file, why in ((tmp_path / "no.jsonl", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=f"cannot read the file: .*{why}") as caught:
            read_set(file)
        assert caught.value.file == str(file)


def test_a_file_has_to_be_utf_8(tmp_path: Path) -> None:
    """Which is said of one that is not, with the byte where it ends to be."""
    file = tmp_path / "set.jsonl"
    file.write_bytes(f"{HEAD}\n".encode() + b"\xff")
    with pytest.raises(
        ConfigError, match=r"cannot read the file: 'utf-8' codec .* in position \d+"
    ):
        read_set(file)


def test_shares_are_reckoned() -> None:
    """Three of four best routes are right; three of six decisions are."""
    found = evaluation_of(*OUTCOMES)
    assert found.accuracy == pytest.approx(3 / 4)
    assert found.decided == pytest.approx(3 / 6)
    assert [outcome.right for outcome in OUTCOMES] == [True, False, True, True, False, False]
    assert found.latency_ms(0.5) == pytest.approx(3.5)
    assert found.latency_ms(1.0) == pytest.approx(6)


def test_confusion_is_counted() -> None:
    """By what was expected and what was decided; from it precision and recall."""
    found = evaluation_of(*OUTCOMES, names=("a", "b", "c"))
    assert found.confusion() == Counter(
        [("a", "a"), ("a", "b"), ("a", NO_ROUTE), ("b", "b"), (NO_ROUTE, "a"), (NO_ROUTE, NO_ROUTE)]
    )
    assert list(found.by_route()) == [
        RouteQuality("a", 1 / 2, 1 / 3, 3),
        RouteQuality("b", 1 / 2, 1, 1),
        RouteQuality("c", None, None, 0),
        RouteQuality(NO_ROUTE, 1 / 2, 1 / 2, 2),
    ]


def test_thresholds_are_tried() -> None:
    """From 0 to 0.5: fewer and fewer right ones stay, more and more of the others are found."""
    found = evaluation_of(*OUTCOMES)
    rows = {row.min_confidence: (row.accuracy, row.no_match_found) for row in found.thresholds()}
    assert list(rows) == pytest.approx([step / 50 for step in range(26)])
    assert rows[0.0] == rows[0.1] == (3 / 4, 0.0)  # a score that is equal is enough
    assert rows[0.12] == rows[0.3] == (3 / 4, 1 / 2)
    assert rows[0.32] == rows[0.4] == (2 / 4, 1 / 2)
    assert rows[0.42] == rows[0.5] == (2 / 4, 1.0)
    assert found.recommended() == 0.42


@pytest.mark.parametrize(
    ("inside", "outside", "expected"),
    [
        ([0.9, 0.5, 0.3, 0.7], [0.4, 0.1], 7 / 8),
        ([0.9], [0.1, 0.2], 1.0),
        ([0.1], [0.9, 0.2], 0.0),
        ([0.5], [0.5], 0.5),
        ([0.5, 0.6], [0.5, 0.7], 1.5 / 4),
    ],
)
def test_auroc_is_a_share_of_pairs(
    inside: list[float], outside: list[float], expected: float
) -> None:
    """Of a case with a route and one without: how often the first scores higher; a tie is half."""
    outcomes = [outcome("a", "a", score, "a") for score in inside]
    outcomes += [outcome(None, "a", score, "a") for score in outside]
    assert evaluation_of(*outcomes).auroc() == pytest.approx(expected)


@pytest.mark.parametrize("kept", [OUTCOMES[:4], OUTCOMES[4:]])
def test_without_both_kinds_there_is_nothing_to_tell_apart(kept: tuple[CaseOutcome, ...]) -> None:
    """A set of one kind alone has no thresholds; the other figures stay what they are."""
    found = evaluation_of(*kept)
    assert (found.thresholds(), found.recommended(), found.auroc()) == ([], None, None)
    assert found.decided == pytest.approx(1 / 2)
    assert found.accuracy == (3 / 4 if kept == OUTCOMES[:4] else 0.0)


@pytest.fixture(scope="module")
def engine() -> EmbeddingEngine:
    return EmbeddingEngine(EmbeddingSettings(min_confidence=0.2))


def labelled(directory: Path, *more: str) -> LabelledSet:
    return read_set(write_set(directory, HEAD, *(line(*prompt) for prompt in PROMPTS), *more))


class Progress:
    """Passes cases through and remembers them."""

    def __init__(self) -> None:
        self.seen: list[Case] = []

    def __call__(self, cases: Sequence[Case]) -> Iterable[Case]:
        self.seen.extend(cases)
        return cases


def test_every_case_is_decided(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """In their order, with the engine's scores, and progress sees all of them."""
    read, progress = labelled(tmp_path), Progress()
    found = evaluate(read, EmbeddingSettings(), progress, engine)
    assert [outcome.case for outcome in found.outcomes] == list(read.cases) == progress.seen
    assert (found.accuracy, found.decided) == (1.0, 1.0)
    assert all(outcome.seconds > 0 for outcome in found.outcomes)
    assert (found.labelled, found.settings, found.draws) == (read, EmbeddingSettings(), ())
    assert found.collisions == ()


@pytest.mark.parametrize("expect", [None, "code"])
def test_a_case_without_words_matches_nothing(
    expect: str | None, engine: EmbeddingEngine, tmp_path: Path
) -> None:
    """As in the gateway, which asks no engine about it; where a route is expected it is missed."""
    silent: list[Json] = [
        [],
        [{"role": "assistant", "content": "Write code"}],
        [{"role": "user", "content": "<system-reminder>Write code</system-reminder>"}],
    ]
    more = [line("", expect, messages=messages) for messages in silent]
    found = evaluate(labelled(tmp_path, *more), EmbeddingSettings(), Progress(), engine)
    kept = found.outcomes[len(PROMPTS) :]
    assert [(o.best, o.score, o.decided, o.right) for o in kept] == [(NO_ROUTE, 0, None, False)] * 3
    assert found.accuracy == pytest.approx(1.0 if expect is None else 7 / 10)
    assert found.decided == pytest.approx(1.0 if expect is None else 9 / 12)


def test_descriptions_that_are_nearly_one_are_told(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """The nearest pair first, each pair once."""
    verse = {"name": "poetry", "description": POEMS["description"]}
    other = {"name": "poem", "description": "poems, lyrics of songs and rhymes"}
    file = write_set(tmp_path, json.dumps({"routes": [CODE, POEMS, verse, other]}), GOOD)
    found = evaluate(read_set(file), EmbeddingSettings(), Progress(), engine).collisions
    assert {frozenset((pair.route, pair.other)) for pair in found} == {
        frozenset(pair) for pair in (("poems", "poetry"), ("poems", "poem"), ("poetry", "poem"))
    }
    cosines = [pair.cosine for pair in found]
    assert cosines == sorted(cosines, reverse=True)
    assert all(COLLIDING <= cosine <= 1.0001 for cosine in cosines)


def test_a_draw_leaves_out_what_it_drew(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """One case of eight is always missed, unless it is drawn; the share tells how many are asked.

    However many examples are wanted, a route keeps one case that is asked.
    """
    read = labelled(tmp_path, MISSED)
    drawn = {count: draw_examples(read, engine, BARE, count, 12) for count in (0, 1, 9)}
    assert {count: set(draws.accuracies) for count, draws in drawn.items()} == {
        0: {7 / 8},
        1: {5 / 6, 1.0},
        9: {1 / 2, 1.0},
    }
    assert [draws.examples for draws in drawn.values()] == [0, 1, 9]


def test_draws_are_reproducible(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """Each draw has its own seed, so that more of them begin with the same ones."""
    read = labelled(tmp_path, MISSED)
    some = draw_examples(read, engine, BARE, 1, 30)
    more = draw_examples(read, engine, BARE, 1, 35)
    assert len(set(some.accuracies)) == 2
    assert (len(more.accuracies), more.accuracies[:30]) == (35, some.accuracies)
    assert some.mean == pytest.approx(sum(some.accuracies) / 30)


@pytest.mark.parametrize("archetypes", [False, True])
def test_a_draw_is_with_the_bank_or_without(
    archetypes: bool, engine: EmbeddingEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the settings say."""
    read, asked, embed = labelled(tmp_path), [""], engine.model.embed

    def remembering(text: str) -> Vector:
        asked.append(text)
        return embed(text)

    monkeypatch.setattr(engine.model, "embed", remembering)
    draw_examples(read, engine, replace(BARE, archetypes=archetypes), 0, 1)
    assert (ARCHETYPES[0].prompts[0] in asked) is archetypes


def test_the_sets_own_examples_are_no_part_of_a_draw(
    engine: EmbeddingEngine, tmp_path: Path
) -> None:
    """Drawn ones take their place; nothing else of the routes changes."""
    read = labelled(tmp_path)
    taught = replace(
        read, routes=tuple(replace(route, examples=("x", "y")) for route in read.routes)
    )
    drawn = [draw_examples(one, engine, BARE, 2, 2).accuracies for one in (read, taught)]
    assert drawn[0] == drawn[1]


def test_a_case_without_words_is_never_drawn(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """Nor is it found: it is asked and missed."""
    read = labelled(tmp_path, line(" ", "code"))
    assert draw_examples(read, engine, BARE, 0, 1).accuracies == (7 / 8,)
    assert draw_examples(read, engine, BARE, 9, 1).accuracies == (2 / 3,)
