"""``fingerpost eval --calibrate``, and what a calibration changes in other commands."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.cli import eval as command
from serve_app.cli import route
from serve_app.cli.main import main
from serve_app.config.calibration_file import read_calibration
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.scoring.calibration import Calibration
from tests.unit.config.calibrations import point, write_calibration_file
from tests.unit.config_texts import VERSION
from tests.unit.evaluation.labelled_sets import HEAD, PROMPTS, TopicModel, line, write_set

ROUTES: Final = f"""{VERSION}
model_providers: [{{model: openai/a, access_key: x, default: true}}]
routing_preferences:
  - {{name: code, description: "writing, explaining and debugging code", models: [openai/a]}}
  - {{name: poems, description: "poems, song lyrics and rhymes", models: [openai/a]}}
"""
SONNET: Final = "Write a sonnet about autumn"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _topic_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure depends on the bundled weights."""

    def engine(settings: EmbeddingSettings) -> EmbeddingEngine:
        return EmbeddingEngine(settings, TopicModel())

    monkeypatch.setattr(command, "EmbeddingEngine", engine)
    monkeypatch.setattr(route, "EmbeddingEngine", engine)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """81 cases, of which the last three of nine match no route."""
    lines = [line(f"{text} {number}", label) for number in range(9) for text, label in PROMPTS]
    return write_set(tmp_path, HEAD, *lines)


def configured(directory: Path, section: str) -> Path:
    file = directory / "gateway.yaml"
    file.write_text(f"{ROUTES}orchestrator: {{{section}}}\n", "utf-8")
    return file


def test_calibration_is_written_and_used(run: Run, cases: Path, tmp_path: Path) -> None:
    """`check` and `route` use the file that `eval` wrote."""
    file = tmp_path / "mine.json"
    status, out, err = run("eval", cases, "--calibrate", "-o", file)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{cases}: 81 cases, engine embedding"
    assert lines[2] == "cross-validated             before  after"
    assert lines[5].startswith("temperature ")
    assert lines[7] == "max_error  min_confidence  routed  error  at most"
    assert lines[-1] == f"written to {file}; name it in orchestrator.calibration"
    made = read_calibration(file)
    assert (made.engine, made.model, made.cases) == ("embedding", None, 81)
    assert made.after.negative_log_likelihood < made.before.negative_log_likelihood
    config = configured(tmp_path, "calibration: mine.json, max_error: 0.3")
    status, out, err = run("check", config)
    assert (status, err, "picked for max_error 0.3 from mine.json" in out) == (0, "", True)


