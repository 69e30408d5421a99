"""Learns a read-out from labelled conversations, and measures it by cross-validation.

Two ways and their sum are tried, each with several strengths of the ridge: a correction of the
logits (evaluation/ridge.py), and the conversations as examples of their routes. What is learned
depends neither on the order of the routes nor on that of the conversations.

Without conversations that match no route, nothing can be learned about them: only the choice
between routes is learned then, and the probability of "no route" stays as it was. Else a set of
routed conversations would teach that every conversation has a route.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from serve_app.config.tuned_file import (
    CrossValidation,
    LearnedRoute,
    TunedFile,
    TuningFigures,
    no_route_hash,
    rounded,
    route_hash,
)
from serve_app.domain import Turn
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.evaluation.labelled_set import Case, LabelledSet
from serve_app.evaluation.measure import Evaluation, Progress, case_outcome
from serve_app.evaluation.reliability import reliability_of
from serve_app.evaluation.ridge import (
    Correction,
    Labels,
    best_temperature,
    chance_of,
    fit,
    log_total,
    losses,
    shares,
    stratified_folds,
)
from serve_app.scoring.embedding import Closeness
from serve_app.scoring.excerpt import recent
from serve_app.scoring.readout import Floats

RIDGES: Final = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
FOLDS: Final = 5
TINY: Final = 25
"""Number of conversations below which each one is a fold of its own."""

LEAST: Final = 5
"""Number of conversations from which on something is learned."""

FEW: Final = 3
"""Number of conversations of a route below which it is named as one with few.

With fewer of "no route", these are not used.
"""

SIGNIFICANT: Final = 0.1
"""Probability that chance alone is as good, below which what was learned is worth a file."""


@dataclass(frozen=True, slots=True)
class Approach:
    """A way to learn."""

    uses_examples: bool
    """The conversations count as examples of their routes."""
    ridge: float | None
    """Strength of the ridge of a correction; None for no correction."""


PLAIN: Final = Approach(uses_examples=False, ridge=None)
APPROACHES: Final = tuple(
    Approach(uses_examples, ridge) for uses_examples in (False, True) for ridge in (None, *RIDGES)
)
"""From the simplest, which changes nothing, to the one that changes most."""

Rows: TypeAlias = npt.NDArray[np.bool_]
"""For each conversation whether it is meant."""

Pooled: TypeAlias = Mapping[Approach, Floats]
"""For each approach the logits of all conversations, each by what was learned without it."""


@dataclass(frozen=True, slots=True)
class Material:
    """Labelled conversations as the embedded engine sees them; routes and rows in canonical order."""

    labelled: LabelledSet
    """The routes by name, and the conversations that are used."""
    vectors: Floats
    labels: Labels
    """For each conversation the position of its route; of "no route" it is the last one."""
    closeness: tuple[Closeness, ...]
    engine: EmbeddingEngine
    settings: EmbeddingSettings
    left_out: Mapping[str, int]
    """The number of conversations that are not used, by the reason."""

    @property
    def knows_none(self) -> bool:
        """True if there are conversations of "no route"."""
        return bool((self.labels == len(self.labelled.routes)).any())

    def judged(self, logits: Floats) -> Floats:
        """The columns of the logits that are learned: those of "no route" only if there is one."""
        return logits if self.knows_none else logits[:, :-1]

    @property
    def few(self) -> dict[str, int]:
        """The routes with fewer than FEW conversations, and their numbers."""
        counts = Counter(case.expect for case in self.labelled.cases)
        routes = (route.name for route in self.labelled.routes)
        return {name: counts[name] for name in routes if counts[name] < FEW}


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was learned, and what it promises."""

    approach: Approach
    file: TunedFile

    @property
    def is_better(self) -> bool:
        """True if no fewer are decided right, and the likelihood is higher by more than chance."""
        found = self.file.cross_validation
        return found.became_right >= found.became_wrong and found.p_value < SIGNIFICANT


