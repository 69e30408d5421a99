"""Gives a graph that encodes texts one logit, so that it has the shape of a cross-encoder.

    python cross_encoder.py ENCODER.onnx CROSS_ENCODER.onnx

Runs where ``onnx`` is installed, and imports nothing else. The logit is that of a random direction:
such a graph is for measuring time, and decides nothing.
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEED = 0


def with_logit(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the graph with one output, ``logits``, of the first token's state."""
    graph = model.graph
    state = next(one for one in graph.output if len(one.type.tensor_type.shape.dim) == 3)
    width = state.type.tensor_type.shape.dim[2].dim_value
    head = np.random.default_rng(SEED).normal(size=(width, 1)).astype(np.float32)
    graph.initializer.extend(
        [
            numpy_helper.from_array(head, "logit_head"),
            numpy_helper.from_array(np.array(0, np.int64), "logit_place"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Gather", [state.name, "logit_place"], ["logit_state"], axis=1),
            helper.make_node("MatMul", ["logit_state", "logit_head"], ["logits"]),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1]))
    return model


if __name__ == "__main__":
    onnx.save(with_logit(onnx.load(sys.argv[1])), sys.argv[2])
