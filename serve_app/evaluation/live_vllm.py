"""Starts the engine ``vllm`` for a measurement."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from serve_app.config.schema.orchestrator import EngineSection
from serve_app.engines.faults import EngineFaultError
from serve_app.engines.vllm import engine, settings
from serve_app.evaluation.live_engine import DEADLINE_S, Opening
from serve_app.ports import Orchestrator

START_S: Final = 1800.0
"""Longest start of an engine: the weights may be large, and on a network disk."""


@contextmanager
def open_engine(section: EngineSection, opening: Opening) -> Iterator[Orchestrator]:
    """Starts the engine of a section, and stops it with the context.

    Raises EngineFaultError for an engine that does not start.
    """
    started = engine.VllmEngine(
        settings.VllmSettings.from_section(section), routes=opening.routes, deadline_s=DEADLINE_S
    )
    try:
        if not started.wait(START_S):
            why = started.fault or f"it did not start within {START_S:g} s"
            raise EngineFaultError(f"engine vllm is unavailable: {why}")
        yield started
    finally:
        started.close()
