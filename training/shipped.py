"""The weights that the engine ships, read back from its files into float32.

With them ``training.encoder.Encoder`` computes what the int8 graph approximates.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from serve_app.engines.embedding.minilm import TENSORS, TRAINED
from training.encoder import LAYERS, Encoder, base_weights

_PLACES = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "o": ("attention.output.dense",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
}
_NORMS = {"norm1": "attention.output.LayerNorm", "norm2": "output.LayerNorm"}


def shipped_encoder() -> Encoder:
    """The bundled encoder in float32: its matrices are those that were rounded to int8."""
    trained = {name: torch.from_numpy(value) for name, value in _tensors()}
    shares = trained.pop("shares")
    return Encoder({**base_weights(), **trained}, shares)


def _tensors() -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    recipes, data = json.loads(TENSORS.read_bytes())["tensors"], TRAINED.read_bytes()

    def parts(name: str) -> list[npt.NDArray[Any]]:
        found = []
        for offset, dtype, shape, _ in recipes[name]["value"]["parts"]:
            array = np.frombuffer(data, dtype, int(np.prod(shape)), offset).reshape(shape)
            found.append(array.astype(np.float32))
        return found

    yield "shares", parts("shares")[0]
    for kind in ("weight", "bias"):
        yield f"embeddings.LayerNorm.{kind}", parts(f"norm.{kind}")[0]
    for number in range(LAYERS):
        at = f"encoder.layer.{number}."
        for place, names in _PLACES.items():
            own = [parts(f"l{number}.{place}.{kind}") for kind in ("weight", "scale", "bias")]
            for name, weight, scale, bias in zip(names, *own, strict=True):
                yield f"{at}{name}.weight", np.ascontiguousarray((weight * scale).T)
                yield f"{at}{name}.bias", bias
        for place, name in _NORMS.items():
            for kind in ("weight", "bias"):
                yield f"{at}{name}.{kind}", parts(f"l{number}.{place}.{kind}")[0]
