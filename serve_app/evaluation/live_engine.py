"""Engines with a language model, made to be tried on this machine, and ended afterwards."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Question, Route, Scores, Unavailable
from serve_app.engines import http
from serve_app.engines.faults import EngineFaultError
from serve_app.evaluation.labelled_set import LabelledSet
from serve_app.evaluation.measure import Evaluation, Progress, outcomes_of
from serve_app.ports import Orchestrator as Port

PATIENCE_S: Final = 60.0
"""For an answer: how long they take is what is measured, and a server may have to load a model."""

ENGINE_START_S: Final = 1800.0
"""For an engine to start: large weights, maybe from a network's disk."""

Measure: TypeAlias = Callable[[LabelledSet], Evaluation]


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


@contextmanager
def _opened(
    section: OrchestratorSection,
    runner: asyncio.Runner,
    routes: tuple[Route, ...],
    tls_ca: str | None,
) -> Iterator[Port]:
    if section.engine == "http":
        asked = http.HttpEngine(
            http.HttpEngineSettings.from_section(section, PATIENCE_S, tls_ca), os.environ
        )
        try:
            yield asked
        finally:
            runner.run(asked.close())
        return
    from serve_app.engines.vllm import engine, settings  # noqa: PLC0415 - needed for vLLM only

    started = engine.VllmEngine(
        settings.VllmSettings.from_section(section), routes=routes, deadline_s=PATIENCE_S
    )
    try:
        if not started.wait(ENGINE_START_S):
            why = started.fault or f"it did not start within {ENGINE_START_S:g} s"
            raise EngineFaultError(f"the engine vllm can't be asked: {why}")
        yield started
    finally:
        started.close()
