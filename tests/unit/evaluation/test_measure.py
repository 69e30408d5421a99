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
from tests.unit.evaluation.labelled_sets import (
    CODE,
    HEAD,
    OUTCOMES,
    POEMS,
    PROMPTS,
    TopicModel,
    evaluation_of,
    line,
    outcome,
    write_set,
)

GOOD: Final = line("Write a haiku", "poems")
MISSED: Final = line("A ballad about the sea, in rhymes", "code")


def test_set_is_read(tmp_path: Path) -> None:
    """Blank lines and unknown keys are skipped."""
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
    assert read.no_route_examples == ()
    assert read.cases == (
        Case((Turn("user", odd),), "code"),
        Case((Turn("user", "Hi"), Turn("assistant", "Hello")), None),
    )


def test_set_may_have_examples_of_no_route(tmp_path: Path) -> None:
    """They are those of a configuration, and belong to every question of the set."""
    first = json.dumps({"routes": [CODE, POEMS], "no_route_examples": ["hello", "thanks"]})
    read = read_set(write_set(tmp_path, first, GOOD))
    assert read.no_route_examples == ("hello", "thanks")


def test_line_ends_of_windows_are_kept(tmp_path: Path) -> None:
    """They are the same afterwards."""
    file = tmp_path / "set.jsonl"
    file.write_bytes(f"{HEAD}\r\n\r\n{GOOD}".encode())
    assert read_set(file).cases == (Case((Turn("user", "Write a haiku"),), "poems"),)


NO_ROUTES = (1, "", 'must be {"routes": [{"name": ..., "description": ...}, ...]}')
NO_NAMES = "must have a name and a description, both strings"
EXPECT = "must be a route of line 1 or null, not"


def head(*routes: Json, **more: Json) -> str:
    return json.dumps({"routes": [*routes, POEMS], **more})


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
    "no route a text": ([head(no_route_examples="x"), GOOD], [(1, "no_route_examples", "must be a list of strings")]),
    "no route numbers": ([head(CODE, no_route_examples=["x", 1]), GOOD], [(1, "no_route_examples", "must be a list of strings")]),
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
def test_invalid_set_is_reported(
    lines: list[str], expected: list[tuple[int, str, str]], tmp_path: Path
) -> None:
    """Each problem has its line, its path and its fix."""
    file = write_set(tmp_path, *lines)
    with pytest.raises(ConfigError) as caught:
        read_set(file)
    assert caught.value.file == str(file)
    assert [(p.line, p.path, p.message) for p in caught.value.problems] == expected


def test_all_problems_of_a_set_are_reported_together(tmp_path: Path) -> None:
    """They are in the order of lines."""
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


