"""The section ``orchestrator``: the engine that matches conversations to routes."""

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from serve_app.config.schema.section import Section, Text

LEAST_MODEL_LEN: Final = 256
"""Minimum context in tokens; fewer leave no room for routes."""

MAX_DECISION_ROUTES: Final = 254
"""Routes that the engine `decision` can ask for: a question has at most 255 options in OpenAI's
API, and one of them is that no route matches.
"""

_VLLM: Final = ("vllm generate", "vllm embed")
_ASKING: Final = ("http", "embeddings", "decision")
"""Engines that ask a server."""

_USED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "min_confidence": ("embedding", "embeddings", "decision", *_VLLM),
    "min_margin": ("embedding", "embeddings", "decision", *_VLLM),
    "fallback": (*_ASKING, *_VLLM),
    "task": _VLLM,
    "family": ("http", "vllm generate"),
    "device": _VLLM,
    "mode": ("vllm generate",),
    "download": _VLLM,
    "api": ("decision",),
    "max_model_len": ("http", "decision", *_VLLM),
    "kv_cache_mb": _VLLM,
    "gpu_memory_gb": _VLLM,
    "dtype": _VLLM,
    "quantization": _VLLM,
    "max_num_seqs": _VLLM,
    "base_url": _ASKING,
    "access_key": _ASKING,
    "query_prefix": ("embedding",),
    "passage_prefix": ("embedding",),
    "reranker": ("embedding",),
    "tuned": ("embedding",),
    "reranker_below": ("embedding",),
    "reranker_ms": ("embedding",),
}
"""Settings that only some engines use. The embedded engine uses all others, and it may stand in for
any engine."""


class EngineSection(Section):
    """An engine and its settings."""

    engine: Literal["embedding", "vllm", "http", "embeddings", "decision"]
    model: Text | None = Field(
        default=None,
        description="model of the engine: an ONNX file or the folder of an encoder (embedding), a folder "
        "with safetensors (vllm), or the server's name of the model (http, embeddings, decision), without "
        "`base_url` as `provider/name` of an entry of `model_providers`; a relative path starts at this file",
    )
    min_confidence: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="minimum probability with which a route wins; it must be likelier than no route, too",
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
        description="deadline of a decision, milliseconds",
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
    api: Literal["decisions", "systemone"] = Field(
        default="decisions",
        description="API of the server (decision): `decisions` for OpenAI's, `systemone` for TypeSafe's",
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
        description="maximum tokens of a prompt with its answer (vllm), or of a prompt (http, decision)",
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
        default=None,
        description="base URL of the engine's server (http, embeddings, decision)",
        repr=False,
    )
    access_key: Text | None = Field(
        default=None,
        description="key of the server, best as `$NAME` (http, embeddings, decision)",
        repr=False,
    )

    @property
    def usual_deadline_s(self) -> float:
        """Deadline of a decision by this engine where none is configured, seconds."""
        if self.engine == "embedding":
            return 0.3
        return 0.5 if self.engine == "vllm" and self.device == "cuda" else 5.0

    @property
    def asks_server(self) -> bool:
        """True for an engine that asks a server."""
        return self.engine in _ASKING

    @property
    def generates(self) -> bool:
        """True for a language model, which reads conversations; False for an embedding model."""
        return self.engine in {"http", "decision"} or (
            self.engine == "vllm" and self.task == "generate"
        )

    @property
    def has_probabilities(self) -> bool:
        """True for an engine that returns the probability of every route and of no route."""
        if self.engine == "vllm" and self.task == "generate":
            return self.mode in {"auto", "trie"}
        return self.engine != "http"

    @property
    def needs_probabilities(self) -> bool:
        """True if the decision is made from all probabilities of the engine."""
        return False

    @property
    def unused(self) -> tuple[str, ...]:
        """Settings that differ from their default and that this engine does not use."""
        kind = f"vllm {self.task}" if self.engine == "vllm" else self.engine
        usual = type(self).model_fields
        return tuple(
            name
            for name, kinds in _USED_BY.items()
            if name in usual
            and getattr(self, name) != usual[name].default
            and (kind not in kinds or (name == "gpu_memory_gb" and self.device == "cpu"))
        )

    @model_validator(mode="after")
    def _has_what_its_engine_needs(self) -> Self:
        needs = f"engine {self.engine} needs"
        if self.engine != "embedding" and self.model is None:
            raise PydanticCustomError("engine", f"{needs} `model:`; add it")
        if self.asks_server and self.base_url is None and "/" not in str(self.model):
            row = "`model: provider/name` of model_providers"
            raise PydanticCustomError("engine", f"{needs} `base_url:`, or {row}; add it")
        return self


