"""The threshold in force: configured, corrected, or picked for a wanted error rate."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.cli.summary import snapshot_warnings, summary, summary_json
from serve_app.config.calibration_file import read_calibration
from serve_app.config.locations import ConfigError
from serve_app.engines import threshold
from serve_app.engines.embedding.identity import ERROR_CURVE, engine_hash
from serve_app.engines.threshold import ThresholdInForce
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.scoring.calibration import Calibration, DecisionRule
from serve_app.snapshot import Snapshot
from tests.unit.config.calibrations import calibration_fields, point, write_calibration_file
from tests.unit.config_texts import VERSION
from tests.unit.fakes import snapshot_of

ROUTES: Final = """
model_providers: [{model: openai/a, access_key: x, default: true}]
routing_preferences: [{name: code, description: programs, models: [openai/a]}]
"""
VLLM: Final = "engine: vllm, model: /w/router, calibration: calibration.json"


def compiled(directory: Path, section: str) -> Snapshot:
    return snapshot_of(directory, f"{VERSION}{ROUTES}orchestrator: {{{section}}}\n")


def in_force(directory: Path, section: str) -> ThresholdInForce:
    return compiled(directory, section).threshold


def problems_of(directory: Path, section: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compiled(directory, section)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A curve in place of the packaged one, so that no figure depends on the bundled model."""
    folder = tmp_path / "packaged"
    folder.mkdir()
    file = write_calibration_file(folder)
    monkeypatch.setattr(threshold, "ERROR_CURVE", file)
    return file


def test_configured_threshold_is_in_force(tmp_path: Path) -> None:
    """Without a calibration the engine decides by itself."""
    found = in_force(tmp_path, "min_confidence: 0.3, min_margin: 0.1")
    assert found == ThresholdInForce(0.3, 0.1)
    assert found.text == "min_confidence 0.3, min_margin 0.1"


def test_calibration_is_relative_to_the_configuration(tmp_path: Path) -> None:
    """It corrects probabilities, and leaves the configured thresholds as they are."""
    write_calibration_file(tmp_path, temperature=1.5, none_shift=-0.5)
    found = in_force(
        tmp_path, "calibration: calibration.json, min_confidence: 0.3, min_margin: 0.1"
    )
    rule = DecisionRule(0.3, 0.1, Calibration(1.5, -0.5))
    assert (found.rule, found.embedded_rule) == (rule, rule)
    assert (found.min_confidence, found.max_error, found.warnings) == (0.3, None, ())


def test_max_error_picks_the_threshold_from_the_calibration(tmp_path: Path) -> None:
    """All parts of the gateway see it as min_confidence."""
    write_calibration_file(tmp_path, temperature=2.0)
    snapshot = compiled(tmp_path, "calibration: calibration.json, max_error: 0.1")
    found = snapshot.threshold
    assert found.rule == DecisionRule(0.4, 0.0, Calibration(2.0))
    assert found.text == (
        "min_confidence 0.4, min_margin 0, picked for max_error 0.1 from calibration.json: "
        "40 of 600 routed conversations were wrong"
    )
    assert snapshot.config.orchestrator.min_confidence == 0.4
    assert f"threshold {found.text}" in summary(snapshot)
    assert summary_json(snapshot)["threshold"] == {
        "min_confidence": 0.4,
        "min_margin": 0.0,
        "max_error": 0.1,
        "source": "calibration.json",
        "error": pytest.approx(40 / 600),
        "error_at_most": 1.0,
    }


def test_packaged_curve_is_used_without_a_calibration(tmp_path: Path, packaged: Path) -> None:
    """It belongs to the bundled model alone."""
    found = in_force(tmp_path, "max_error: 0.05")
    assert (found.min_confidence, found.source) == (0.8, "the packaged error curve")
    assert found.rule == found.embedded_rule == DecisionRule(0.8)
    assert problems_of(tmp_path, "max_error: 0.05, model: x.onnx") == [
        (
            "orchestrator.max_error: the error rates of this model are unknown; calibrate it with "
            "`fingerpost eval SET --calibrate` and name the file in `calibration:`, or set "
            "min_confidence instead"
        )
    ]


def test_packaged_curve_can_be_read() -> None:
    """It is one of the bundled model, whose read-out is fitted already."""
    file = read_calibration(ERROR_CURVE)
    assert (file.engine, file.model, file.temperature, file.none_shift) == ("embedding", None, 1, 0)
    assert file.curve[0].min_confidence == 0.0
    assert file.curve[-1].min_confidence == 1.0


def test_error_that_no_threshold_keeps_is_a_warning(tmp_path: Path, packaged: Path) -> None:
    """The strictest threshold is in force then."""
    snapshot = compiled(tmp_path, "max_error: 0.01")
    found = snapshot.threshold
    assert (found.min_confidence, found.picked) == (1.0, None)
    assert found.text.endswith(
        "picked for max_error 0.01 from the packaged error curve, where no threshold keeps it"
    )
    (warning,) = found.warnings
    assert warning == (
        "orchestrator.max_error: no threshold of the packaged error curve keeps 0.01 with 90 % "
        "confidence, so the strictest one, 1, is used and hardly anything is routed; raise "
        "max_error, or calibrate with more conversations"
    )
    assert warning in snapshot_warnings(snapshot)
    assert summary_json(snapshot)["threshold"]["error_at_most"] is None


