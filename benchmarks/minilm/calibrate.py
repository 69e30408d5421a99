"""Measures TABLE of build_graph.py with the exact model and the made-up sentences; prints it.

Run it only when the weights change: `python benchmarks/minilm/calibrate.py PACKAGE/model.onnx
VOCABULARY`, with onnx, onnxruntime and tokenizers installed.
"""

import sys
import textwrap
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


def activations(package: Path, vocab: Path) -> list[dict[str, Array]]:
    """Returns the inputs of qkv, o, up and down of each layer, over all tokens of all sentences."""
    model = onnx.load(str(package))
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


def main(package: Path, vocab: Path) -> None:
    """Prints the table."""
    print("TABLE: list[Layer] = [")
    for acts in activations(package, vocab):
        row: dict[str, object] = {}
        for kind, limit in LIMIT.items():
            peak = np.abs(acts[kind]).max(0)
            split = copies(peak, limit)
            for channel, n in split.items():
                peak[channel] /= n
            row[f"{kind}_split"], row[f"{kind}_peak"] = split, round(float(peak.max()), 3)
        row["o_peak"] = round(float(np.abs(acts["o"]).max()), 3)
        top = acts["down"].max(0)
        row["exact"] = (
            sorted(map(int, np.argsort(-top)[:HIDDEN])) if top.max() > HIDDEN_LIMIT else []
        )
        args = ", ".join(f"{k}={v}" for k, v in row.items())
        print(
            textwrap.fill(f"Layer({args}),", 100, initial_indent=" " * 4, subsequent_indent=" " * 8)
        )
    print("]")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