def test_calibration_is_printed_as_json(
    run: Run, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the content of the file, which has a name of its own by default."""
    monkeypatch.chdir(tmp_path)
    status, out, err = run("eval", cases, "--calibrate", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == json.loads((tmp_path / "calibration.json").read_text("utf-8"))


def test_errors_are_measured_without_a_fit(run: Run, cases: Path, tmp_path: Path) -> None:
    """The file changes no probability then."""
    file = tmp_path / "c.json"
    status, out, _ = run("eval", cases, "--calibrate", "--no-fit", "-o", file)
    assert status == 0
    assert "temperature 1.000, none shift 0.000\n" in out
    assert read_calibration(file).temperature == 1.0


def test_correction_that_does_not_help_is_said(
    run: Run, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probabilities stay as they are."""
    monkeypatch.setattr("serve_app.evaluation.calibrate.fit", lambda _: Calibration(20.0, 5.0))
    status, out, _ = run("eval", cases, "--calibrate", "-o", tmp_path / "c.json")
    assert status == 0
    assert "probabilities stay as they are: a correction does not help on other cases\n" in out
    assert "-: no threshold keeps it with 90 % confidence" in out


def test_several_sets_are_calibrated_together(run: Run, cases: Path, tmp_path: Path) -> None:
    """More than three are counted instead of named."""
    status, out, _ = run("eval", *[cases] * 2, "--calibrate", "-o", tmp_path / "c.json")
    assert (status, out.splitlines()[0]) == (
        0,
        f"{cases}, {cases}: 162 cases, engine embedding",
    )
    status, out, _ = run("eval", *[cases] * 5, "--calibrate", "-o", tmp_path / "c.json")
    assert (status, out.splitlines()[0]) == (0, "5 sets: 405 cases, engine embedding")


def test_section_of_the_configuration_is_calibrated(run: Run, cases: Path, tmp_path: Path) -> None:
    """Its own calibration is not used for that, and its margin is."""
    write_calibration_file(tmp_path, temperature=5.0)
    fields = []
    for section in ("min_margin: 0.2", "min_margin: 0.2, calibration: calibration.json"):
        file = tmp_path / "new.json"
        config = configured(tmp_path, section)
        assert run("eval", cases, "--config", config, "--calibrate", "-o", file)[0] == 0
        fields.append(json.loads(file.read_text("utf-8")))
    assert fields[0] == fields[1]
    assert fields[0]["min_margin"] == 0.2


def report_of(run: Run, *arguments: object) -> Any:
    status, out, err = run("eval", *arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_calibration_of_the_configuration_is_measured(
    run: Run, cases: Path, tmp_path: Path
) -> None:
    """So is the threshold that was picked for max_error, unless an option overrides it."""
    curve = [point(0.0, 1000, 400), point(0.95, 600, 10), point(1.0, 0, 0)]
    write_calibration_file(tmp_path, temperature=10.0, curve=curve)
    plain = report_of(run, cases)
    config = configured(tmp_path, "calibration: calibration.json, max_error: 0.1")
    other = report_of(run, cases, "--config", config)
    assert other["settings"]["min_confidence"] == 0.95
    assert other["routed"] < plain["routed"]
    assert other["reliability"] != plain["reliability"]
    low = report_of(run, cases, "--config", config, "--min-confidence", 0.1)
    assert (low["settings"]["min_confidence"], low["routed"] > other["routed"]) == (0.1, True)
    assert low["calibration_error"] != plain["calibration_error"]


def test_calibration_of_another_model_is_not_used(run: Run, cases: Path, tmp_path: Path) -> None:
    """It belongs to the model that the configuration names."""
    write_calibration_file(tmp_path, temperature=3.0)
    config = configured(tmp_path, "calibration: calibration.json")
    other = tmp_path / "other.onnx"
    plain, same = report_of(run, cases), report_of(run, cases, "--config", config)
    unlike = report_of(run, cases, "--config", config, "--model", other)
    assert plain["calibration_error"] == unlike["calibration_error"] != same["calibration_error"]


def test_route_shows_corrected_probabilities(run: Run, tmp_path: Path) -> None:
    """A shift of no route decides otherwise."""
    write_calibration_file(tmp_path, none_shift=20.0)
    plain = run("route", SONNET, "--config", configured(tmp_path, "threads: 1"))[1]
    shifted = run(
        "route", SONNET, "--config", configured(tmp_path, "calibration: calibration.json")
    )
    assert "decided: poems " in plain
    assert "decided: no route (reason no_match" in shifted[1]


def test_other_orders_are_measured(run: Run, cases: Path) -> None:
    """The embedded engine decides the same in all of them."""
    assert report_of(run, cases)["flips"] is None
    assert report_of(run, cases, "--orders", 2)["flips"] == {"orders": 1, "share": 0.0}


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (["--no-fit"], ["--no-fit: only works with --calibrate; add that or remove it"]),
        (["-o", "x.json"], ["--output: only works with --calibrate; add that or remove it"]),
        (["{file}"], ["file: several sets only work with --calibrate; name one"]),
        (
            ["--calibrate", "--orders", "1", "--draw", "3", "--fail-under", "0.5"],
            [
                "--draw: cannot be combined with --calibrate; remove it",
                "--orders: cannot be combined with --calibrate; remove it",
                "--fail-under: cannot be combined with --calibrate; remove it",
            ],
        ),
        (
            ["--calibrate", "--engine", "vllm", "--model", "m", "--mode", "choice"],
            [
                (
                    "--calibrate: engine vllm with mode choice does not return the probability of every "
                    "route, as embedding, embeddings, decision, and vllm with mode trie do; use another engine"
                )
            ],
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str], problems: list[str], run: Run, cases: Path
) -> None:
    """Nothing is measured."""
    words = [word.format(file=cases) for word in arguments]
    status, out, err = run("eval", cases, *words)
    assert (status, out) == (1, "")
    assert [text.strip() for text in err.splitlines()[1:]] == problems


def test_set_that_is_too_small_is_refused(run: Run, tmp_path: Path) -> None:
    """The error names it, and no file is written."""
    file = write_set(tmp_path, HEAD, *(line(*prompt) for prompt in PROMPTS))
    status, out, err = run("eval", file, "--calibrate", "-o", tmp_path / "c.json")
    assert (status, out, (tmp_path / "c.json").exists()) == (1, "", False)
    assert err == (f"{file} has 1 problem:\n  9 answered cases; a calibration needs at least 50\n")


def test_file_that_cannot_be_written_is_reported(run: Run, cases: Path) -> None:
    """The problem names the option."""
    status, _, err = run("eval", cases, "--calibrate", "-o", "/no/c.json")
    assert (status, err) == (
        1,
        "/no/c.json has 1 problem:\n  --output: cannot write the file: No such file or directory\n",
    )
