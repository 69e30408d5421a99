"""Accuracy by language, for sets whose cases name theirs."""

from dataclasses import dataclass

from serve_app.evaluation.measure import CaseOutcome, Evaluation, share_of


@dataclass(frozen=True, slots=True)
class LanguageQuality:
    """How well the cases in a language are decided."""

    lang: str
    """As the set writes it; empty for cases that name none."""
    cases: int
    accuracy: float | None
    """Of those with a route: the share whose best route is right. None without any."""
    decided: float
    """The share that is decided right with the thresholds, "no route" included."""


def by_language(evaluation: Evaluation) -> list[LanguageQuality]:
    """The quality in each language, the most frequent first; empty if no case names one."""
    groups: dict[str, list[CaseOutcome]] = {}
    for outcome in evaluation.outcomes:
        groups.setdefault(outcome.case.lang or "", []).append(outcome)
    if set(groups) <= {""}:
        return []
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return [_quality(lang, outcomes) for lang, outcomes in ordered]


def _quality(lang: str, outcomes: list[CaseOutcome]) -> LanguageQuality:
    inside = [outcome.right for outcome in outcomes if outcome.case.expect is not None]
    decided = share_of(outcome.decided == outcome.case.expect for outcome in outcomes)
    return LanguageQuality(lang, len(outcomes), share_of(inside) if inside else None, decided)
