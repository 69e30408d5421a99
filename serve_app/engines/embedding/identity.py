"""Which model the embedded engine has, in a few digits; needs neither numpy nor onnxruntime."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.engines.embedding.encoder_files import is_encoder, read_cross_encoder, read_encoder
from serve_app.engines.faults import EngineFaultError

FOLDER: Final = Path(__file__).parent

ERROR_CURVE: Final = FOLDER / "minilm_error_curve.json"
"""The errors of the bundled model by threshold, in the form of a calibration.

``fingerpost eval SET... --calibrate --no-fit -o FILE`` makes it, from policies that the model was
not trained on.
"""

_SETTINGS: Final = ("max_query_tokens", "query_prefix", "passage_prefix")
"""Settings that change probabilities."""

_DIGITS: Final = 16


def engine_hash(section: OrchestratorSection) -> str | None:
    """Identifies the weights, and the settings that change probabilities.

    The bundled model is all of its files, the read-out included. None for another engine, and
    where a file cannot be read.
    """
    if section.engine != "embedding":
        return None
    settings = [getattr(section, name) for name in _SETTINGS]
    if section.reranker is not None:
        settings += [section.reranker_below, section.reranker_ms]
    digest = hashlib.sha256(repr(settings).encode())
    try:
        for file in _files(section):
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    except (OSError, EngineFaultError):
        return None
    return digest.hexdigest()[:_DIGITS]


def _files(section: OrchestratorSection) -> Iterator[Path]:
    """The files of the model, of the reranker and of what was tuned. Raises EngineFaultError."""
    if section.model is None:
        bundled = (file for file in sorted(FOLDER.glob("minilm*")) if file.suffix != ".py")
        yield from (file for file in bundled if file != ERROR_CURVE)
    elif is_encoder(Path(section.model)):
        model = read_encoder(Path(section.model)).model
        yield from (model.graph, model.tokenizer)
    else:
        yield Path(section.model)
    if section.reranker is not None:
        yield read_cross_encoder(Path(section.reranker)).graph
    if section.tuned is not None:
        yield Path(section.tuned)
