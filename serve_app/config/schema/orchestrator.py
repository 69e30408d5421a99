"""The section ``orchestrator``: the engine that matches conversations to routes."""

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from serve_app.config.schema.section import Section, Text

LEAST_MODEL_LEN: Final = 256
"""Minimum context in tokens; fewer leave no room for routes."""


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
"""Settings that only some engines use. The embedded engine uses all others, and it may stand in for
any engine."""


class OrchestratorSection(Section):
    """Engine that matches conversations to routes."""

    engine: Literal["embedding", "vllm", "http"] = Field(
        default="embedding",
        description="engine: `embedding` in the gateway, `vllm` on this machine, or `http` for a server",
    )
    model: Text | None = Field(
        default=None,
        description="model of the engine: an ONNX file (embedding), a folder with safetensors (vllm), or "
        "the server's name of the model (http); a relative path starts at this file",
    )
    min_confidence: float = Field(
        default=0.12, ge=0, le=1, description="minimum score with which a route wins"
    )
    min_margin: float = Field(
        default=0.0, ge=0, le=1, description="minimum lead of the winning route over the second one"
    )
    max_query_tokens: int = Field(
        default=64,
        ge=8,
        le=512,
        description="maximum tokens of a prompt that are compared; of a longer one its beginning and its end",
    )
    threads: int = Field(
        default=1, ge=1, le=64, description="CPU threads of the engine in each replica"
    )
    deadline_ms: int | None = Field(
        default=None,
        ge=10,
        le=60_000,
        description="deadline of a decision, milliseconds, after which a request is answered without one; "
        "null: 300 for embedding, 500 for vllm with `device: cuda`, else 5000",
    )
    fallback: Literal["embedding", "none"] = Field(
        default="embedding", description="engine that decides while vllm or http is unavailable"
    )
    task: Literal["generate", "embed"] = Field(
        default="generate",
        description="kind of model (vllm): `generate` for a routing or chat model, `embed` for embeddings",
    )
    family: Literal[
        "auto", "arch-router", "plano-orchestrator", "plano-orchestrator-card", "generic"
    ] = Field(
        default="auto",
        description="prompt format of the model (vllm, http); `auto` chooses by its name",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="device of the model (vllm); `auto` is the one that the installed vLLM is built for",
    )
    mode: Literal["auto", "trie", "trie_lazy", "choice", "json"] = Field(
        default="auto", description="way of reading the answer (vllm); `auto` chooses by the load"
    )
    download: bool = Field(
        default=False,
        description="whether `model` is the id of a model on a hub, to be downloaded (vllm)",
    )
    max_model_len: int | None = Field(
        default=None,
        ge=LEAST_MODEL_LEN,
        le=1 << 20,
        description="maximum tokens of a prompt with its answer (vllm), or of a prompt (http)",
    )
    kv_cache_mb: int | None = Field(
        default=None, ge=16, description="memory of the KV cache, MiB (vllm)"
    )
    gpu_memory_gb: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="maximum memory of the GPU, GiB (vllm)"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="type of the weights in memory (vllm)"
    )
    quantization: Text | None = Field(
        default=None, description="quantization scheme of vLLM, if the checkpoint names none (vllm)"
    )
    max_num_seqs: int = Field(
        default=64, ge=1, le=1024, description="maximum sequences in one step of the model (vllm)"
    )
    base_url: Text | None = Field(
        default=None, description="base URL of an OpenAI-compatible server (http)", repr=False
    )
    access_key: Text | None = Field(
        default=None, description="key of the server, best as `$NAME` (http)", repr=False
    )

    @property
    def deadline_s(self) -> float:
        """Deadline of a decision, seconds."""
        if self.deadline_ms is not None:
            return self.deadline_ms / 1e3
        if self.engine == "embedding":
            return 0.3
        return 0.5 if self.engine == "vllm" and self.device == "cuda" else 5.0

    @property
    def generates(self) -> bool:
        """True for a language model, which reads conversations; False for an embedding model."""
        return self.engine == "http" or (self.engine == "vllm" and self.task == "generate")

    @property
    def unused(self) -> tuple[str, ...]:
        """Settings that differ from their default and that this engine does not use."""
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
                raise PydanticCustomError("engine", f"engine {self.engine} needs `{name}:`; add it")
        return self
