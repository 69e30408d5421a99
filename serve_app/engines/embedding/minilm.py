"""all-MiniLM-L6-v2 in int8 arithmetic: a bundled graph over the weights of the pinned package.

The embeddings of words and positions are the package's; the layers were trained further on
routing policies (training/README.md) and are in ``minilm_trained.bin``. The graph,
``minilm.onnx``, multiplies int8 by int8 and has no weights: ``minilm.json`` lists the bytes of
both files that each tensor is made of. training/graph/build_graph.py makes all three;
docs/design/decisions/0005-minilm-graph.md explains how they keep the accuracy.
"""

import json
import mmap
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from serve_app.scoring.readout import Readout

GRAPH: Final = Path(__file__).parent / "minilm.onnx"
TENSORS: Final = Path(__file__).parent / "minilm.json"
TRAINED: Final = Path(__file__).parent / "minilm_trained.bin"
"""What training/ made: all but the embeddings of words and positions, and each token's share."""
READOUT_FILE: Final = Path(__file__).parent / "minilm_readout.json"
READOUT: Final = Readout.from_json(json.loads(READOUT_FILE.read_bytes()))
"""The read-out that was fitted with these weights."""

_Array = npt.NDArray[Any]


def open_session(weights: Path, options: Any) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """An onnxruntime session, ``input_ids`` int64 ``(1, n)`` to ``embedding`` float32 ``(384,)``.

    ``weights`` is the pinned package's model.onnx, whose hash the caller has checked; ``options``
    are onnxruntime's SessionOptions. For n from 1 to 512; onnxruntime 1.26 divides by zero at 0.
    The embedding is the mean over the tokens, of length 1; punctuation counts less in it. Needs
    onnxruntime 1.26 or newer.
    """
    import onnxruntime  # noqa: PLC0415 - loaded only where an engine is made

    made = json.loads(TENSORS.read_bytes())
    trained = TRAINED.read_bytes()
    if sha256(trained).hexdigest() != made["trained_sha256"]:
        message = f"{TRAINED} is not the file that belongs to {TENSORS.name}; reinstall fingerpost"
        raise ValueError(message)
    recipes: dict[str, dict[str, Any]] = made["tensors"]
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        files = _Files(data, trained)
        values = [_tensor(files, recipe) for recipe in recipes.values()]
        options.add_external_initializers(
            list(recipes), [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in values]
        )
    return onnxruntime.InferenceSession(
        GRAPH.read_bytes(), options, providers=["CPUExecutionProvider"]
    )


class _Files(NamedTuple):
    """The bytes that tensors are made of."""

    package: mmap.mmap
    trained: bytes


def _tensor(files: _Files, recipe: dict[str, Any]) -> _Array:
    """One initializer: a term as it is, or ``value * times + plus`` in float32."""
    array = _term(files, recipe["value"])
    if "times" in recipe:
        array = array.astype(np.float32) * _term(files, recipe["times"])
    if "plus" in recipe:
        array = array + _term(files, recipe["plus"])
    return np.array(array, recipe["dtype"], order="C").reshape(recipe["shape"])


def _term(files: _Files, spec: dict[str, Any]) -> _Array:
    """An array from byte ranges: joined along ``axis``, then ``take``, ``append`` and ``zero``."""
    parts: list[_Array] = []
    for offset, dtype, shape, *where in spec["parts"]:
        source = files.trained if where else files.package
        count = int(np.prod(shape))
        parts.append(np.frombuffer(source, dtype, count, offset).reshape(shape))
    array = parts[0] if len(parts) == 1 else np.concatenate(parts, spec.get("axis", 0))
    if "take" in spec:  # only these rows or columns
        axis, index = spec["take"]
        array = array.take(index, axis)
    if "append" in spec:  # these rows once more, at the end
        axis, index = spec["append"]
        array = np.concatenate([array, array.take(index, axis)], axis)
    if "zero" in spec:  # these columns set to 0
        array = array.copy()
        array[..., spec["zero"]] = 0
    return array
