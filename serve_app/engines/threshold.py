"""The threshold in force: from the configuration, or picked for a wanted error rate."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Final

from serve_app.config.calibration_file import CalibrationFile, CurvePoint, read_calibration
from serve_app.config.locations import ConfigError, Location
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.engines.embedding.identity import ERROR_CURVE, engine_hash
from serve_app.scoring.calibration import Calibration, DecisionRule
from serve_app.scoring.error_bound import loosest_threshold

_CALIBRATION: Final = "orchestrator.calibration"
_MAX_ERROR: Final = "orchestrator.max_error"
_PACKAGED: Final = "the packaged error curve"
_ANEW: Final = "calibrate it with `fingerpost eval SET --calibrate`"
_MAX_LISTED: Final = 3


@dataclass(frozen=True, slots=True)
class ThresholdInForce:
    """How an engine's probabilities become a decision, and where that comes from."""

    min_confidence: float
    min_margin: float
    rule: DecisionRule | None = None
    """Around the configured engine; None if it decides by itself."""
    embedded_rule: DecisionRule | None = None
    """The same around the embedded engine, which is the configured one or stands in for it."""
    max_error: float | None = None
    """The wanted error rate among the routed, if the threshold was picked for it."""
    source: str = ""
    """What the threshold was picked from, in words; empty if it is configured."""
    picked: CurvePoint | None = None
    """What the picked threshold did when it was measured; None if none keeps the wanted rate."""
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The threshold in words."""
        shown = f"min_confidence {self.min_confidence:g}, min_margin {self.min_margin:g}"
        if self.max_error is None:
            return shown
        shown += f", picked for max_error {self.max_error:g} from {self.source}"
        point = self.picked
        if point is None:
            return f"{shown}, where no threshold keeps it"
        return f"{shown}: {point.wrong} of {point.routed} routed conversations were wrong"


def threshold_in_force(
    section: OrchestratorSection,
) -> tuple[ThresholdInForce, list[tuple[Location, str]]]:
    """The threshold of a configuration whose paths are absolute, and the problems that it has."""
    configured = ThresholdInForce(section.min_confidence, section.min_margin)
    if not section.needs_probabilities:
        return configured, []
    if not section.has_probabilities:
        key = "calibration" if section.max_error is None else "max_error"
        message = f"{no_probabilities(section)}; remove this key, or use another engine"
        return configured, [(("orchestrator", key), message)]
    place = ("orchestrator", "calibration")
    try:
        file, source = _file_of(section)
    except ConfigError as error:
        return configured, [(place, _unreadable(error))]
    if file is None:
        message = (
            f"the error rates of this model are unknown; {_ANEW} and name the file in "
            "`calibration:`, or set min_confidence instead"
        )
        return configured, [(("orchestrator", "max_error"), message)]
    misfit = _misfit(section, file)
    if misfit is not None:
        return configured, [(place, misfit)]
    return _from_file(section, file, source), []


def _from_file(
    section: OrchestratorSection, file: CalibrationFile, source: str
) -> ThresholdInForce:
    calibration = Calibration(file.temperature, file.none_shift)
    rule = DecisionRule(section.min_confidence, section.min_margin, calibration)
    found = ThresholdInForce(section.min_confidence, section.min_margin)
    picked, max_error = None, section.max_error
    if max_error is not None:
        limit, picked = _pick(file, max_error)
        rule = replace(rule, min_confidence=limit)
        found = replace(found, min_confidence=limit, max_error=max_error, source=source)
    is_embedded = section.engine == "embedding"
    return replace(
        found,
        rule=rule,
        embedded_rule=rule if is_embedded else _stand_in(max_error),
        picked=picked,
        warnings=tuple(_warnings(section, file, source, reached=picked is not None)),
    )


def _file_of(section: OrchestratorSection) -> tuple[CalibrationFile | None, str]:
    """The calibration that applies, and its name. Raises ConfigError if it cannot be read."""
    if section.calibration is not None:
        return read_calibration(Path(section.calibration)), PurePath(section.calibration).name
    if section.engine == "embedding" and section.model is None:
        return read_calibration(ERROR_CURVE), _PACKAGED
    return None, ""


def _pick(file: CalibrationFile, max_error: float) -> tuple[float, CurvePoint | None]:
    """The loosest threshold that keeps the wanted rate; else the strictest one, and None."""
    picked = loosest_threshold(file.curve, max_error, file.confidence)
    return (file.curve[-1] if picked is None else picked).min_confidence, picked


def _stand_in(max_error: float | None) -> DecisionRule | None:
    """The rule of the embedded engine with the bundled model while it stands in for another one."""
    if max_error is None:
        return None
    file = read_calibration(ERROR_CURVE)
    calibration = Calibration(file.temperature, file.none_shift)
    return DecisionRule(_pick(file, max_error)[0], file.min_margin, calibration)


def model_name(section: OrchestratorSection) -> str | None:
    """The last part of the path or name of a model; None for the bundled one."""
    return None if section.model is None else PurePath(section.model).name


def _unreadable(error: ConfigError) -> str:
    listed = [str(problem) for problem in error.problems[:_MAX_LISTED]]
    more = len(error.problems) - len(listed)
    return f"{error.file}: {'; '.join(listed)}{f'; and {more} more problems' if more else ''}"


def _misfit(section: OrchestratorSection, file: CalibrationFile) -> str | None:
    """Why a calibration is not one of the configured engine; None if it is."""
    if file.engine != section.engine:
        return f"made with engine {file.engine}, not {section.engine}; {_ANEW}"
    configured = model_name(section)
    if file.model != configured:
        shown, wanted = file.model or "the bundled model", configured or "the bundled model"
        return f"made with {shown}, not {wanted}; {_ANEW}"
    return None


def _warnings(
    section: OrchestratorSection, file: CalibrationFile, source: str, *, reached: bool
) -> Iterator[str]:
    known, max_error = engine_hash(section), section.max_error
    if known is not None and file.model_hash not in {None, known}:
        key = _CALIBRATION if section.calibration is not None else _MAX_ERROR
        yield f"{key}: {source} was made with other weights or settings of this engine; {_ANEW}"
    if max_error is None:
        return
    if not reached:
        yield (
            f"{_MAX_ERROR}: no threshold of {source} keeps {max_error:g} with "
            f"{100 * file.confidence:g} % confidence, so the strictest one, "
            f"{file.curve[-1].min_confidence:g}, is used and hardly anything is routed; raise "
            "max_error, or calibrate with more conversations"
        )
    if file.min_margin != section.min_margin:
        yield (
            f"{_MAX_ERROR}: {source} was measured with min_margin {file.min_margin:g}, but "
            f"{section.min_margin:g} is configured; calibrate with --min-margin "
            f"{section.min_margin:g}"
        )
    if section.when_unsure is not None:
        yield (
            f"{_MAX_ERROR}: it limits the errors of engine {section.engine} alone; measure those of "
            "when_unsure with `fingerpost eval`"
        )


def no_probabilities(section: OrchestratorSection) -> str:
    """What is wrong with an engine that has no probabilities."""
    mode = f" with mode {section.mode}" if section.engine == "vllm" else ""
    return (
        f"engine {section.engine}{mode} does not return the probability of every route, as "
        "embedding, embeddings, decision, and vllm with mode trie do"
    )
