"""``fingerpost tune``, and what other commands say of its file."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from serve_app.cli import tune
from serve_app.cli.main import main
from serve_app.config.tuned_file import read_tuned
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from tests.unit.config_texts import VERSION
from tests.unit.evaluation.colour_model import (
    NAMES,
    case,
    colour_cases,
    colour_engine,
    colour_set,
    write_colours,
)

ROUTES: Final = "\n".join(
    f'  - {{name: {name}, description: "about {name}", models: [openai/a]}}' for name in NAMES
)
CONFIG: Final = f"""{VERSION}
model_providers:
  - {{model: openai/a, default: true}}
routing_preferences:
{ROUTES}
"""

Run = Callable[..., tuple[int, str, str]]
"""A command's exit status, and what it wrote to both outputs."""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return command


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> list[EmbeddingSettings]:
    """Engines have a model made of colours; their settings are kept."""
    made: list[EmbeddingSettings] = []

    def engine(settings: EmbeddingSettings) -> EmbeddingEngine:
        made.append(settings)
        return colour_engine(settings)

    monkeypatch.setattr(tune, "EmbeddingEngine", engine)
    return made


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG, "utf-8")
    return file


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write_colours(tmp_path, colour_set(*colour_cases(10)))


def failed(result: tuple[int, str, str]) -> str:
    """The standard error of a command that failed; it has no other output and no traceback."""
    status, out, err = result
    assert (status, out) == (1, "")
    assert "Traceback" not in err
    return err


@pytest.mark.usefixtures("colours")
def test_file_is_written_and_applies(
    run: Run, config: Path, labelled: Path, tmp_path: Path
) -> None:
    """The configuration names it, relative to itself, and ``check`` says what it promises."""
    status, out, err = run("tune", labelled, "--config", config, "-o", tmp_path / "learned.json")
    assert (status, err) == (0, "")
    assert out.startswith(f"{labelled}: 3 routes, 30 conversations with a route, 10 without\n\n")
    assert out.endswith(f"written to {tmp_path}/learned.json; name it in orchestrator.tuned\n")
    found = read_tuned(tmp_path / "learned.json").cross_validation
    assert f"{found.became_right} became right, {found.became_wrong} became wrong\n" in out
    config.write_text(CONFIG + "orchestrator: {tuned: learned.json}\n", "utf-8")
    status, out, _ = run("check", config, "--strict")
    assert "warning: orchestrator.tuned" not in out
    assert (
        f"tuned learned.json: 3 of 3 routes, decided right {found.before.decided:.3f} -> "
        f"{found.after.decided:.3f} in cross-validation of 40 conversations\n"
    ) in out


