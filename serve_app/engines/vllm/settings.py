"""Settings of the engine `vllm`."""

from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

from serve_app.config.schema.orchestrator import EngineSection
from serve_app.engines.vllm.checkpoint import Task
from serve_app.scoring.prompt import FAMILIES, Family, family_of

Mode: TypeAlias = Literal["auto", "trie", "trie_lazy", "choice", "json", "free"]
"""``free``, which enforces no form of an answer, exists for measurements."""

ANSWER_TOKENS: Final = 512
"""Tokens of a sequence beside the default budget of its prompt: chat template and answer."""


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """The settings of a vLLM engine; section ``orchestrator`` explains each of them."""

    model: str
    family: Family
    task: Task = "generate"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    mode: Mode = "auto"
    download: bool = False
    max_model_len: int | None = None
    kv_cache_mb: int | None = None
    gpu_memory_gb: float | None = None
    dtype: str = "auto"
    quantization: str | None = None
    max_num_seqs: int = 64
    threads: int = 1
    min_confidence: float = 0.2
    min_margin: float = 0.0
    max_query_tokens: int = 64

    @classmethod
    def from_section(cls, section: EngineSection) -> Self:
        """The settings of a configuration."""
        model = section.model or ""
        family = family_of(model) if section.family == "auto" else section.family
        return cls(
            model=model,
            family=FAMILIES[family],
            task=section.task,
            device=section.device,
            # the other modes have no probability of all answers, and no rule can be applied to them
            mode="trie" if section.mode == "auto" and section.needs_probabilities else section.mode,
            download=section.download,
            max_model_len=section.max_model_len,
            kv_cache_mb=section.kv_cache_mb,
            gpu_memory_gb=section.gpu_memory_gb,
            dtype=section.dtype,
            quantization=section.quantization,
            max_num_seqs=section.max_num_seqs,
            threads=section.threads,
            min_confidence=section.min_confidence,
            min_margin=section.min_margin,
            max_query_tokens=section.max_query_tokens,
        )

    @property
    def budget_tokens(self) -> int:
        """Maximum tokens of a prompt: the family's default unless max_model_len is set."""
        if self.max_model_len is None:
            return self.family.budget_tokens
        return max(self.max_model_len - ANSWER_TOKENS, self.max_model_len // 2)