class WhenUnsureSection(EngineSection):
    """Better engine for close calls: decisions of whose result the first engine is not sure."""

    engine: Literal["http", "vllm", "decision"] = Field(
        description="engine: `http` for a server or a model of `model_providers`, `vllm` on this machine, or "
        "`decision` for a server that answers decisions"
    )
    below: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="probability of a decision below which it is a close call: the highest of all "
        "routes and of no route",
    )
    deadline_ms: int | None = Field(
        default=None,
        ge=10,
        le=60_000,
        description="deadline of this engine, milliseconds, after which the first one's decision stands; "
        "null: what is left of `orchestrator.deadline_ms`",
    )

    @property
    def unused(self) -> tuple[str, ...]:
        """As of the first engine, and settings that only an engine in this process uses."""
        usual = type(self).model_fields
        own = ("threads", "max_query_tokens") if self.asks_server else ()
        return super().unused + tuple(
            name for name in own if getattr(self, name) != usual[name].default
        )


class OrchestratorSection(EngineSection):
    """Engine that matches conversations to routes."""

    engine: Literal["embedding", "vllm", "http", "embeddings", "decision"] = Field(
        default="embedding",
        description="engine: `embedding` in the gateway, `vllm` on this machine, `http` for a server with a "
        "language model, `embeddings` for a server with an embedding model, or `decision` for a server "
        "that answers decisions",
    )
    deadline_ms: int | None = Field(
        default=None,
        ge=10,
        le=60_000,
        description="deadline of a decision, milliseconds, after which a request is answered without one; "
        "null: 300 for embedding, 500 for vllm with `device: cuda`, else 5000; with `when_unsure` the "
        "longer one of both engines, or their sum if that section has a `deadline_ms`",
    )
    fallback: Literal["embedding", "none"] = Field(
        default="embedding",
        description="engine that decides while another one than embedding is unavailable",
    )
    query_prefix: str | None = Field(
        default=None,
        max_length=500,
        description="text before a prompt, for an encoder in a folder that was trained with one, such as "
        "`query: `; null: what its files say (embedding)",
    )
    passage_prefix: str | None = Field(
        default=None,
        max_length=500,
        description="text before a text of a route, such as `passage: `, as above (embedding)",
    )
    reranker: Text | None = Field(
        default=None,
        description="folder of a cross-encoder in ONNX for a second look at close calls (embedding); a "
        "relative path starts at this file",
    )
    reranker_below: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="probability of a decision below which the reranker looks at it: the highest of all "
        "routes and of no route (embedding)",
    )
    reranker_ms: int = Field(
        default=45,
        ge=5,
        le=60_000,
        description="the longest that a second look may take, milliseconds; of the likeliest four routes, "
        "as many are read as fit into it, and without time for two the first decision stands (embedding)",
    )
    tuned: Text | None = Field(
        default=None,
        description="file of `fingerpost tune`, which corrects the decisions of the engine by labelled "
        "conversations (embedding); a relative path starts at this file",
    )
    when_unsure: WhenUnsureSection | None = None
    calibration: Text | None = Field(
        default=None,
        description="file of `fingerpost eval --calibrate`, which corrects the probabilities of the engine; "
        "a relative path starts at this file",
    )
    max_error: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="maximum share of wrong routes among the conversations that get a route; picks "
        "`min_confidence` from the errors that `calibration` has measured",
    )

    @property
    def needs_probabilities(self) -> bool:
        """True if the decision is made from all probabilities of the engine."""
        return self.calibration is not None or self.max_error is not None

    @property
    def deadline_s(self) -> float:
        """Deadline of a decision, seconds: what a request waits for all engines together."""
        if self.deadline_ms is not None:
            return self.deadline_ms / 1e3
        better = self.when_unsure
        if better is None:
            return self.usual_deadline_s
        if better.deadline_ms is not None:
            return self.usual_deadline_s + better.deadline_ms / 1e3
        return max(self.usual_deadline_s, better.usual_deadline_s)

    @property
    def first_deadline_s(self) -> float:
        """The part of it that this section's own engine has, seconds."""
        if self.when_unsure is None:
            return self.deadline_s
        return min(self.usual_deadline_s, self.deadline_s)

    @property
    def reads_conversations(self) -> bool:
        """True if one of the engines reads whole conversations."""
        return self.generates or (self.when_unsure is not None and self.when_unsure.generates)

    @model_validator(mode="after")
    def _has_one_threshold(self) -> Self:
        if self.max_error is not None and "min_confidence" in self.model_fields_set:
            message = "max_error picks min_confidence; remove one of the two"
            raise PydanticCustomError("max_error", message)
        return self