@pytest.mark.usefixtures("colours")
def test_set_and_its_routes_are_enough(
    run: Run, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is tuned.json in the current folder, the same as with the configuration's routes."""
    monkeypatch.chdir(tmp_path)
    assert run("tune", labelled)[0] == 0
    (tmp_path / "gateway.yaml").write_text(CONFIG, "utf-8")
    assert run("tune", labelled, "--config", "gateway.yaml", "-o", "other.json")[0] == 0
    assert read_tuned(Path("tuned.json")) == read_tuned(Path("other.json"))


def test_settings_of_the_engine_come_from_the_configuration(
    run: Run, config: Path, labelled: Path, colours: list[EmbeddingSettings], tmp_path: Path
) -> None:
    """Except an earlier file, which would be learned from, and a second look."""
    section = "{min_confidence: 0.3, threads: 2, tuned: old.json, reranker: folder}"
    config.write_text(f"{CONFIG}orchestrator: {section}\n", "utf-8")
    assert run("tune", labelled, "--config", config, "-o", tmp_path / "new.json")[0] == 0
    assert colours == [EmbeddingSettings(min_confidence=0.3, threads=2)]


@pytest.mark.usefixtures("colours")
def test_what_is_not_better_is_not_written(run: Run, tmp_path: Path) -> None:
    """The report is printed, and the reason goes to standard error."""
    cases = [case(f"{colour} 1", name) for colour in ("red", "green") for name in NAMES]
    labelled = write_colours(tmp_path, colour_set(*cases))
    status, out, err = run("tune", labelled, "-o", tmp_path / "tuned.json")
    assert (status, (tmp_path / "tuned.json").exists()) == (1, False)
    assert "decided right" in out
    assert "written to" not in out
    assert err.startswith("nothing is written: not better by more than chance (")


@pytest.mark.usefixtures("colours")
def test_routes_that_the_configuration_lacks_fail(run: Run, config: Path, tmp_path: Path) -> None:
    """Each has a line; routes that only the configuration has are named as ones with few."""
    unknown = colour_set(*colour_cases(3), routes=(*NAMES, "four", "five"))
    file = write_colours(tmp_path, unknown)
    problem = f"no route of this name in {config}; rename it, or add the route there"
    assert failed(run("tune", file, "--config", config)) == (
        f"{file} has 2 problems:\n  line 1: routes 'four': {problem}\n"
        f"  line 1: routes 'five': {problem}\n"
    )
    more = CONFIG + "  - {name: six, description: about six, models: [openai/a]}\n"
    config.write_text(more, "utf-8")
    file = write_colours(tmp_path, colour_set(*colour_cases(10)))
    _, out, _ = run("tune", file, "--config", config, "-o", tmp_path / "tuned.json")
    assert "fewer than 3 conversations: six (0); label more\n" in out


@pytest.mark.usefixtures("colours")
def test_unknown_route_of_a_conversation_fails(run: Run, tmp_path: Path) -> None:
    """As for ``fingerpost eval``."""
    file = write_colours(tmp_path, colour_set(case("red 1", "seven")))
    assert failed(run("tune", file)) == (
        f"{file} has 1 problem:\n  line 2: expect: must be a route of line 1 or null, not 'seven'\n"
    )


@pytest.mark.usefixtures("colours")
@pytest.mark.parametrize("count", [0, 4])
def test_too_few_conversations_fail(count: int, run: Run, tmp_path: Path) -> None:
    """Nothing could be better by more than chance; those without text do not count."""
    cases = [case(f"red {number}", "one") for number in range(count)] + [case(" ", "one")]
    file = write_colours(tmp_path, colour_set(*cases))
    assert failed(run("tune", file)) == (
        f"{file} has 1 problem:\n  {count} conversations can be used; add at least 5\n"
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "{engine: http, model: m, base_url: 'http://127.0.0.1:9/v1'}",
            "orchestrator.engine: engine http cannot be tuned; only the embedded engine can",
        ),
        ("{calibration: c.json}", "orchestrator.calibration: it was made without what would be"),
    ],
)
def test_engine_that_cannot_be_tuned_fails(
    section: str, message: str, run: Run, config: Path, labelled: Path
) -> None:
    """Before anything is embedded."""
    curve = [{"min_confidence": 0.1, "routed": 1, "wrong": 0, "error": 0.0, "error_at_most": 1.0}]
    figures = {"negative_log_likelihood": 1.0, "calibration_error": 0.1}
    calibration = {
        "format": 1, "engine": "embedding", "model": None, "model_hash": None, "cases": 1,
        "temperature": 1.0, "none_shift": 0.0, "before": figures, "after": figures,
        "min_margin": 0.0, "confidence": 0.9, "curve": curve,
    }  # fmt: skip
    (config.parent / "c.json").write_text(json.dumps(calibration), "utf-8")
    config.write_text(f"{CONFIG}orchestrator: {section}\n", "utf-8")
    assert message in failed(run("tune", labelled, "--config", config))


def test_configuration_without_routes_fails(run: Run, config: Path, labelled: Path) -> None:
    """The error names the missing key."""
    config.write_text(CONFIG.partition("routing_preferences")[0], "utf-8")
    assert failed(run("tune", labelled, "--config", config)) == (
        f"{config} has 1 problem:\n  routing_preferences: no routes; add one with its models\n"
    )


