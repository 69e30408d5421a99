"""Reports an evaluation: as text, as JSON, and compared with another one."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from serve_app.config.locations import ConfigError, Problem, path_text
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Json
from serve_app.engines.embedding.engine import EmbeddingSettings
from serve_app.evaluation.languages import by_language
from serve_app.evaluation.measure import NO_ANSWER, NO_ROUTE, Evaluation
from serve_app.evaluation.reliability import Reliability, reliability_of

_SMALL_MATRIX: Final = 12
_MOST_CONFUSED: Final = 15
_MAX_LISTED: Final = 5
_SHOWN_THRESHOLDS: Final = 5
"""Every fifth threshold is shown; the JSON has all of them."""


def table(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Formats rows as lines with aligned columns; those in ``right`` are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    flush = set(right)
    return [
        "  ".join(
            cell.rjust(width) if column in flush else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def report_text(evaluation: Evaluation) -> list[str]:
    """The report as text, line by line."""
    cases = evaluation.outcomes
    inside = sum(outcome.case.expect is not None for outcome in cases)
    lines = [
        (
            f"{evaluation.labelled.file}: {len(evaluation.labelled.routes)} routes, "
            f"{inside} cases with a route, {len(cases) - inside} without"
        ),
        "",
        f"accuracy  {evaluation.accuracy:.3f}  best route is right, of the cases with a route",
        f"decided   {evaluation.decided:.3f}  {_limits(evaluation)}of all cases",
        (
            f"latency   p50 {evaluation.latency_ms(0.5):.1f} ms, p99 {evaluation.latency_ms(0.99):.1f} ms "
            f"per decision, {_engine_text(evaluation.settings)}"
        ),
    ]
    decided = evaluation.labelled.decided_cases
    if decided:
        lines.append(f"unlabelled {decided} cases: expected is what the gateway decided then")
    lines += [
        f"no answer {times} of {len(cases)} cases, which count as wrong: {why}"
        for why, times in evaluation.faults().most_common(_MAX_LISTED)
    ]
    lines += [
        f"examples  {draws.examples} per route: {draws.mean:.3f} "
        f"({min(draws.accuracies):.3f} to {max(draws.accuracies):.3f} in {len(draws.accuracies)} draws)"
        for draws in evaluation.draws
    ]
    reliability = reliability_of(evaluation.outcomes)
    lines += _probabilities(evaluation, reliability)
    for title, section in (
        ("By route, with thresholds", _by_route(evaluation)),
        ("By language", _by_language(evaluation)),
        ("Confusion", _confusion(evaluation)),
        ("Reliability of decisions", _reliability(reliability)),
        ("No match, by threshold", _thresholds(evaluation)),
        ("Descriptions that collide (cosine)", _collisions(evaluation)),
    ):
        if section:
            lines += ["", title, *(f"  {line}" for line in section)]
    return lines


def _limits(evaluation: Evaluation) -> str:
    settings = evaluation.settings
    if not evaluation.scored:
        return ""
    return (
        f"with min_confidence {settings.min_confidence:g} and min_margin {settings.min_margin:g}, "
    )


def _engine_text(settings: EmbeddingSettings | OrchestratorSection) -> str:
    if isinstance(settings, EmbeddingSettings):
        return f"{settings.threads} thread(s), at most {settings.max_query_tokens} tokens"
    text = f"engine {settings.engine}, model {settings.model or 'bundled'}"
    better = settings.when_unsure
    if better is None:
        return text
    return f"{text}, and below {better.below:g} engine {better.engine}, model {better.model}"


def _probabilities(evaluation: Evaluation, reliability: Reliability | None) -> Iterator[str]:
    """The lines about what a decision is worth."""
    error, flips = evaluation.routed_error, evaluation.flips
    wrong = "" if error is None else f", and {error:.3f} of these a wrong one"
    yield f"routed    {evaluation.routed:.3f}  of all cases get a route{wrong}"
    if reliability is not None:
        yield (
            f"ECE       {reliability.calibration_error:.3f}  expected calibration error, the gap "
            "between probability and share of right decisions"
        )
    if flips is not None:
        orders = f"{flips.orders} other order{'' if flips.orders == 1 else 's'}"
        yield f"flips     {flips.share:.3f}  of all cases change with the routes in {orders}"


def _shown(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _by_language(evaluation: Evaluation) -> list[str]:
    rows = [["language", "accuracy", "decided", "cases"]]
    rows += [
        [row.lang or "-", _shown(row.accuracy), _shown(row.decided), str(row.cases)]
        for row in by_language(evaluation)
    ]
    return table(rows, right=(1, 2, 3)) if len(rows) > 1 else []


def _reliability(reliability: Reliability | None) -> list[str]:
    if reliability is None:
        return []
    rows = [["probability", "mean", "right", "cases"]]
    rows += [
        [
            f"{one.low:.1f} to {one.high:.1f}",
            _shown(one.probability, 3),
            _shown(one.right, 3),
            str(one.cases),
        ]
        for one in reliability.bins
    ]
    return table(rows, right=(1, 2, 3))


def _by_route(evaluation: Evaluation) -> list[str]:
    rows = [["route", "precision", "recall", "cases"]]
    rows += [
        [route.name, _shown(route.precision), _shown(route.recall), str(route.cases)]
        for route in evaluation.by_route()
    ]
    return table(rows, right=(1, 2, 3))


def decision_names(evaluation: Evaluation) -> list[str]:
    """The names that may be decided: routes, no route, and no answer if there was any."""
    failed = [NO_ANSWER] if evaluation.faults() else []
    return [*(route.name for route in evaluation.labelled.routes), NO_ROUTE, *failed]


def _confusion(evaluation: Evaluation) -> list[str]:
    names, counts = decision_names(evaluation), evaluation.confusion()
    if len(names) <= _SMALL_MATRIX:
        rows = [["expected \\ decided", *(str(number) for number in range(1, len(names) + 1))]]
        rows += [
            [f"{number} {name}", *(str(counts[name, decided] or ".") for decided in names)]
            for number, name in enumerate(names, 1)
        ]
        return table(rows, right=range(1, len(names) + 1))
    wrong = [(pair, count) for pair, count in counts.most_common() if pair[0] != pair[1]]
    rows = [["times", "expected", "decided"]]
    rows += [[str(count), *pair] for pair, count in wrong[:_MOST_CONFUSED]]
    return [*table(rows, right=(0,)), f"{len(wrong)} pairs in total; --json lists all of them"]


def _thresholds(evaluation: Evaluation) -> list[str]:
    thresholds = evaluation.thresholds()
    if not evaluation.scored:
        return ["this engine returns no scores, so no threshold can be measured"]
    if not thresholds:
        return ["the set has no case without a route, so no threshold can be measured"]
    rows = [["min_confidence", "accuracy", "no match found", "routed", "error among the routed"]]
    rows += [
        [
            f"{row.min_confidence:.2f}",
            *map(_thousandths, (row.accuracy, row.no_match_found, row.routed, row.error)),
        ]
        for row in thresholds[::_SHOWN_THRESHOLDS]
    ]
    return [
        *table(rows, right=range(5)),
        (
            f"recommended: {evaluation.recommended():.2f} (best mean of both); "
            f"AUROC {evaluation.auroc():.3f}, where 0.5 is chance"
        ),
    ]


def _thousandths(value: float | None) -> str:
    return _shown(value, 3)


def _collisions(evaluation: Evaluation) -> list[str]:
    if not isinstance(evaluation.settings, EmbeddingSettings):
        return []
    if not evaluation.collisions:
        return ["none"]
    return [
        f"{pair.cosine:.2f}  {pair.route} / {pair.other}"
        for pair in evaluation.collisions[:_MOST_CONFUSED]
    ]


def report_json(evaluation: Evaluation) -> dict[str, Json]:
    """The report as JSON; times in milliseconds."""
    reliability, flips = reliability_of(evaluation.outcomes), evaluation.flips
    return {
        "file": evaluation.labelled.file,
        "engine": evaluation.engine,
        "settings": _settings(evaluation.settings),
        "cases": len(evaluation.outcomes),
        "unlabelled": evaluation.labelled.decided_cases,
        "accuracy": evaluation.accuracy,
        "decided": evaluation.decided,
        "no_answer": [
            {"why": why, "times": times} for why, times in evaluation.faults().most_common()
        ],
        "latency_ms": {"p50": evaluation.latency_ms(0.5), "p99": evaluation.latency_ms(0.99)},
        "routed": evaluation.routed,
        "routed_error": evaluation.routed_error,
        "calibration_error": None if reliability is None else reliability.calibration_error,
        "reliability": [] if reliability is None else [asdict(one) for one in reliability.bins],
        "flips": None if flips is None else asdict(flips),
        "languages": [asdict(row) for row in by_language(evaluation)],
        "routes": [asdict(route) for route in evaluation.by_route()],
        "confusion": [
            {"expected": expected, "decided": decided, "times": times}
            for (expected, decided), times in evaluation.confusion().most_common()
        ],
        "thresholds": [asdict(row) for row in evaluation.thresholds()],
        "recommended_min_confidence": evaluation.recommended(),
        "auroc": evaluation.auroc(),
        "collisions": [
            {"cosine": pair.cosine, "routes": [pair.route, pair.other]}
            for pair in evaluation.collisions
        ],
        "examples": [
            {"examples": draws.examples, "mean": draws.mean, "accuracies": list(draws.accuracies)}
            for draws in evaluation.draws
        ],
    }


def _settings(settings: EmbeddingSettings | OrchestratorSection) -> dict[str, Json]:
    """The settings of an engine, without addresses and keys."""
    both = {
        "model": None if settings.model is None else str(settings.model),
        "threads": settings.threads,
        "max_query_tokens": settings.max_query_tokens,
        "min_confidence": settings.min_confidence,
        "min_margin": settings.min_margin,
    }
    if isinstance(settings, EmbeddingSettings):
        return both
    own = ("task", "family", "device", "mode", "max_model_len", "dtype", "quantization")
    better = settings.when_unsure
    second = None
    if better is not None:
        names = ("engine", "below", "model", "family", "device", "mode")
        second = {name: getattr(better, name) for name in names}
    return {**both, **{name: getattr(settings, name) for name in own}, "when_unsure": second}


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Latency(_Part):
    p50: float


class _Route(_Part):
    name: str
    recall: float | None


class _Report(_Part):
    """The part of a report that ``compare`` uses."""

    file: str
    latency_ms: _Latency
    routes: list[_Route]
    accuracy: float | None = None
    decided: float | None = None
    auroc: float | None = None


def read_report(file: Path) -> dict[str, Json] | None:
    """Reads a report of ``--json``; None for a file that is not JSON, such as a labelled set.

    Raises ConfigError for JSON that is not a report.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    try:
        _Report.model_validate(content)
    except ValidationError as error:
        paths = [path_text(detail["loc"]) or "all" for detail in error.errors(include_url=False)]
        message = (
            "not a report of `fingerpost eval --json`, nor a labelled set; "
            f"missing or invalid: {', '.join(paths[:_MAX_LISTED])}"
        )
        raise ConfigError(str(file), (Problem(0, "", message),)) from error
    report: dict[str, Json] = content
    return report


