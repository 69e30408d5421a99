"""Reports what was learned from labelled conversations, and what it promises, as text."""

from collections.abc import Iterator
from typing import Final

from serve_app.config.tuned_file import TuningFigures
from serve_app.evaluation.report import table
from serve_app.evaluation.tuning import FEW, SIGNIFICANT, Approach, Material, Tuning

_MAX_NAMED: Final = 12


def tuning_text(material: Material, tuning: Tuning) -> list[str]:
    """The report, line by line."""
    found = tuning.file.cross_validation
    kind = "leaving one out" if found.folds == found.conversations else f"{found.folds} folds"
    rows = [[f"cross-validated, {kind}", "before", "after", ""]]
    for name, was, now, meaning in _figures(found.before, found.after):
        rows.append([name, _shown(was), _shown(now), meaning])
    return [
        *_head(material),
        "",
        *table(rows, right=(1, 2)),
        f"{found.became_right} became right, {found.became_wrong} became wrong",
        "",
        f"learned: {_learned(tuning.approach)}; temperature {tuning.file.temperature:.2f}",
        (
            f"chance alone improves the likelihood as much with probability {found.p_value:.4f} "
            "(paired randomization test)"
        ),
    ]


def _head(material: Material) -> Iterator[str]:
    labelled = material.labelled
    inside = sum(case.expect is not None for case in labelled.cases)
    yield (
        f"{labelled.file}: {len(labelled.routes)} routes, {inside} conversations with a route, "
        f"{len(labelled.cases) - inside} without"
    )
    if not material.knows_none:
        yield (
            "no match stays as it is: too few conversations without a route; add some with "
            '"expect": null'
        )
    for reason, count in material.left_out.items():
        yield f"left out: {count} {reason}"
    if material.few:
        named = [f"{name} ({count})" for name, count in material.few.items()]
        more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
        yield f"fewer than {FEW} conversations: {', '.join(named[:_MAX_NAMED])}{more}; label more"


def _figures(
    before: TuningFigures, after: TuningFigures
) -> Iterator[tuple[str, float | None, float | None, str]]:
    yield "decided right", before.decided, after.decided, "of all conversations, with thresholds"
    yield "accuracy", before.accuracy, after.accuracy, "best route is right, of those with a route"
    if after.auroc is not None:
        yield "AUROC", before.auroc, after.auroc, "route or no route; 0.5 is chance"
    error = before.calibration_error, after.calibration_error
    yield "expected calibration error", *error, "lower is better"
    likelihood = before.negative_log_likelihood, after.negative_log_likelihood
    yield "negative log-likelihood", *likelihood, "lower is better"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _learned(approach: Approach) -> str:
    parts = []
    if approach.ridge is not None:
        parts.append(f"a correction of each route (ridge {approach.ridge:g})")
    if approach.uses_examples:
        parts.append("the conversations as examples")
    return " and ".join(parts) or "nothing"


def refusal(tuning: Tuning) -> str:
    """Why the file is not worth writing."""
    found = tuning.file.cross_validation
    if found.became_right < found.became_wrong:
        why = f"{found.became_wrong} decisions became wrong, and only {found.became_right} right"
    else:
        why = (
            f"chance alone improves as much with probability {found.p_value:.3f}, "
            f"and less than {SIGNIFICANT:g} is required"
        )
    return f"nothing is written: not better by more than chance ({why}); label more conversations"
