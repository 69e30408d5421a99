"""Engines with a language model, made to be tried on this machine, and ended afterwards."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Final, Protocol, TypeAlias, cast

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Question, Route, Scores, Unavailable
from serve_app.engines.faults import EngineFaultError
from serve_app.evaluation.labelled_set import LabelledSet
from serve_app.evaluation.measure import Evaluation, Progress, outcomes_of
from serve_app.ports import Orchestrator as Port

_OPENERS: Final[Mapping[str, str]] = {
    "http": "serve_app.evaluation.live_http",
    "vllm": "serve_app.evaluation.live_vllm",
}
"""Modules that open an engine. Their libraries are slow to import, so only one of them is."""

Measure: TypeAlias = Callable[[LabelledSet], Evaluation]


class EngineOpener(Protocol):
    """A module that opens an engine."""

    def open_engine(
        self,
        section: OrchestratorSection,
        runner: asyncio.Runner,
        routes: tuple[Route, ...],
        tls_ca: str | None,
    ) -> AbstractContextManager[Port]:
        """Starts the engine of a section, and ends it with the context."""
        ...


def ask_once(
    section: OrchestratorSection, question: Question, tls_ca: str | None = None
) -> tuple[Scores, float]:
    """What the engine, vllm or http, says of one question, and how many seconds that took.

    ``tls_ca`` is the configuration's ``overrides.upstream_tls_ca_path``. Raises EngineFaultError for
    one that can't be made, or has no answer.
    """
    with asyncio.Runner() as runner, _opened(section, runner, question.routes, tls_ca) as engine:
        started = time.perf_counter()
        said = runner.run(engine.score(question))
        took_s = time.perf_counter() - started
    if isinstance(said, Unavailable):
        message = f"the engine {section.engine} gave no decision: {said.detail}"
        raise EngineFaultError(message)
    return said, took_s


@contextmanager
def measured(
    section: OrchestratorSection,
    progress: Progress,
    routes: tuple[Route, ...],
    tls_ca: str | None = None,
) -> Iterator[Measure]:
    """What evaluates sets with the engine, vllm or http, that a section says.

    ``tls_ca`` as above. Raises EngineFaultError for one that can't be made.
    """
    with asyncio.Runner() as runner, _opened(section, runner, routes, tls_ca) as engine:

        def measure(labelled: LabelledSet) -> Evaluation:
            asked = outcomes_of(labelled, progress, engine, generates=section.generates)
            outcomes = runner.run(asked)
            return Evaluation(labelled, section, outcomes, ())

        yield measure


def _opened(
    section: OrchestratorSection,
    runner: asyncio.Runner,
    routes: tuple[Route, ...],
    tls_ca: str | None,
) -> AbstractContextManager[Port]:
    opener = cast("EngineOpener", import_module(_OPENERS[section.engine]))
    return opener.open_engine(section, runner, routes, tls_ca)