def compare(report: Mapping[str, Json], other: Mapping[str, Json]) -> list[str]:
    """The changes from another report to this one, both in the form of ``report_json``."""
    lines = [f"Compared with {other['file']}:"]
    for key in ("accuracy", "decided", "auroc"):
        now, before = report.get(key), other.get(key)
        if now is not None and before is not None:
            lines.append(f"  {key:9} {before:.3f} -> {now:.3f}  ({now - before:+.3f})")
    before_p50, now_p50 = other["latency_ms"]["p50"], report["latency_ms"]["p50"]
    lines.append(f"  {'p50':9} {before_p50:.1f} -> {now_p50:.1f} ms")
    lines += (f"  {line}" for line in _recalls(report, other))
    return lines


def _recalls(report: Mapping[str, Json], other: Mapping[str, Json]) -> Iterator[str]:
    before = {route["name"]: route["recall"] for route in other["routes"]}
    rows = [["recall of", "before", "now"]]
    for route in report["routes"]:
        name, now = route["name"], route["recall"]
        if now != before.get(name) and now is not None:
            was = before.get(name)
            rows.append([name, "-" if was is None else f"{was:.2f}", f"{now:.2f}"])
    yield from (
        table(rows, right=(1, 2)) if len(rows) > 1 else ["the recall of every route is equal"]
    )
