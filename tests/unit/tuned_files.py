"""Files of ``fingerpost tune``, made by hand."""

from collections.abc import Mapping, Sequence
from typing import Final

from serve_app.config.tuned_file import (
    CrossValidation,
    LearnedRoute,
    TunedFile,
    TuningFigures,
    no_route_hash,
    route_hash,
)
from serve_app.domain import Route

BEFORE: Final = TuningFigures(
    decided=0.5, accuracy=0.6, auroc=0.7, calibration_error=0.1, negative_log_likelihood=1.5
)
AFTER: Final = TuningFigures(
    decided=0.75, accuracy=0.8, auroc=0.9, calibration_error=0.05, negative_log_likelihood=0.9
)
PROMISE: Final = CrossValidation(
    folds=5,
    conversations=40,
    before=BEFORE,
    after=AFTER,
    became_right=11,
    became_wrong=1,
    p_value=0.01,
)


def learned(
    *,
    weights: Sequence[float] = (),
    offset: float = 0.0,
    examples: Sequence[Sequence[float]] = (),
    conversations: int = 5,
) -> LearnedRoute:
    """What was learned about a route, without its texts."""
    return LearnedRoute(
        texts="",
        conversations=conversations,
        weights=list(weights),
        offset=offset,
        examples=[list(vector) for vector in examples],
    )


NOTHING: Final = learned(conversations=0)


def tuned_file(
    routes: Mapping[Route, LearnedRoute],
    no_route: LearnedRoute = NOTHING,
    *,
    no_route_examples: tuple[str, ...] = (),
    dimensions: int = 2,
    temperature: float = 1.0,
    model_hash: str = "any",
) -> TunedFile:
    """A file about these routes with the texts that they have."""
    return TunedFile(
        format=1,
        model_hash=model_hash,
        dimensions=dimensions,
        temperature=temperature,
        ridge=0.3,
        cross_validation=PROMISE,
        no_route=no_route.model_copy(update={"texts": no_route_hash(no_route_examples)}),
        routes={
            route.name: own.model_copy(update={"texts": route_hash(route)})
            for route, own in routes.items()
        },
    )
