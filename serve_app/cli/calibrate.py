"""``fingerpost eval --calibrate``: fits an engine's probabilities to labelled sets, and writes a file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from serve_app.cli.output import say, say_json
from serve_app.config.calibration_file import CalibrationFile
from serve_app.config.locations import ConfigError, Problem
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.engines.embedding.identity import engine_hash
from serve_app.engines.threshold import model_name
from serve_app.evaluation.calibrate import CONFIDENCE, Fitted, UncalibratableError, calibrate
from serve_app.evaluation.measure import Evaluation
from serve_app.evaluation.report import table
from serve_app.scoring.error_bound import loosest_threshold

DEFAULT_FILE: Final = Path("calibration.json")

_SHOWN_ERRORS: Final = (0.3, 0.2, 0.15, 0.1, 0.05, 0.02)
_NAMED_SETS: Final = 3


def write_calibration(
    section: OrchestratorSection,
    evaluations: Sequence[Evaluation],
    output: Path,
    *,
    fits: bool,
    json: bool,
) -> None:
    """Calibrates an engine, writes the file, and prints what it is worth. Raises ConfigError."""
    names = [evaluation.labelled.file for evaluation in evaluations]
    sets = ", ".join(names) if len(names) <= _NAMED_SETS else f"{len(names)} sets"
    try:
        fitted = calibrate(evaluations, section.min_margin, fits=fits)
    except UncalibratableError as error:
        raise ConfigError(sets, (Problem(0, "", str(error)),)) from error
    content = _file_of(section, fitted)
    try:
        output.write_text(content.as_text(), "utf-8")
    except OSError as error:
        problem = Problem(0, "--output", f"cannot write the file: {error.strerror}")
        raise ConfigError(str(output), (problem,)) from error
    if json:
        say_json(content.model_dump(mode="json"))
        return
    lines = [
        f"{sets}: {fitted.cases} cases, engine {section.engine}",
        "",
        *_worth(fitted, fits=fits),
    ]
    lines += ["", *_errors(fitted), "", f"written to {output}; name it in orchestrator.calibration"]
    say("\n".join(lines))


def _file_of(section: OrchestratorSection, fitted: Fitted) -> CalibrationFile:
    return CalibrationFile(
        format=1,
        engine=section.engine,
        model=model_name(section),
        model_hash=engine_hash(section),
        cases=fitted.cases,
        temperature=fitted.calibration.temperature,
        none_shift=fitted.calibration.none_shift,
        before=fitted.before,
        after=fitted.after,
        min_margin=section.min_margin,
        confidence=CONFIDENCE,
        curve=list(fitted.curve),
    )


def _worth(fitted: Fitted, *, fits: bool) -> Iterator[str]:
    before, after = fitted.before, fitted.after
    rows = [["cross-validated", "before", "after"]]
    for name, was, now in (
        ("negative log-likelihood", before.negative_log_likelihood, after.negative_log_likelihood),
        ("expected calibration error", before.calibration_error, after.calibration_error),
    ):
        rows.append([name, f"{was:.3f}", f"{now:.3f}"])
    yield from table(rows, right=(1, 2))
    found = fitted.calibration
    if fits and not fitted.helps:
        yield "probabilities stay as they are: a correction does not help on other cases"
    else:
        yield f"temperature {found.temperature:.3f}, none shift {found.none_shift:.3f}"


def _errors(fitted: Fitted) -> list[str]:
    """What a wanted error rate takes, by the rule of ``orchestrator.max_error``."""
    rows = [["max_error", "min_confidence", "routed", "error", "at most"]]
    for wanted in _SHOWN_ERRORS:
        point = loosest_threshold(fitted.curve, wanted, CONFIDENCE)
        if point is None:
            rows.append([f"{wanted:.2f}", "-", "-", "-", "-"])
        else:
            share, error = point.routed / fitted.cases, point.error or 0.0
            shares = (share, error, point.error_at_most)
            rows.append(
                [f"{wanted:.2f}", f"{point.min_confidence:.2f}", *map("{:.3f}".format, shares)]
            )
    note = f"-: no threshold keeps it with {100 * CONFIDENCE:g} % confidence"
    missing = any(row[1] == "-" for row in rows)
    return [*table(rows, right=range(5)), *([note] if missing else [])]