def test_calibration_of_other_weights_is_a_warning(tmp_path: Path) -> None:
    """That of the same ones is not, nor one without a hash."""
    section = compiled(tmp_path, "threads: 1")
    known = engine_hash(section.config.orchestrator)
    for model_hash, count in ((known, 0), (None, 0), ("0123456789abcdef", 1)):
        write_calibration_file(tmp_path, model_hash=model_hash)
        warnings = in_force(tmp_path, "calibration: calibration.json").warnings
        assert len(warnings) == count
    assert warnings[0].startswith(
        "orchestrator.calibration: calibration.json was made with other weights or settings"
    )


def test_packaged_curve_of_other_weights_is_a_warning_of_max_error(
    tmp_path: Path, packaged: Path
) -> None:
    """No calibration is configured that the warning could name."""
    packaged.write_text(json.dumps(calibration_fields(model_hash="0123456789abcdef")), "utf-8")
    (warning,) = in_force(tmp_path, "max_error: 0.1").warnings
    assert warning.startswith(
        "orchestrator.max_error: the packaged error curve was made with other"
    )


def test_other_margin_and_a_second_engine_are_warnings(tmp_path: Path, packaged: Path) -> None:
    """The errors were measured without them."""
    better = "when_unsure: {engine: http, model: m, base_url: 'http://127.0.0.1:9'}"
    warnings = in_force(tmp_path, f"max_error: 0.1, min_margin: 0.2, {better}").warnings
    assert [warning.partition(";")[0] for warning in warnings] == [
        (
            "orchestrator.max_error: the packaged error curve was measured with min_margin 0, but 0.2 "
            "is configured"
        ),
        "orchestrator.max_error: it limits the errors of engine embedding alone",
    ]


def test_embedded_engine_that_stands_in_has_a_threshold_of_its_own(
    tmp_path: Path, packaged: Path
) -> None:
    """It is picked for the same error from the packaged curve."""
    packaged.write_text(json.dumps(calibration_fields(none_shift=0.5)), "utf-8")
    curve = [point(0.0, 1000, 20), point(0.5, 500, 5)]
    write_calibration_file(tmp_path, engine="vllm", model="router", curve=curve)
    found = in_force(tmp_path, f"{VLLM}, max_error: 0.1")
    assert found.rule == DecisionRule(0.0)
    assert found.embedded_rule == DecisionRule(0.4, 0.0, Calibration(1.0, 0.5))
    assert in_force(tmp_path, VLLM).embedded_rule is None


def test_vllm_reads_all_probabilities_where_they_are_needed(tmp_path: Path) -> None:
    """The mode auto would leave some out under load; a chosen mode is kept."""
    write_calibration_file(tmp_path, engine="vllm", model="router")
    for section, mode in ((VLLM, "trie"), ("engine: vllm, model: /w/router", "auto")):
        configured = compiled(tmp_path, section).config.orchestrator
        assert VllmSettings.from_section(configured).mode == mode


@pytest.mark.parametrize(
    ("section", "fields", "problem"),
    [
        (
            "max_error: 0.1, min_confidence: 0.2",
            {},
            "orchestrator: max_error picks min_confidence; remove one of the two",
        ),
        (
            "max_error: 0.1, engine: http, model: m, base_url: 'http://127.0.0.1:9'",
            {},
            (
                "orchestrator.max_error: engine http does not return the probability of every route, as "
                "embedding, embeddings, decision, and vllm with mode trie do; remove this key, or use another engine"
            ),
        ),
        (
            f"{VLLM}, mode: json",
            {},
            "orchestrator.calibration: engine vllm with mode json does not return the probability",
        ),
        (
            VLLM,
            {},
            "orchestrator.calibration: made with engine embedding, not vllm; calibrate it with",
        ),
        (
            VLLM,
            {"engine": "vllm", "model": "other"},
            "orchestrator.calibration: made with other, not router; calibrate it with",
        ),
        (
            "calibration: calibration.json, model: x.onnx",
            {},
            "orchestrator.calibration: made with the bundled model, not x.onnx; calibrate it with",
        ),
        (
            "calibration: calibration.json",
            {"model": "x.onnx"},
            "orchestrator.calibration: made with x.onnx, not the bundled model; calibrate it with",
        ),
        (
            "calibration: calibration.json",
            {"cases": 0, "temperature": 0.0, "confidence": 2.0, "min_margin": 2.0, "curve": []},
            (
                "orchestrator.calibration: {here}/calibration.json: cases: must be at least 1; "
                "temperature: must be at least 0.05; min_margin: must be at most 1; and 2 more problems"
            ),
        ),
        (
            "calibration: missing.json",
            {},
            "orchestrator.calibration: {here}/missing.json: cannot read the file: No such file or",
        ),
    ],
)
def test_calibration_that_does_not_fit_is_a_problem(
    section: str, fields: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    """It names the key, what is wrong, and what to do."""
    write_calibration_file(tmp_path, **fields)
    (found,) = problems_of(tmp_path, section)
    assert found.startswith(problem.format(here=tmp_path))
