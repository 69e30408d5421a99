"""Opens the engine ``http`` for a measurement."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Route
from serve_app.engines import http
from serve_app.ports import Orchestrator

DEADLINE_S: Final = 60.0
"""Latency is measured, not bounded, and the server may load its model on the first question."""


@contextmanager
def open_engine(
    section: OrchestratorSection,
    runner: asyncio.Runner,
    _routes: tuple[Route, ...],
    tls_ca: str | None,
) -> Iterator[Orchestrator]:
    """Makes the client of the server that a section names, and closes it with the context."""
    engine = http.HttpEngine(
        http.HttpEngineSettings.from_section(section, DEADLINE_S, tls_ca), os.environ
    )
    try:
        yield engine
    finally:
        runner.run(engine.close())
