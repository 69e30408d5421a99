"""The embedded engine with a file of ``fingerpost tune``, and what of the file does not apply."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.config.tuned_file import TunedFile
from serve_app.domain import Question, Route, Scores, Turn
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.embedding.tuned import NOTHING_TUNED, configured_tuning, model_hash
from tests.unit.evaluation.colour_model import NAMES, ColourModel
from tests.unit.scoring.embeddings import route
from tests.unit.tuned_files import learned, tuned_file

ROUTES: Final = tuple(route(name, f"about {name}") for name in NAMES)
SECTION: Final = OrchestratorSection()
RED: Final = (Turn("user", "red 1"),)


def weights(position: int) -> list[float]:
    return [9.0 * (index == position) for index in range(24)]


def file_for(section: OrchestratorSection = SECTION) -> TunedFile:
    """Red is the first route, green the second, and so on."""
    routes = {one: learned(weights=weights(index)) for index, one in enumerate(ROUTES)}
    hashed = model_hash(section)
    assert hashed is not None
    none = learned(weights=weights(3))
    return tuned_file(routes, none, dimensions=24, model_hash=hashed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tuned.json"
    file.write_text(file_for().as_text(), "utf-8")
    return file


def engine(path: Path | None) -> EmbeddingEngine:
    return EmbeddingEngine(EmbeddingSettings(tuned=path), ColourModel())


def scores(
    judge: EmbeddingEngine, routes: Sequence[Route] = ROUTES, *, is_inline: bool = False
) -> Scores:
    result = judge.score(Question(RED, tuple(routes), "k", is_inline=is_inline), lambda: True)
    assert isinstance(result, Scores)
    return result


def section(path: Path, **more: object) -> OrchestratorSection:
    return OrchestratorSection.model_validate({"tuned": str(path), **more})


def test_configured_routes_are_corrected(path: Path) -> None:
    """Whatever their order; routes in a request never are."""
    plain, tuned = engine(None), engine(path)
    for judge in (plain, tuned):
        judge.prepare(ROUTES)
    assert scores(plain).winner is None
    assert scores(tuned).winner == "one"
    assert scores(tuned, ROUTES[::-1]).routes == scores(tuned).routes
    assert scores(tuned, is_inline=True) == scores(plain)


def test_settings_of_a_section_name_the_file(path: Path) -> None:
    """Only the engine of the section has it; one that stands in for another engine does not."""
    assert EmbeddingSettings.from_section(section(path)).tuned == path
    other = section(path, engine="http", model="m", base_url="http://h")
    assert EmbeddingSettings.from_section(other).tuned is None
    assert "tuned" in other.unused
    assert configured_tuning(other, ROUTES, ()) == NOTHING_TUNED
    assert configured_tuning(SECTION, ROUTES, ()) == NOTHING_TUNED


def test_file_that_applies_is_a_fact(path: Path) -> None:
    """With what its cross-validation promises, and without a warning."""
    found = configured_tuning(section(path), ROUTES, ())
    assert (found.file, found.warnings) == (file_for(), ())
    assert found.facts == (
        (
            "tuned tuned.json: 3 of 3 routes, decided right 0.500 -> 0.750 in cross-validation of "
            "40 conversations"
        ),
    )


@pytest.mark.parametrize(
    "more", [{"max_query_tokens": 32}, {"query_prefix": "query: "}, {"passage_prefix": "x"}]
)
def test_file_of_another_model_is_ignored_with_one_warning(
    more: dict[str, object], path: Path
) -> None:
    """The weights count, and all that changes the vectors of texts."""
    found = configured_tuning(section(path, **more), ROUTES, ())
    assert (found.file, found.facts) == (None, ())
    assert found.warnings == (
        (
            "orchestrator.tuned is ignored: tuned.json was made with another model, or other "
            "max_query_tokens or prefixes; run `fingerpost tune` again"
        ),
    )


def test_model_that_cannot_be_read_is_not_another_one(path: Path, tmp_path: Path) -> None:
    """On this machine it may be missing; the machine of the engine has it."""
    other = section(path, model=str(tmp_path / "no.onnx"))
    assert model_hash(other) is None
    assert configured_tuning(other, ROUTES, ()).file is not None


def test_reranker_does_not_make_another_model(path: Path, tmp_path: Path) -> None:
    """It looks at decisions after the embedding model."""
    with_one = section(path, reranker=str(tmp_path / "reranker"))
    assert model_hash(with_one) == model_hash(SECTION)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the file: No such file or directory; make it with `fingerpost tune`"),
        ("{}", "format: missing; add `format:`; model_hash: missing; add `model_hash:`; "),
        ("no", "file is not JSON; make it with `fingerpost tune`"),
    ],
)
def test_bad_file_is_ignored_with_one_warning(
    content: str | None, message: str, tmp_path: Path
) -> None:
    """The first problems are in it."""
    file = tmp_path / "bad.json"
    if content is not None:
        file.write_text(content)
    found = configured_tuning(section(file), ROUTES, ())
    assert found.file is None
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith(f"orchestrator.tuned is ignored: {file}: {message}")


def test_changed_and_new_routes_are_named(path: Path) -> None:
    """Each has a warning of its own; the others are corrected still."""
    routes = (replace(ROUTES[0], description="more"), *ROUTES[1:], route("four", "about four"))
    found = configured_tuning(section(path), routes, ("hello",))
    assert found.file is not None
    assert found.facts[0].startswith("tuned tuned.json: 2 of 4 routes")
    assert found.warnings == (
        (
            "orchestrator.tuned is ignored for route 'one': it has other texts since tuned.json was "
            "made; run `fingerpost tune` again"
        ),
        (
            "orchestrator.tuned is ignored for route 'four': it is new since tuned.json was made; run "
            "`fingerpost tune` again"
        ),
        (
            "orchestrator.tuned is ignored for no route: no_route_examples have changed since "
            "tuned.json was made; run `fingerpost tune` again"
        ),
    )
    judge, plain = engine(path), engine(None)
    judge.prepare(routes, ("hello",))
    before, after = (scores(one, routes).routes for one in (plain, judge))
    ratio = {name: after[name] / before[name] for name in before}
    assert ratio["one"] == pytest.approx(ratio["four"], rel=1e-3)  # neither is corrected


def test_no_route_of_the_file_is_nothing_learned(path: Path) -> None:
    """All routes have other texts."""
    others = tuple(replace(one, description="other") for one in ROUTES)
    found = configured_tuning(section(path), others, ())
    assert (found.file, found.facts, len(found.warnings)) == (None, (), 3)
    judge = engine(path)
    judge.prepare(others)
    assert scores(judge, others) == scores(engine(None), others)


def test_file_without_no_route_needs_no_warning_about_it(tmp_path: Path) -> None:
    """Nothing was learned that could be lost."""
    file = tmp_path / "tuned.json"
    file.write_text(file_for().model_copy(update={"no_route": None}).as_text())
    assert configured_tuning(section(file), ROUTES, ("hello",)).warnings == ()


def test_file_is_read_again_with_the_configuration(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each reload prepares the engine; equal warnings are logged once."""
    judge = engine(path)
    with caplog.at_level(logging.WARNING, "fingerpost"):
        judge.prepare(ROUTES)
        assert scores(judge).winner == "one"
        path.write_text("broken")
        judge.prepare(ROUTES)
        judge.prepare(ROUTES)
        assert scores(judge) == scores(engine(None))
        assert len(caplog.messages) == 1
        assert "file is not JSON" in caplog.messages[0]
        path.write_text(file_for().as_text(), "utf-8")
        judge.prepare(ROUTES)
        assert scores(judge).winner == "one"
        path.unlink()
        judge.prepare(ROUTES)
    assert len(caplog.messages) == 2
