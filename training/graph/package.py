"""The package's ONNX model with other weights in it: what is trained, in int8.

A matrix is symmetric int8 with one scale for each output column, as in the package. Everything
else that is trained (biases, LayerNorms) stays in float32.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import load_file

Array = NDArray[Any]
MATRICES = (
    "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "intermediate.dense", "output.dense",
)  # fmt: skip


def matrix_names(model: onnx.ModelProto) -> list[str]:
    """The names of the matrices of all layers in the package, six a layer, in the order of MATRICES."""
    names = [tensor.name for tensor in model.graph.initializer]
    return [name[:-2] for name in names if name.startswith("val_") and name.endswith("_q")]


def trained_tensors(model: onnx.ModelProto, trained: Path) -> dict[str, Array]:
    """The tensors that replace the package's, by the package's names."""
    weights = load_file(trained)
    tensors: dict[str, Array] = {}
    for at, name in enumerate(matrix_names(model)):
        layer, kind = divmod(at, len(MATRICES))
        matrix = weights[f"encoder.layer.{layer}.{MATRICES[kind]}.weight"].T.astype(np.float32)
        scale = best_scale(matrix)
        tensors[f"{name}_q"] = np.clip(np.rint(matrix / scale), -127, 127).astype(np.int8)
        tensors[f"{name}_scale"] = scale[None].astype(np.float32)
    for name, value in weights.items():
        if value.ndim == 1:
            tensors[f"inner.{name}"] = value.astype(np.float32)
    return tensors


def best_scale(matrix: Array) -> Array:
    """The scale of each column that loses least to rounding, of 40 between the half and the peak."""
    peak = np.maximum(np.abs(matrix).max(0), 1e-12) / 127
    best, least = peak, np.full(matrix.shape[1], np.inf)
    for share in np.linspace(0.6, 1.0, 40):
        scale = peak * share
        error = ((np.clip(np.rint(matrix / scale), -127, 127) * scale - matrix) ** 2).sum(0)
        best = np.where(error < least, scale, best)
        least = np.minimum(error, least)
    return best


def with_tensors(model: onnx.ModelProto, tensors: dict[str, Array]) -> onnx.ModelProto:
    """The package's model with these tensors in place of its own."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in tensors:
            value = tensors[tensor.name].reshape(tuple(tensor.dims))
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))
    return changed
