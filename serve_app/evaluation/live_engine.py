"""Starts engines with a language model on this machine for a measurement, and stops them."""

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
from serve_app.evaluation.measure import Evaluation, Progress, case_outcomes
from serve_app.ports import Orchestrator

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
    ) -> AbstractContextManager[Orchestrator]:
        """Starts the engine of a section, and ends it with the context."""
        ...


def ask_once(
    section: OrchestratorSection, question: Question, tls_ca: str | None = None
) -> tuple[Scores, float]:
    """The scores of an engine, vllm or http, for one question, and the seconds that it took.

    ``tls_ca`` is the configuration's ``overrides.upstream_tls_ca_path``. Raises EngineFaultError if
    the engine cannot be started or does not answer.
    """
    with asyncio.Runner() as runner, _opened(section, runner, question.routes, tls_ca) as engine:
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
    tls_ca: str | None = None,
) -> Iterator[Measure]:
    """A function that evaluates sets with the engine of a section, vllm or http.

    ``tls_ca`` as above. Raises EngineFaultError if the engine cannot be started.
    """
    with asyncio.Runner() as runner, _opened(section, runner, routes, tls_ca) as engine:

        def measure(labelled: LabelledSet) -> Evaluation:
            measuring = case_outcomes(labelled, progress, engine, generates=section.generates)
            outcomes = runner.run(measuring)
            return Evaluation(labelled, section, outcomes, ())

        yield measure


def _opened(
    section: OrchestratorSection,
    runner: asyncio.Runner,
    routes: tuple[Route, ...],
    tls_ca: str | None,
) -> AbstractContextManager[Orchestrator]:
    opener = cast("EngineOpener", import_module(_OPENERS[section.engine]))
    return opener.open_engine(section, runner, routes, tls_ca)
