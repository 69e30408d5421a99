"""Measures the ranges of a model's activations, for the fixed steps of the int8 graph."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from sentences import SENTENCES
from tokenizers import BertWordPieceTokenizer

LIMIT = {"qkv": 3.6, "up": 4.3}  # largest magnitude a channel may have before it is split
HIDDEN = 4  # hidden units kept in fp32 in a layer with outliers
HIDDEN_LIMIT = 7.0  # below this largest hidden value a layer needs none
Array = NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """Fixed figures of one layer."""

    qkv_split: dict[int, int]  # channel: number of equal parts
    qkv_peak: float  # largest magnitude after the split
    up_split: dict[int, int]
    up_peak: float
    o_peak: float
    exact: list[int]  # hidden units computed in fp32


def activations(model: onnx.ModelProto, vocab: Path) -> list[dict[str, Array]]:
    """Returns the inputs of qkv, o, up and down of each layer, over all tokens of all sentences."""
    made = {out: node for node in model.graph.node for out in node.output}
    inputs = [
        n.input[0] for n in model.graph.node
        if n.op_type == "MatMul" and n.input[1] in made and made[n.input[1]].input[-1].endswith("_scale")
    ]  # fmt: skip
    places = {"qkv": 0, "o": 3, "up": 4, "down": 5}
    named = {(kind, i): inputs[6 * i + at] for i in range(6) for kind, at in places.items()}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(n, 1, None) for n in named.values()
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tokenizer = BertWordPieceTokenizer(str(vocab), lowercase=True)
    texts: list[list[int]] = [tokenizer.encode(s).ids for s in SENTENCES]
    for at in (0, 16, 32):  # three long ones
        texts.append([101, *[i for t in texts[at : at + 8] for i in t[1:-1]][:200], 102])
    inputs_by_place: dict[tuple[str, int], list[Array]] = {k: [] for k in named}
    for ids in texts:
        x = np.array([ids])
        feeds = {
            "input_ids": x,
            "attention_mask": np.ones_like(x),
            "token_type_ids": np.zeros_like(x),
        }
        for key, value in zip(named, session.run(list(named.values()), feeds), strict=True):
            inputs_by_place[key].append(np.asarray(value)[0])
    return [
        {k: np.concatenate(inputs_by_place[k, i]) for k in ("qkv", "o", "up", "down")}
        for i in range(6)
    ]


def copies(peak: Array, limit: float) -> dict[int, int]:
    """Returns the number of equal parts of each outlier channel; added rows are a multiple of 4."""
    count = np.maximum(1, np.ceil(peak / limit)).astype(int)
    while (count.sum() - len(count)) % 4:
        count[np.argmax(peak / count)] += 1
    return {int(c): int(count[c]) for c in np.flatnonzero(count > 1)}


def layers(model: onnx.ModelProto, vocab: Path) -> list[Layer]:
    """Returns the figures of each layer; ``model`` is changed."""
    found = []
    for acts in activations(model, vocab):
        peaks, splits = {}, {}
        for kind, limit in LIMIT.items():
            peak = np.abs(acts[kind]).max(0)
            splits[kind] = copies(peak, limit)
            for channel, n in splits[kind].items():
                peak[channel] /= n
            peaks[kind] = round(float(peak.max()), 3)
        top = acts["down"].max(0)
        exact = sorted(map(int, np.argsort(-top)[:HIDDEN])) if top.max() > HIDDEN_LIMIT else []
        o_peak = round(float(np.abs(acts["o"]).max()), 3)
        found.append(Layer(splits["qkv"], peaks["qkv"], splits["up"], peaks["up"], o_peak, exact))
    return found