def gather(
    labelled: LabelledSet, settings: EmbeddingSettings, engine: EmbeddingEngine, progress: Progress
) -> Material:
    """Embeds the conversations of a set; duplicates and examples of the routes are left out.

    An example would be decided by itself, and so promise too much.
    """
    routes = tuple(sorted(labelled.routes, key=lambda route: route.name))
    texts = {text.strip() for route in routes for text in route.examples}
    texts |= {text.strip() for text in labelled.no_route_examples}
    used: dict[tuple[tuple[Turn, ...], str | None], Case] = {}
    left_out: Counter[str] = Counter()
    for case in labelled.cases:
        turns = recent(case.turns)
        if not turns:
            left_out["without text of the user"] += 1
        elif engine.cannot_read(turns, routes):
            left_out["in a script that the model does not read"] += 1
        elif (turns, case.expect) in used:
            left_out["duplicate"] += 1
        elif len(turns) == 1 and turns[0].text in texts:
            left_out["also an example of a route"] += 1
        else:
            used[turns, case.expect] = Case(turns, case.expect)
    outside = [key for key in used if key[1] is None]
    if len(outside) < FEW:
        left_out.update({"without a route, which are too few": len(outside)})
        used = {key: case for key, case in used.items() if key[1] is not None}
    cases = tuple(sorted(used.values(), key=_place))
    positions = {route.name: index for index, route in enumerate(routes)}
    vectors = [engine.model.embed_turns(case.turns) for case in progress(cases)]
    none = labelled.no_route_examples
    return Material(
        LabelledSet(labelled.file, routes, cases, none),
        np.array(vectors, np.float64),
        np.array([positions.get(case.expect or "", len(routes)) for case in cases], np.intp),
        tuple(engine.scorer.closeness(vector, routes, none) for vector in vectors),
        engine,
        settings,
        +left_out,
    )


def _place(case: Case) -> tuple[str, str]:
    """Sorts conversations by their routes, those of one route in an order like a random one."""
    digest = hashlib.sha256(repr(case.turns).encode("utf-8", "replace"))
    return case.expect or "", digest.hexdigest()


def learn(material: Material, model_hash: str) -> Tuning:
    """Chooses an approach by cross-validation, and learns by it from all conversations.

    For the figures, the approach and the temperature of each fold are chosen on the others.
    """
    labels, count = material.labels, len(material.labels)
    folds = stratified_folds(labels.tolist(), FOLDS if count >= TINY else count)
    pooled = _pooled(material, folds)
    judged = {approach: material.judged(logits) for approach, logits in pooled.items()}
    after, scaled = np.empty_like(pooled[PLAIN]), np.empty_like(judged[PLAIN])
    for fold in range(folds.max() + 1):
        own, others = folds == fold, folds != fold
        approach, temperature = choose(judged, labels, others)
        after[own] = pooled[approach][own] / temperature
        scaled[own] = judged[PLAIN][own] / best_temperature(judged[PLAIN][others], labels[others])
    # the plain read-out has a temperature, too: what is learned has to be worth more than that
    gains = losses(scaled, labels) - losses(material.judged(after), labels)
    found = _cross_validation(
        _measured(material, pooled[PLAIN]),
        _measured(material, after),
        int(folds.max()) + 1,
        chance_of(gains),
    )
    approach, temperature = choose(judged, labels, labels >= 0)
    return Tuning(approach, _file(material, approach, temperature, found, model_hash))


def choose(pooled: Pooled, labels: Labels, rows: Rows) -> tuple[Approach, float]:
    """The approach with the lowest loss on these rows, the simplest of equal ones, and its temperature."""
    found: dict[Approach, tuple[float, float]] = {}
    for approach, logits in pooled.items():
        temperature = best_temperature(logits[rows], labels[rows])
        loss = float(losses(logits[rows], labels[rows], temperature).mean())
        found[approach] = (loss, temperature)
    best = min(found, key=lambda approach: found[approach][0])
    return best, found[best][1]


def _pooled(material: Material, folds: Labels) -> dict[Approach, Floats]:
    shape = (len(material.labels), len(material.labelled.routes) + 1)
    pooled = {approach: np.empty(shape) for approach in APPROACHES}
    for fold in range(folds.max() + 1):
        learned, decided = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        plain = base_logits(material, decided, learned[:0])
        for uses_examples in (False, True):
            examples = learned if uses_examples else learned[:0]
            before = base_logits(material, learned, examples)
            beside = base_logits(material, decided, examples) if uses_examples else plain
            for approach in APPROACHES:
                if approach.uses_examples == uses_examples:
                    correction = _correction(material, learned, before, approach.ridge)
                    pooled[approach][decided] = _corrected(
                        material, plain, beside, correction, material.vectors[decided]
                    )
    return pooled


