"""An encoder from a folder of its own: other weights for the embedded engine.

serve_app/engines/embedding/encoder_files.py says what the folder may contain. What the graph does
not do is done here: pooling over the tokens, and the length of 1.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from serve_app.domain import Turn
from serve_app.engines.embedding.encoder_files import Pooling, read_encoder
from serve_app.engines.embedding.graph import SENTENCE, Array, TransformerGraph
from serve_app.engines.embedding.text_tokens import TextTokens
from serve_app.engines.faults import EngineFaultError
from serve_app.scoring.embedding import Vector
from serve_app.scoring.query import query_parts
from serve_app.scoring.readout import GENERIC

POOL: Final[Mapping[Pooling, Callable[[Array], Array]]] = {
    "cls": lambda vectors: vectors[0],
    "mean": lambda vectors: vectors.mean(axis=0),
    "max": lambda vectors: vectors.max(axis=0),
    "last": lambda vectors: vectors[-1],
    "mean_sqrt": lambda vectors: vectors.sum(axis=0) / np.sqrt(len(vectors)),
}
"""One vector from those of the tokens."""

_PER_TOKEN: Final = 2
"""Number of dimensions of vectors per token, without that of the batch."""

_LEAST_TOKENS: Final = 4


class FolderEncoder:
    """Embeds texts as unit vectors, one at a time: a result never depends on other texts."""

    encoded_tokens = 0
    """Tokens that went through the model so far."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        max_tokens: int,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
    ) -> None:
        """Loads the model. Raises EngineFaultError with the file and the fix.

        A prefix of None is that of the model's own files.
        """
        self.files = read_encoder(path)
        model = self.files.model
        self.readout = GENERIC
        self.max_tokens = min(max_tokens, model.max_tokens or max_tokens)
        if self.max_tokens < _LEAST_TOKENS:
            raise EngineFaultError(
                f"{path} allows {self.max_tokens} tokens, too few for a text; "
                "correct max_seq_length, model_max_length or max_position_embeddings in its files"
            )
        self.query_prefix = self.files.query_prefix if query_prefix is None else query_prefix
        self.passage_prefix = (
            self.files.passage_prefix if passage_prefix is None else passage_prefix
        )
        self._tokens = TextTokens(model)
        self._graph = TransformerGraph(
            model.graph, threads=threads, first_position=model.first_position
        )
        self._pool = POOL[self.files.pooling]
        self.dimensions = self._checked_dimensions()

    def embed(self, text: str) -> Vector:
        """The direction of a text of a route."""
        return self._direction([self.passage_prefix + text])

    def embed_example(self, text: str) -> Vector:
        """The direction of what a user might say: with the prefix of a query."""
        return self._direction([self.query_prefix + text])

    def embed_turns(self, turns: Sequence[Turn]) -> Vector:
        """The direction of a conversation's last turn, and of what it follows, if that is there.

        ``turns`` are those of scoring/excerpt.py's ``recent``.
        """
        last, *others = query_parts(turns)
        return self._direction([self.query_prefix + last, *others])

    @property
    def description(self) -> str:
        """The model in a few words: its family, pooling, prefixes and lengths."""
        pooling = f"{self.files.pooling} over the tokens"
        if self._graph.output == SENTENCE:
            pooling = "pooled by the graph"
        elif not self.files.is_pooling_stated:
            pooling += " because no 1_Pooling/config.json says otherwise"
        words = [
            self.files.model.model_type or "unknown family",
            self.files.model.graph.name,
            pooling,
            f"{self.dimensions} dimensions",
            f"{self.max_tokens} tokens",
        ]
        prefixes = (("query", self.query_prefix), ("passage", self.passage_prefix))
        words += [f"{name} prefix {prefix!r}" for name, prefix in prefixes if prefix]
        return ", ".join(words)

    def _direction(self, texts: Sequence[str]) -> Vector:
        ids = self._tokens.query(texts, self.max_tokens)
        self.encoded_tokens += len(ids)
        vector = self._pooled(self._graph.run(ids))
        unit: Vector = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
        return unit

    def _pooled(self, output: Array) -> Array:
        return self._pool(output) if output.ndim == _PER_TOKEN else output

    def _checked_dimensions(self) -> int:
        """The length of a vector, from a text of the maximum length."""
        text = " ".join(["a"] * self.max_tokens)
        output = self._graph.try_run(self._tokens.query([text], self.max_tokens))
        if output.ndim > _PER_TOKEN:
            raise EngineFaultError(
                f"{self._graph.file}: the output {self._graph.output} has {output.ndim + 1} "
                "dimensions; use an export for feature extraction"
            )
        files = self.files
        if files.other_modules and self._graph.output != SENTENCE:
            raise EngineFaultError(
                f"{files.model.graph} lacks the module {files.other_modules[0]} of modules.json; "
                f"export the whole model, with the output {SENTENCE}"
            )
        size = len(self._pooled(output))
        if files.dimensions not in {None, size} and not files.other_modules:
            raise EngineFaultError(
                f"{files.model.graph} returns {size} dimensions, {files.dimensions_from} says "
                f"{files.dimensions}; use the files of one model"
            )
        return size
