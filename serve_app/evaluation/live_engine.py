"""Starts the engines of a configuration on this machine for a measurement, and stops them."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final, Protocol, TypeAlias, cast

from serve_app.config.schema.orchestrator import EngineSection, OrchestratorSection
from serve_app.domain import Question, Route, Scores, Unavailable
from serve_app.engines.calibrated import by_rule
from serve_app.engines.faults import EngineFaultError
from serve_app.engines.servers import FIRST, SECOND, Servers
from serve_app.engines.tiers import Tier, Tiers
from serve_app.evaluation.labelled_set import LabelledSet
from serve_app.evaluation.measure import Evaluation, Progress, case_outcomes
from serve_app.ports import Orchestrator
from serve_app.scoring.calibration import DecisionRule

DEADLINE_S: Final = 60.0
"""Of each engine: latency is measured, not bounded, and a server may load its model first."""

_OPENERS: Final[Mapping[str, str]] = {
    "decision": "serve_app.evaluation.live_decision",
    "embedding": "serve_app.evaluation.live_embedded",
    "embeddings": "serve_app.evaluation.live_embeddings",
    "http": "serve_app.evaluation.live_http",
    "vllm": "serve_app.evaluation.live_vllm",
}
"""Modules that open an engine. Their libraries are slow to import, so only those needed are."""

Measure: TypeAlias = Callable[[LabelledSet], Evaluation]


@dataclass(frozen=True, slots=True)
class EngineContext:
    """What engines need of a configuration beside their sections."""

    servers: Servers = field(default_factory=Servers)
    rule: DecisionRule | None = None
    """How the first engine's probabilities become a decision; None if it decides by itself."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What an engine is opened with."""

    runner: asyncio.Runner
    routes: tuple[Route, ...]
    servers: Servers
    key: str
    """The key of the engine's section, for messages."""


class EngineOpener(Protocol):
    """A module that opens an engine."""

    def open_engine(
        self, section: EngineSection, opening: Opening
    ) -> AbstractContextManager[Orchestrator]:
        """Starts the engine of a section, and ends it with the context."""
        ...


def ask_once(
    section: OrchestratorSection, question: Question, context: EngineContext
) -> tuple[Scores, float]:
    """The scores of a section's engines for one question, and the seconds that they took.

    Raises EngineFaultError if an engine cannot be started, or none answers.
    """
    with (
        asyncio.Runner() as runner,
        _opened(section, runner, question.routes, context) as engine,
    ):
        started = time.perf_counter()
        scores = runner.run(engine.score(question))
        took_s = time.perf_counter() - started
    if isinstance(scores, Unavailable):
        raise EngineFaultError(f"engine {section.engine} is unavailable: {scores.detail}")
    return scores, took_s


@contextmanager
def live_measure(
    section: OrchestratorSection,
    progress: Progress,
    routes: tuple[Route, ...],
    context: EngineContext,
) -> Iterator[Measure]:
    """A function that evaluates sets with the engines of a section.

    Raises EngineFaultError if one cannot be started.
    """
    with asyncio.Runner() as runner, _opened(section, runner, routes, context) as engine:

        def measure(labelled: LabelledSet) -> Evaluation:
            whole = section.reads_conversations
            measuring = case_outcomes(labelled, progress, engine, generates=whole)
            outcomes = runner.run(measuring)
            return Evaluation(labelled, section, outcomes, ())

        yield measure


@contextmanager
def _opened(
    section: OrchestratorSection,
    runner: asyncio.Runner,
    routes: tuple[Route, ...],
    context: EngineContext,
) -> Iterator[Orchestrator]:
    """The engine of a section, or both with ``when_unsure``."""
    first_opening = Opening(runner, routes, context.servers, FIRST)
    with _opener(section).open_engine(section, first_opening) as engine:
        whole, better = section.reads_conversations, section.when_unsure
        decided = by_rule(engine, context.rule)
        first = Tier(decided.score, section.generates or not whole, section.engine)
        if better is None:
            yield first
            return
        opening = Opening(runner, routes, context.servers, SECOND)
        with _opener(better).open_engine(better, opening) as other:
            yield Tiers(
                first,
                Tier(other.score, better.generates or not whole),
                below=better.below,
                deadline_s=2 * DEADLINE_S,
                clock=time.monotonic,
            )


def _opener(section: EngineSection) -> EngineOpener:
    return cast("EngineOpener", import_module(_OPENERS[section.engine]))
