"""An ONNX graph of a transformer: which inputs it asks for, and which output is used."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from serve_app.engines.faults import EngineFaultError

Array = npt.NDArray[Any]

SENTENCE: Final = "sentence_embedding"
"""An output with one vector for the text, pooled and complete."""

TOKENS: Final = ("last_hidden_state", "token_embeddings")
"""Outputs with one vector for each token."""

LOGITS: Final = "logits"
"""The output of a cross-encoder."""

_PER_TOKEN: Final = 3
"""Number of dimensions of an output with one vector per token."""

_TYPES: Final[Mapping[str, type[np.generic]]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
_Fill = Callable[[Array, Array, int], Array]
_FILLS: Final[Mapping[str, _Fill]] = {
    "input_ids": lambda ids, _types, _first: ids,
    "attention_mask": lambda ids, _types, _first: np.ones_like(ids),
    "token_type_ids": lambda _ids, types, _first: types,
    "position_ids": lambda ids, _types, first: np.arange(first, first + ids.shape[1])[None],
}
"""The inputs that are known: from tokens, their types, and the number of the first position."""


def session_options(threads: int) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Options of onnxruntime for a graph that runs alone on ``threads`` threads."""
    import onnxruntime  # noqa: PLC0415 - loaded only where an engine is made

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    return options


class TransformerGraph:
    """A graph over one text, or one pair of texts, at a time."""

    def __init__(
        self, file: Path, *, threads: int, first_position: int, is_cross_encoder: bool = False
    ) -> None:
        """Raises EngineFaultError if the graph is invalid, or its inputs or outputs are unknown."""
        import onnxruntime  # noqa: PLC0415 - loaded only where an engine is made

        self.file = file
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise EngineFaultError(f"{file} is not a usable ONNX model: {error}") from error
        self._first_position = first_position
        self._inputs = [(value.name, value.type) for value in self._session.get_inputs()]
        for name, kind in self._inputs:
            if name not in _FILLS or kind not in _TYPES:
                raise EngineFaultError(
                    f"{file} asks for the input {name} ({kind}), which is not supported; "
                    f"use an export with {', '.join(_FILLS)}, or some of them"
                )
        outputs = [(value.name, len(value.shape)) for value in self._session.get_outputs()]
        self.output = _logits(file, outputs) if is_cross_encoder else _embedding(file, outputs)

    def run(self, ids: Sequence[int], types: Sequence[int] | None = None) -> Array:
        """The output for these tokens, float32, without the dimension of the batch.

        ``types`` are the numbers of the texts that the tokens belong to; None means 0 for all.
        """
        row = np.array([ids], np.int64)
        type_row = np.zeros_like(row) if types is None else np.array([types], np.int64)
        feeds = {
            name: _FILLS[name](row, type_row, self._first_position).astype(_TYPES[kind])
            for name, kind in self._inputs
        }
        (output,) = self._session.run([self.output], feeds)
        array = np.asarray(output, np.float32)
        return array[0] if array.ndim > 1 else array

    def try_run(self, ids: Sequence[int], types: Sequence[int] | None = None) -> Array:
        """As ``run``, to find faults: raises EngineFaultError if the graph fails."""
        try:
            output = self.run(ids, types)
        except Exception as error:
            raise EngineFaultError(
                f"{self.file} fails on {len(ids)} tokens: {error}; "
                "use the files of one model, or lower orchestrator.max_query_tokens"
            ) from error
        if not np.isfinite(output).all():
            raise EngineFaultError(
                f"{self.file} returns values that are not finite; use another export of the model"
            )
        return output


def _embedding(file: Path, outputs: Sequence[tuple[str, int]]) -> str:
    """The output that holds the vector of the text, or those of the tokens."""
    names = [name for name, _ in outputs]
    for name in (SENTENCE, *TOKENS):
        if name in names:
            return name
    if names == [LOGITS]:
        raise EngineFaultError(
            f"{file} returns {LOGITS}, as a classifier or a cross-encoder does; use an export for "
            "feature extraction, or set a cross-encoder as orchestrator.reranker"
        )
    tokens = [name for name, rank in outputs if rank == _PER_TOKEN]
    candidates = names if len(names) == 1 else tokens
    if len(candidates) == 1:
        return candidates[0]
    raise EngineFaultError(
        f"{file} has the outputs {', '.join(names)}, none of which is known; "
        f"use an export with {SENTENCE} or {TOKENS[0]}"
    )


def _logits(file: Path, outputs: Sequence[tuple[str, int]]) -> str:
    names = [name for name, _ in outputs]
    if LOGITS in names:
        return LOGITS
    if len(names) == 1 and outputs[0][1] < _PER_TOKEN:
        return names[0]
    raise EngineFaultError(
        f"{file} has the outputs {', '.join(names)}, none of which is {LOGITS}; "
        "use an export for text classification of a cross-encoder"
    )
