"""Opens the embedded engine for a measurement together with another one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from serve_app.config.schema.orchestrator import EngineSection, OrchestratorSection
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.evaluation.live_engine import Opening
from serve_app.evaluation.measure import EmbeddedOrchestrator
from serve_app.ports import Orchestrator


@contextmanager
def open_engine(section: EngineSection, opening: Opening) -> Iterator[Orchestrator]:
    """Makes the engine of a section, prepared for the routes. Raises EngineFaultError."""
    settings = EmbeddingSettings.from_section(cast("OrchestratorSection", section))
    engine = EmbeddingEngine(settings)
    engine.prepare(opening.routes)
    yield EmbeddedOrchestrator(engine)
