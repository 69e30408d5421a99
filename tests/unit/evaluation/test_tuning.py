"""What is learned from labelled conversations, and what is not."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from serve_app.config.tuned_file import TunedFile, no_route_hash, route_hash
from serve_app.domain import Turn
from serve_app.engines.embedding.engine import EmbeddingEngine
from serve_app.evaluation.labelled_set import Case, LabelledSet
from serve_app.evaluation.measure import evaluate
from serve_app.evaluation.ridge import losses
from serve_app.evaluation.tuning import (
    APPROACHES,
    PLAIN,
    Approach,
    Material,
    Tuning,
    base_logits,
    choose,
    gather,
    learn,
)
from serve_app.evaluation.tuning_report import refusal, tuning_text
from serve_app.scoring.readout import GENERIC
from serve_app.scoring.tuned import Tuned
from tests.unit.evaluation.colour_model import (
    NAMES,
    SETTINGS,
    case,
    colour_cases,
    colour_engine,
    colour_set,
)


def silent(cases: Sequence[Case]) -> Iterable[Case]:
    return cases


def gathered(labelled: LabelledSet) -> Material:
    return gather(labelled, SETTINGS, colour_engine(), silent)


def tuned(labelled: LabelledSet) -> Tuning:
    return learn(gathered(labelled), "hash")


def engine_with(file: TunedFile | None) -> EmbeddingEngine:
    engine = colour_engine()
    engine.scorer.tuned = None if file is None else Tuned(file)
    return engine


def shares_right(labelled: LabelledSet, file: TunedFile | None) -> float:
    """Of other conversations: the share that is decided right, with what was learned or without."""
    return evaluate(labelled, SETTINGS, silent, engine_with(file)).decided


OTHERS = colour_set(*(case(f"{one.turns[0].text} other", one.expect) for one in colour_cases(8)))


@pytest.mark.parametrize("count", [4, 10])
def test_what_is_learned_decides_other_conversations(count: int) -> None:
    """The promise of the cross-validation is kept on conversations that were not in the set."""
    labelled = colour_set(*colour_cases(count))
    result = tuned(labelled)
    found = result.file.cross_validation
    assert result.is_better
    assert found.folds == (4 * count if count == 4 else 5)
    assert found.conversations == 4 * count
    assert (found.became_right - found.became_wrong) / (4 * count) == pytest.approx(
        found.after.decided - found.before.decided, abs=1e-5
    )
    assert shares_right(OTHERS, None) < 0.5
    assert shares_right(OTHERS, result.file) > 0.9
    assert found.after.decided > 0.85
    assert found.after.negative_log_likelihood < found.before.negative_log_likelihood
    assert found.after.calibration_error < 0.3


def test_file_is_about_the_routes_and_the_model() -> None:
    """With the number of conversations, and no more than the approach needs."""
    labelled = replace(colour_set(*colour_cases(6)), no_route_examples=("never mind",))
    result = tuned(labelled)
    file = result.file
    assert (file.model_hash, file.dimensions, file.ridge) == ("hash", 24, result.approach.ridge)
    assert {name: own.texts for name, own in file.routes.items()} == {
        one.name: route_hash(one) for one in labelled.routes
    }
    assert file.no_route is not None
    assert file.no_route.texts == no_route_hash(("never mind",))
    assert [own.conversations for own in (*file.routes.values(), file.no_route)] == [6] * 4
    for own in (*file.routes.values(), file.no_route):
        assert bool(own.weights) == (result.approach.ridge is not None)
        assert len(own.examples) == (6 if result.approach.uses_examples else 0)


def test_no_order_changes_what_is_learned() -> None:
    """Neither that of the routes nor that of the conversations, to the last digit."""
    cases = colour_cases(7)
    expected = tuned(colour_set(*cases)).file
    for seed in range(3):
        chance = random.Random(seed)
        routes = chance.sample(NAMES, len(NAMES))
        shuffled = colour_set(*chance.sample(cases, len(cases)), routes=routes)
        assert tuned(shuffled).file == expected


@pytest.mark.parametrize("with_none", [True, False])
def test_labels_by_chance_are_refused(with_none: bool) -> None:
    """There is nothing to learn from them; about one of ten seems to be better all the same."""
    cases = [one for one in colour_cases(9) if with_none or one.expect]
    accepted = 0
    for seed in range(10):
        labels = [one.expect for one in cases]
        random.Random(seed).shuffle(labels)
        wrong = [replace(one, expect=label) for one, label in zip(cases, labels, strict=True)]
        result = tuned(colour_set(*wrong))
        accepted += result.is_better
        assert result.is_better or refusal(result).startswith(
            "nothing is written: not better by more than chance ("
        )
    assert accepted <= 2


def test_conversations_of_routes_alone_teach_nothing_about_no_route() -> None:
    """It keeps its probability, or the gateway would never say again that no route matches."""
    cases = [one for one in colour_cases(10) if one.expect]
    extra = [case("grey 1", None), case("grey 2", None)]
    material = gathered(colour_set(*cases, *extra))
    assert (material.knows_none, material.left_out) == (
        False,
        {"without a route, which are too few": 2},
    )
    result = learn(material, "hash")
    assert result.file.no_route is None
    lines = tuning_text(material, result)
    assert any(line.startswith("no match stays as it is: too few") for line in lines)
    found = [
        evaluate(colour_set(*cases), SETTINGS, silent, engine_with(file)).outcomes
        for file in (None, result.file.model_copy(update={"temperature": 1.0}))
    ]
    for before, after in zip(*found, strict=True):
        assert before.scores is not None
        assert after.scores is not None
        assert after.scores.none == pytest.approx(before.scores.none, abs=2e-6)
    assert sum(one.right for one in found[1]) > sum(one.right for one in found[0])
    assert any(one.right for one in found[1])


def test_what_is_useless_is_left_out() -> None:
    """An example of a route would be decided by itself, and a duplicate by its twin."""
    labelled = colour_set(
        *colour_cases(3),
        case("red 1", "one"),
        case("red 1", "two"),  # contradicts, but is not a duplicate
        case("an example", "one"),
        case("of nothing", None),
        case("<system-reminder>red</system-reminder>", "one"),
        Case((Turn("assistant", "red"),), "one"),
        case("\u0440\u0430\u0437 \u0434\u0432\u0430 \u0442\u0440\u0438", "one"),
    )
    first, *others = labelled.routes
    routes = (replace(first, examples=("an example",)), *others)
    material = gathered(replace(labelled, routes=routes, no_route_examples=("of nothing",)))
    assert len(material.labels) == len(material.labelled.cases) == 13
    assert material.left_out == {
        "duplicate": 1,
        "also an example of a route": 2,
        "without text of the user": 2,
        "in a script that the model does not read": 1,
    }


def test_conversation_is_not_an_example_of_itself() -> None:
    """Its logits are those that it would have if the set did not hold it."""
    material = gathered(colour_set(*colour_cases(3)))
    everything = np.arange(12)
    among = base_logits(material, everything, everything)
    for row in range(12):
        others = np.array([other for other in range(12) if other != row])
        alone = base_logits(material, np.array([row]), others)
        assert among[row] == pytest.approx(alone[0])
    plain = base_logits(material, everything, everything[:0])
    assert np.abs(among - plain).max() > 0.1


@pytest.mark.parametrize("direction", [(), (-2.0, 1.0, 0.0, 3.0, *[0.5] * 20)])
def test_base_logits_are_those_of_the_engine(direction: tuple[float, ...]) -> None:
    """Training and decisions use the same read-out, with a direction of "no route" or without."""
    labelled = colour_set(*colour_cases(3))
    engine = colour_engine(readout=replace(GENERIC, none_direction=direction))
    material = gather(labelled, SETTINGS, engine, silent)
    logits = base_logits(material, np.arange(12), np.arange(0))
    for each, label, row in zip(material.labelled.cases, material.labels, logits, strict=True):
        scores = engine.scorer.score(engine.model.embed_turns(each.turns), material.labelled.routes)
        probability = [*scores.routes.values(), scores.none or 0.0][label]
        assert losses(row[None], label[None]).item() == pytest.approx(
            -np.log(probability), abs=1e-3
        )


def test_lowest_loss_decides_which_approach_is_chosen() -> None:
    """At its own temperature, and on the given rows alone; of equal ones it is the simplest."""
    labels = np.zeros(40, np.intp)
    rows = labels == np.arange(40) % 2
    chance = np.random.default_rng(0)
    plain = np.stack([chance.normal(1, 1, 40), np.zeros(40)], axis=1)
    strong = Approach(uses_examples=True, ridge=0.03)
    assert choose({PLAIN: plain, strong: plain.copy()}, labels, rows)[0] == PLAIN
    better = np.where(rows[:, None], plain + np.array([0.5, 0.0]), -9.0)
    assert choose({PLAIN: plain, strong: better}, labels, rows)[0] == strong
    assert choose({PLAIN: plain, strong: better}, labels, ~rows)[0] == PLAIN
    assert APPROACHES[0] == PLAIN


def test_few_conversations_are_named() -> None:
    """A route without any is one of them; "no route" needs none."""
    cases = [one for one in colour_cases(6) if one.expect in {"one", "two"}]
    material = gathered(colour_set(*cases[:-4], case("blue", "three"), routes=(*NAMES, "four")))
    assert material.few == {"four": 0, "three": 1, "two": 2}
    lines = tuning_text(material, learn(material, "hash"))
    assert "fewer than 3 conversations: four (0), three (1), two (2); label more" in lines
    assert not any(line.startswith("AUROC") for line in lines)
    assert any("leaving one out" in line for line in lines)


def test_many_routes_with_few_conversations_are_counted() -> None:
    """The line stays readable."""
    routes = [f"r{number:02}" for number in range(20)]
    material = gathered(colour_set(*(case(f"red {n}", routes[n]) for n in range(6)), routes=routes))
    (line,) = [one for one in tuning_text(material, learn(material, "h")) if "fewer than" in one]
    assert line.endswith("r11 (0) and 8 more; label more")


def test_report_has_all_figures_in_pairs() -> None:
    """Before and after, what became right and wrong, what was learned and the test."""
    material = gathered(colour_set(*colour_cases(10), case("red 1", "one")))
    result = learn(material, "hash")
    found = result.file.cross_validation
    lines = tuning_text(material, result)
    assert lines[:2] == [
        "mine.jsonl: 3 routes, 30 conversations with a route, 10 without",
        "left out: 1 duplicate",
    ]
    assert lines[3].split() == ["cross-validated,", "5", "folds", "before", "after"]
    pairs = [
        ("decided right", found.before.decided, found.after.decided),
        ("accuracy", found.before.accuracy, found.after.accuracy),
        ("AUROC", found.before.auroc, found.after.auroc),
        (
            "expected calibration error",
            found.before.calibration_error,
            found.after.calibration_error,
        ),
    ]
    for line, (name, before, after) in zip(lines[4:], pairs, strict=False):
        assert line.startswith(name)
        assert line.removeprefix(name).split()[:2] == [f"{before:.3f}", f"{after:.3f}"]
    assert f"{found.became_right} became right, {found.became_wrong} became wrong" in lines
    assert any(line.startswith("learned: ") for line in lines)


def test_refusal_names_decisions_that_became_wrong() -> None:
    """A higher likelihood is not worth fewer right decisions."""
    result = tuned(colour_set(*colour_cases(10)))
    found = result.file.cross_validation
    worse = found.model_copy(update={"became_right": 1, "became_wrong": 2})
    file = result.file.model_copy(update={"cross_validation": worse})
    refused = replace(result, file=file)
    assert not refused.is_better
    assert "2 decisions became wrong, and only 1 right" in refusal(refused)
    assert "learned: nothing; " in "\n".join(
        tuning_text(gathered(colour_set(*colour_cases(2))), replace(refused, approach=PLAIN))
    )
