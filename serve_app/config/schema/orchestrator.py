"""The section ``orchestrator``: what matches conversations to routes, and what it runs on."""

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from serve_app.config.schema.section import Section, Text

LEAST_MODEL_LEN: Final = 256
"""In fewer tokens there is no room for routes."""


_VLLM: Final = ("vllm generate", "vllm embed")
_USED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "min_confidence": ("embedding", *_VLLM),
    "min_margin": ("embedding", *_VLLM),
    "fallback": ("http", *_VLLM),
    "task": _VLLM,
    "family": ("http", "vllm generate"),
    "device": _VLLM,
    "mode": ("vllm generate",),
    "download": _VLLM,
    "max_model_len": ("http", *_VLLM),
    "kv_cache_mb": _VLLM,
    "gpu_memory_gb": _VLLM,
    "dtype": _VLLM,
    "quantization": _VLLM,
    "max_num_seqs": _VLLM,
    "base_url": ("http",),
    "access_key": ("http",),
}
"""Settings that not every engine looks at; the others are the embedded engine's, too, which may
stand in for any."""


class OrchestratorSection(Section):
    """What matches conversations to routes."""

    engine: Literal["embedding", "vllm", "http"] = Field(
        default="embedding", description="what it runs on"
    )
    model: Text | None = Field(
        default=None,
        description="embedding: an ONNX file with other weights; vllm: a folder with safetensors; "
        "http: what the server calls it; a relative path is the file's",
    )
    min_confidence: float = Field(
        default=0.12, ge=0, le=1, description="a route must score so much to win"
    )
    min_margin: float = Field(
        default=0.0, ge=0, le=1, description="and must be so much ahead of the second"
    )
    max_query_tokens: int = Field(
        default=64, ge=8, le=512, description="of a longer text head and tail are looked at"
    )
    threads: int = Field(default=1, ge=1, le=64, description="of the engine, in each replica")
    deadline_ms: int | None = Field(
        default=None,
        ge=10,
        le=60_000,
        description="after which a request goes on without it; None: 300 for embedding, 500 for "
        "vllm with `device: cuda`, else 5000",
    )
    fallback: Literal["embedding", "none"] = Field(
        default="embedding", description="what answers while vllm or http can't"
    )
    task: Literal["generate", "embed"] = Field(
        default="generate", description="vllm: a routing or chat model, or an embedding model"
    )
    family: Literal[
        "auto", "arch-router", "plano-orchestrator", "plano-orchestrator-card", "generic"
    ] = Field(default="auto", description="how the model is asked; auto goes by its name")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="vllm: where it runs; auto is what the installed vLLM is for"
    )
    mode: Literal["auto", "trie", "trie_lazy", "choice", "json"] = Field(
        default="auto", description="vllm: how an answer is read; auto goes by the load"
    )
    download: bool = Field(
        default=False, description="vllm: `model` is a hub's id, and may be fetched from there"
    )
    max_model_len: int | None = Field(
        default=None,
        ge=LEAST_MODEL_LEN,
        le=1 << 20,
        description="vllm: tokens of a prompt with its answer; http: of a prompt",
    )
    kv_cache_mb: int | None = Field(
        default=None, ge=16, description="vllm: memory for what is remembered of prompts"
    )
    gpu_memory_gb: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="vllm: at most so much of the GPU"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="vllm: of the weights in memory"
    )
    quantization: Text | None = Field(
        default=None, description="vllm: a scheme of vLLM's, where the checkpoint names none"
    )
    max_num_seqs: int = Field(
        default=64, ge=1, le=1024, description="vllm: sequences in one step of the model"
    )
    base_url: Text | None = Field(
        default=None, description="http: of an OpenAI-compatible server", repr=False
    )
    access_key: Text | None = Field(
        default=None, description="http: the server's key, best as `$NAME`", repr=False
    )

    @property
    def deadline_s(self) -> float:
        """Seconds after which nobody waits for a decision any longer."""
        if self.deadline_ms is not None:
            return self.deadline_ms / 1e3
        if self.engine == "embedding":
            return 0.3
        return 0.5 if self.engine == "vllm" and self.device == "cuda" else 5.0

    @property
    def generates(self) -> bool:
        """A language model decides, which reads conversations; else sentences are compared."""
        return self.engine == "http" or (self.engine == "vllm" and self.task == "generate")

    @property
    def unused(self) -> tuple[str, ...]:
        """What was set to something unusual, and this engine does not look at."""
        kind = f"vllm {self.task}" if self.engine == "vllm" else self.engine
        usual = type(self).model_fields
        return tuple(
            name
            for name, kinds in _USED_BY.items()
            if getattr(self, name) != usual[name].default
            and (kind not in kinds or (name == "gpu_memory_gb" and self.device == "cpu"))
        )

    @model_validator(mode="after")
    def _has_what_its_engine_needs(self) -> Self:
        needed = {"embedding": (), "vllm": ("model",), "http": ("base_url", "model")}[self.engine]
        for name in needed:
            if getattr(self, name) is None:
                raise PydanticCustomError("engine", f"engine {self.engine} needs `{name}:`")
        return self