def _corrected(
    material: Material,
    plain: Floats,
    logits: Floats,
    correction: Correction | None,
    vectors: Floats,
) -> Floats:
    """The logits with a correction; as scoring/tuned.py does it, one row at a time."""
    result = logits.copy()
    if correction is not None:
        material.judged(result)[:] += correction.of(vectors)
    if not material.knows_none:
        result[:, -1] = plain[:, -1] + log_total(result[:, :-1]) - log_total(plain[:, :-1])
    return result


def base_logits(material: Material, rows: Labels, examples: Labels) -> Floats:
    """The logits of these conversations with others as examples; no one is an example of its own."""
    readout = material.engine.model.readout
    kinds = range(len(material.labelled.routes) + 1)
    cosines = material.vectors[rows] @ material.vectors[examples].T
    of_kind = [material.labels[examples] == kind for kind in kinds]
    result = []
    for row, near in zip(rows, cosines, strict=True):
        closeness, other = material.closeness[row], examples != row
        nearest = [
            np.concatenate([closeness.examples[kind], near[of_kind[kind] & other]])
            for kind in kinds
        ]
        result.append(replace(closeness, examples=nearest).logits(readout))
    return np.array(result)


def _correction(
    material: Material, rows: Labels, logits: Floats, ridge: float | None
) -> Correction | None:
    if ridge is None:
        return None
    return fit(material.vectors[rows], material.judged(logits), material.labels[rows], ridge)


@dataclass(frozen=True, slots=True)
class _Measured:
    figures: TuningFigures
    right: tuple[bool, ...]
    """For each conversation whether it is decided right."""


def _measured(material: Material, logits: Floats) -> _Measured:
    labelled, scorer = material.labelled, material.engine.scorer
    outcomes = tuple(
        case_outcome(case, scorer.scores_of(row, labelled.routes), 0.0)
        for case, row in zip(labelled.cases, shares(logits), strict=True)
    )
    evaluation = Evaluation(labelled, material.settings, outcomes, ())
    reliability = reliability_of(outcomes)
    auroc = evaluation.auroc()
    figures = TuningFigures(
        decided=rounded(evaluation.decided),
        accuracy=rounded(evaluation.accuracy),
        auroc=None if auroc is None else rounded(auroc),
        calibration_error=rounded(0.0 if reliability is None else reliability.calibration_error),
        negative_log_likelihood=rounded(float(losses(logits, material.labels).mean())),
    )
    return _Measured(
        figures,
        tuple(outcome.decided == outcome.case.expect for outcome in outcomes),
    )


def _cross_validation(
    before: _Measured, after: _Measured, folds: int, p_value: float
) -> CrossValidation:
    pairs = Counter(zip(before.right, after.right, strict=True))
    return CrossValidation(
        folds=folds,
        conversations=len(before.right),
        before=before.figures,
        after=after.figures,
        became_right=pairs[False, True],
        became_wrong=pairs[True, False],
        p_value=p_value,
    )


def _file(
    material: Material,
    approach: Approach,
    temperature: float,
    found: CrossValidation,
    model_hash: str,
) -> TunedFile:
    """What is learned from all conversations by an approach."""
    labels, routes = material.labels, material.labelled.routes
    everything = np.arange(len(labels))
    examples = everything if approach.uses_examples else everything[:0]
    logits = base_logits(material, everything, examples)
    correction = _correction(material, everything, logits, approach.ridge)

    def learned(kind: int, texts: str) -> LearnedRoute:
        own = labels == kind
        return LearnedRoute(
            texts=texts,
            conversations=int(own.sum()),
            weights=[] if correction is None else _listed(correction.weights[kind]),
            offset=0.0 if correction is None else rounded(float(correction.offsets[kind])),
            examples=[_listed(row) for row in material.vectors[own & approach.uses_examples]],
        )

    return TunedFile(
        format=1,
        model_hash=model_hash,
        dimensions=material.vectors.shape[1],
        temperature=rounded(temperature),
        ridge=approach.ridge,
        cross_validation=found,
        no_route=(
            learned(len(routes), no_route_hash(material.labelled.no_route_examples))
            if material.knows_none
            else None
        ),
        routes={route.name: learned(kind, route_hash(route)) for kind, route in enumerate(routes)},
    )


def _listed(vector: Floats) -> list[float]:
    return [rounded(value) for value in vector.tolist()]
