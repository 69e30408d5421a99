"""Which part of a file of ``fingerpost tune`` applies to a configuration; needs no numpy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serve_app.config.locations import ConfigError
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.config.tuned_file import TunedFile, no_route_hash, read_tuned, route_hash
from serve_app.domain import Route
from serve_app.engines.embedding.identity import engine_hash

AGAIN: Final = "run `fingerpost tune` again"

_KEY: Final = "orchestrator.tuned"
_MAX_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class TunedInForce:
    """What applies of a file, and what a user has to know of the rest."""

    file: TunedFile | None = None
    """None if nothing applies."""
    warnings: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    """A line about what applies."""


NOTHING_TUNED: Final = TunedInForce()


def model_hash(section: OrchestratorSection) -> str | None:
    """Identifies the model that embeds, and the settings that change its vectors.

    Returns None if a file cannot be read.
    """
    return engine_hash(section.model_copy(update={"reranker": None, "tuned": None}))


def configured_tuning(
    section: OrchestratorSection, routes: Sequence[Route], no_route: tuple[str, ...]
) -> TunedInForce:
    """What applies of the file of a configuration whose paths are absolute.

    Nothing of one that cannot be used.
    """
    if section.tuned is None or section.engine != "embedding":
        return NOTHING_TUNED
    path = Path(section.tuned)
    try:
        file = read_tuned(path)
    except ConfigError as error:
        problems = "; ".join(map(str, error.problems[:_MAX_SHOWN]))
        return TunedInForce(None, (f"{_KEY} is ignored: {error.file}: {problems}",))
    name, known = path.name, model_hash(section)
    if known is not None and known != file.model_hash:
        other = "another model, or other max_query_tokens or prefixes"
        return TunedInForce(None, (f"{_KEY} is ignored: {name} was made with {other}; {AGAIN}",))
    tuned = [route for route in routes if _state(route, file) is None]
    warnings = tuple(_warnings(name, file, routes, no_route))
    if not tuned:
        return TunedInForce(None, warnings)
    found = file.cross_validation
    fact = (
        f"tuned {name}: {len(tuned)} of {len(routes)} routes, decided right "
        f"{found.before.decided:.3f} -> {found.after.decided:.3f} in cross-validation of "
        f"{found.conversations} conversations"
    )
    return TunedInForce(file, warnings, (fact,))


def _state(route: Route, file: TunedFile) -> str | None:
    """Why a file does not apply to a route; None if it does."""
    learned = file.routes.get(route.name)
    if learned is None:
        return "is new"
    return None if learned.texts == route_hash(route) else "has other texts"


def _warnings(
    name: str, file: TunedFile, routes: Sequence[Route], no_route: tuple[str, ...]
) -> Iterator[str]:
    for route in routes:
        state = _state(route, file)
        if state is not None:
            yield (
                f"{_KEY} is ignored for route {route.name!r}: it {state} since {name} was made; "
                f"{AGAIN}"
            )
    if file.no_route is not None and file.no_route.texts != no_route_hash(no_route):
        yield (
            f"{_KEY} is ignored for no route: no_route_examples have changed since {name} was "
            f"made; {AGAIN}"
        )
