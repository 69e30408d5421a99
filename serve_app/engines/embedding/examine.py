"""Tries the models of a configuration's embedded engine, for ``fingerpost check``."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.engines.embedding.encoder import FolderEncoder
from serve_app.engines.embedding.engine import (
    EmbeddingSettings,
    open_model,
    open_reranker,
    unmeasured,
)
from serve_app.engines.faults import EngineFaultError


class Examination(NamedTuple):
    """What was found."""

    warnings: tuple[str, ...]
    facts: tuple[str, ...]
    """Lines about models that can be used."""


NOTHING_FOUND: Final = Examination((), ())


def examine(section: OrchestratorSection) -> Examination:
    """Loads the configured model and reranker that exist here; the bundled model is not loaded."""
    settings = EmbeddingSettings.from_section(section)
    found = _model(replace(settings, reranker=None, reranker_below=1.0))
    second = _reranker(replace(settings, model=None))
    facts = [*found.facts, *second.facts]
    if settings.model is not None and found.facts and section.calibration is None:
        facts.insert(len(found.facts), f"note: {unmeasured(settings.model)}")
    return Examination((*found.warnings, *second.warnings), tuple(facts))


@lru_cache(maxsize=1)
def _model(settings: EmbeddingSettings) -> Examination:
    path = settings.model
    if path is None or not _exists(path):
        return NOTHING_FOUND
    try:
        model = open_model(settings)
    except EngineFaultError as error:
        return Examination((f"orchestrator.model, on this machine: {error}",), ())
    if isinstance(model, FolderEncoder):
        return Examination((), (f"encoder {path}: {model.description}",))
    warnings = tuple(
        f"orchestrator.{name} is ignored: there is no tokenizer.json beside {path}; add it"
        for name in ("query_prefix", "passage_prefix")
        if getattr(settings, name) is not None
    )
    return Examination(warnings, (f"encoder {path}: a graph without a tokenizer.json",))


@lru_cache(maxsize=1)
def _reranker(settings: EmbeddingSettings) -> Examination:
    path = settings.reranker
    if path is None or not _exists(path):
        return NOTHING_FOUND
    try:
        reranker = open_reranker(settings)
    except EngineFaultError as error:
        return Examination((f"orchestrator.reranker, on this machine: {error}",), ())
    description = "" if reranker is None else reranker.description
    return Examination((), (f"reranker {path}: {description}",))


def _exists(path: Path) -> bool:
    """False also where the system cannot tell; the configuration's own warning names such a path."""
    try:
        return path.exists()
    except OSError:
        return False