@pytest.mark.usefixtures("colours")
def test_file_that_cannot_be_written_fails(run: Run, labelled: Path) -> None:
    """After the report."""
    status, out, err = run("tune", labelled, "-o", "/no/tuned.json")
    assert (status, "decided right" in out) == (1, True)
    assert err == (
        "/no/tuned.json has 1 problem:\n  --output: cannot write the file: No such file or "
        "directory\n"
    )


@pytest.mark.usefixtures("colours")
def test_check_warns_of_what_does_not_apply(
    run: Run, config: Path, labelled: Path, tmp_path: Path
) -> None:
    """A changed route, a file that is missing, and another engine; as JSON, too."""
    assert run("tune", labelled, "--config", config, "-o", tmp_path / "tuned.json")[0] == 0
    changed = CONFIG.replace("about two", "all about two")
    config.write_text(changed + "orchestrator: {tuned: tuned.json}\n", "utf-8")
    _, out, _ = run("check", config)
    assert out.count("warning: orchestrator.tuned is ignored") == 1
    assert "warning: orchestrator.tuned is ignored for route 'two': it has other texts" in out
    config.write_text(CONFIG + "orchestrator: {tuned: no.json}\n", "utf-8")
    _, out, _ = run("check", config, "--json")
    warnings = json.loads(out)["warnings"]
    assert [text for text in warnings if "tuned" in text] == [
        (
            f"orchestrator.tuned is ignored: {tmp_path}/no.json: cannot read the file: No such file "
            "or directory; make it with `fingerpost tune`"
        )
    ]
    vllm = "orchestrator: {engine: vllm, model: m, tuned: tuned.json}\n"
    config.write_text(CONFIG + vllm, "utf-8")
    _, out, _ = run("check", config)
    assert out.count("orchestrator.tuned is ignored: engine vllm") == 1


HEAD: Final = {
    "routes": [
        {"name": "ours", "description": "questions about project Heron"},
        {"name": "theirs", "description": "questions about project Egret"},
    ]
}
WORDS: Final = {
    "ours": ("blueprint", "turbine", "gearbox", "rotor", "welding", "torque", "bearing", "crane"),
    "theirs": ("recipe", "flour", "oven", "butter", "dough", "yeast", "pastry", "sugar"),
    None: ("sonnet", "football", "passport", "guitar", "rain", "laundry", "chess", "dentist"),
}


def test_bundled_engine_learns_what_no_description_says(run: Run, tmp_path: Path) -> None:
    """Which project builds machines and which one bakes; in less than ten seconds."""
    lines = [json.dumps(HEAD)]
    for name, words in WORDS.items():
        for word in words:
            messages = [{"role": "user", "content": f"what about the {word} ?"}]
            lines.append(json.dumps({"messages": messages, "expect": name}))
    file = tmp_path / "set.jsonl"
    file.write_text("\n".join(lines), "utf-8")
    config = tmp_path / "gateway.yaml"
    routes = [{**route, "models": ["openai/a"]} for route in HEAD["routes"]]
    text = (
        f"{CONFIG.partition('routing_preferences')[0]}routing_preferences: {json.dumps(routes)}\n"
    )
    config.write_text(text, "utf-8")
    started = time.perf_counter()
    status, out, _ = run("tune", file, "--config", config, "-o", tmp_path / "tuned.json")
    assert time.perf_counter() - started < 10
    assert status == 0, out
    learned = read_tuned(tmp_path / "tuned.json")
    assert learned.dimensions == 384
    assert learned.cross_validation.after.accuracy > learned.cross_validation.before.accuracy
    scores = {}
    for name in ("plain", "tuned"):
        extra = "orchestrator: {tuned: tuned.json}\n" if name == "tuned" else ""
        config.write_text(text + extra, "utf-8")
        status, out, err = run("route", "the shaft of the engine", "--json", "--config", config)
        assert (status, err) == (0, "")
        scores[name] = json.loads(out)["orchestrator"]["scores"]
    lead = {name: own["ours"] - own["theirs"] for name, own in scores.items()}
    assert lead["tuned"] > lead["plain"]
    report = json.loads(run("eval", file, "--config", config, "--json")[1])
    assert report["decided"] > learned.cross_validation.before.decided
