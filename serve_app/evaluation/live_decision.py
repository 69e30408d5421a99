"""Opens the engine ``decision`` for a measurement."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from serve_app.config.schema.orchestrator import EngineSection
from serve_app.engines import decision
from serve_app.evaluation.live_engine import DEADLINE_S, Opening
from serve_app.ports import Orchestrator


@contextmanager
def open_engine(section: EngineSection, opening: Opening) -> Iterator[Orchestrator]:
    """Makes the client of the server that a section names, and closes it with the context."""
    settings = decision.DecisionSettings.from_section(
        section, DEADLINE_S, opening.servers, opening.key
    )
    engine = decision.DecisionEngine(settings, os.environ)
    try:
        yield engine
    finally:
        opening.runner.run(engine.close())