def test_missing_set_is_refused(tmp_path: Path) -> None:
    """The error has the reason of the system; a folder is refused as well."""
    for file, why in ((tmp_path / "no.jsonl", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=f"cannot read the file: .*{why}") as caught:
            read_set(file)
        assert caught.value.file == str(file)


def test_set_must_be_utf_8(tmp_path: Path) -> None:
    """The error has the position of the first invalid byte."""
    file = tmp_path / "set.jsonl"
    file.write_bytes(f"{HEAD}\n".encode() + b"\xff")
    with pytest.raises(
        ConfigError, match=r"cannot read the file: it is not UTF-8, at byte \d+; save it as UTF-8"
    ):
        read_set(file)


def test_accuracy_and_decided_are_shares() -> None:
    """Three of four best routes and three of six decisions are right."""
    result = evaluation_of(*OUTCOMES)
    assert result.accuracy == pytest.approx(3 / 4)
    assert result.decided == pytest.approx(3 / 6)
    assert [outcome.right for outcome in OUTCOMES] == [True, False, True, True, False, False]
    assert result.latency_ms(0.5) == pytest.approx(3.5)
    assert result.latency_ms(1.0) == pytest.approx(6)


def test_confusion_counts_expected_and_decided() -> None:
    """Precision and recall follow from it."""
    result = evaluation_of(*OUTCOMES, names=("a", "b", "c"))
    assert result.confusion() == Counter(
        [("a", "a"), ("a", "b"), ("a", NO_ROUTE), ("b", "b"), (NO_ROUTE, "a"), (NO_ROUTE, NO_ROUTE)]
    )
    assert list(result.by_route()) == [
        RouteQuality("a", 1 / 2, 1 / 3, 3),
        RouteQuality("b", 1 / 2, 1, 1),
        RouteQuality("c", None, None, 0),
        RouteQuality(NO_ROUTE, 1 / 2, 1 / 2, 2),
    ]


def test_thresholds_trade_accuracy_for_no_match() -> None:
    """From 0 to 1 fewer right routes remain, and more cases without a route are found."""
    result = evaluation_of(*OUTCOMES)
    rows = {row.min_confidence: (row.accuracy, row.no_match_found) for row in result.thresholds()}
    assert list(rows) == pytest.approx([step / 50 for step in range(51)])
    assert rows[0.0] == rows[0.1] == (3 / 4, 0.0)  # a score that is equal is enough
    assert rows[0.12] == rows[0.3] == (3 / 4, 1 / 2)
    assert rows[0.32] == rows[0.4] == (2 / 4, 1 / 2)
    assert rows[0.42] == rows[0.5] == (2 / 4, 1.0)
    assert rows[0.92] == rows[1.0] == (0.0, 1.0)
    assert result.recommended() == 0.42


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
    """It counts how often a case with a route scores higher than one without; a tie is half."""
    outcomes = [outcome("a", "a", score, "a") for score in inside]
    outcomes += [outcome(None, "a", score, "a") for score in outside]
    assert evaluation_of(*outcomes).auroc() == pytest.approx(expected)


@pytest.mark.parametrize("kept", [OUTCOMES[:4], OUTCOMES[4:]])
def test_thresholds_need_both_kinds_of_cases(kept: tuple[CaseOutcome, ...]) -> None:
    """The other figures do not need them."""
    result = evaluation_of(*kept)
    assert (result.thresholds(), result.recommended(), result.auroc()) == ([], None, None)
    assert result.decided == pytest.approx(1 / 2)
    assert result.accuracy == (3 / 4 if kept == OUTCOMES[:4] else 0.0)


@pytest.fixture(scope="module")
def engine() -> EmbeddingEngine:
    return EmbeddingEngine(EmbeddingSettings(min_confidence=0.2), TopicModel())


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
    """Outcomes are in the order of the cases, and all pass through the progress."""
    read, progress = labelled(tmp_path), Progress()
    result = evaluate(read, EmbeddingSettings(), progress, engine)
    assert [outcome.case for outcome in result.outcomes] == list(read.cases) == progress.seen
    assert (result.accuracy, result.decided) == (1.0, 1.0)
    assert all(outcome.seconds > 0 for outcome in result.outcomes)
    assert (result.labelled, result.settings, result.draws) == (read, EmbeddingSettings(), ())
    assert result.collisions == ()


def test_examples_of_no_route_are_measured(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """They take from the scores of the routes, most of it from texts like them."""
    plain = labelled(tmp_path)
    taught = replace(plain, no_route_examples=tuple(text for text, route in PROMPTS if not route))
    scores = [
        [outcome.score or 0.0 for outcome in result.outcomes]
        for result in (
            evaluate(one, EmbeddingSettings(), Progress(), engine) for one in (plain, taught)
        )
    ]
    assert all(less <= score for score, less in zip(*scores, strict=True))
    assert all(less < score / 2 for score, less in list(zip(*scores, strict=True))[-2:])


@pytest.mark.parametrize("expect", [None, "code"])
def test_case_without_text_matches_no_route(
    expect: str | None, engine: EmbeddingEngine, tmp_path: Path
) -> None:
    """As in the gateway, no engine is called; an expected route counts as missed."""
    silent: list[Json] = [
        [],
        [{"role": "assistant", "content": "Write code"}],
        [{"role": "user", "content": "<system-reminder>Write code</system-reminder>"}],
    ]
    more = [line("", expect, messages=messages) for messages in silent]
    result = evaluate(labelled(tmp_path, *more), EmbeddingSettings(), Progress(), engine)
    kept = result.outcomes[len(PROMPTS) :]
    assert [(o.best, o.score, o.decided, o.right) for o in kept] == [(NO_ROUTE, 0, None, False)] * 3
    assert result.accuracy == pytest.approx(1.0 if expect is None else 7 / 10)
    assert result.decided == pytest.approx(1.0 if expect is None else 9 / 12)


def test_similar_descriptions_are_collisions(tmp_path: Path) -> None:
    """The most similar pair comes first, each pair once."""
    engine = EmbeddingEngine(EmbeddingSettings())
    verse = {"name": "poetry", "description": POEMS["description"]}
    other = {"name": "poem", "description": "poems, lyrics of songs and rhymes"}
    file = write_set(tmp_path, json.dumps({"routes": [CODE, POEMS, verse, other]}), GOOD)
    result = evaluate(read_set(file), EmbeddingSettings(), Progress(), engine).collisions
    assert {frozenset((pair.route, pair.other)) for pair in result} == {
        frozenset(pair) for pair in (("poems", "poetry"), ("poems", "poem"), ("poetry", "poem"))
    }
    cosines = [pair.cosine for pair in result]
    assert cosines == sorted(cosines, reverse=True)
    assert all(COLLIDING <= cosine <= 1.0001 for cosine in cosines)


def test_drawn_cases_are_not_counted(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """One case of eight is always missed unless it is drawn, so the share shows how many count."""
    read = labelled(tmp_path, MISSED)
    drawn = {count: draw_examples(read, engine, count, 12) for count in (0, 1, 9)}
    assert {count: set(draws.accuracies) for count, draws in drawn.items()} == {
        0: {7 / 8},
        1: {5 / 6, 1.0},
        9: {1 / 2, 1.0},
    }
    assert [draws.examples for draws in drawn.values()] == [0, 1, 9]


def test_draws_are_reproducible(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """Each draw has its own seed, so that more draws begin with the same ones."""
    read = labelled(tmp_path, MISSED)
    some = draw_examples(read, engine, 1, 30)
    more = draw_examples(read, engine, 1, 35)
    assert len(set(some.accuracies)) == 2
    assert (len(more.accuracies), more.accuracies[:30]) == (35, some.accuracies)
    assert some.mean == pytest.approx(sum(some.accuracies) / 30)


def test_drawn_examples_replace_those_of_the_set(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """Nothing else of the routes changes."""
    read = labelled(tmp_path)
    taught = replace(
        read, routes=tuple(replace(route, examples=("x", "y")) for route in read.routes)
    )
    drawn = [draw_examples(one, engine, 2, 2).accuracies for one in (read, taught)]
    assert drawn[0] == drawn[1]


def test_case_without_text_is_never_drawn(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """It counts as missed."""
    read = labelled(tmp_path, line(" ", "code"))
    assert draw_examples(read, engine, 0, 1).accuracies == (7 / 8,)
    assert draw_examples(read, engine, 9, 1).accuracies == (2 / 3,)
