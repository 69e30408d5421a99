"""What vLLM is told: settings of ours, one table for each device, and the memory they come to.

CPU and GPU differ in this data only; the code that runs the engine is the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Json
from serve_app.engines.faults import EngineFaultError
from serve_app.engines.vllm.checkpoint import Checkpoint, Task
from serve_app.scoring.prompt import FAMILIES, Family, family_of

Mode: TypeAlias = Literal["auto", "trie", "trie_lazy", "choice", "json", "free"]
"""``free``, which nothing holds to any form, is there to be measured."""

Device: TypeAlias = Literal["cpu", "cuda"]

MEBIBYTE: Final = 1 << 20
GIBIBYTE: Final = 1 << 30

ANSWER_TOKENS: Final = 512
"""What a sequence may hold beside its prompt's usual budget: the chat template and an answer."""

_ANY_SIZE: Final = 1 << 60
"""Bytes of a device that everything fits on."""

_WIDE: Final = "float32"
_NARROW_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """What a vLLM engine needs to know; section ``orchestrator`` explains each of them."""

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
    min_confidence: float = 0.12
    min_margin: float = 0.0
    max_query_tokens: int = 64

    @property
    def budget_tokens(self) -> int:
        """What a prompt may take: the family's, unless the configuration knows better."""
        if self.max_model_len is None:
            return self.family.budget_tokens
        return max(self.max_model_len - ANSWER_TOKENS, self.max_model_len // 2)


def vllm_settings(section: OrchestratorSection) -> VllmSettings:
    """What the configuration says about this engine."""
    model = section.model or ""
    family = family_of(model) if section.family == "auto" else section.family
    return VllmSettings(
        model=model,
        family=FAMILIES[family],
        task=section.task,
        device=section.device,
        mode=section.mode,
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


@dataclass(frozen=True, slots=True)
class Profile:
    """What a device needs."""

    device: Device
    engine_args: Mapping[str, Json]
    environment: Mapping[str, str]
    """Of its processes."""
    kv_cache_bytes: int
    """Unless the configuration says something else, or one prompt needs more."""
    overhead_bytes: int
    """Memory of the device that goes to neither weights nor cache."""


PROFILES: Final[Mapping[Device, Profile]] = MappingProxyType(
    {
        "cpu": Profile(
            device="cpu",
            engine_args={
                "distributed_executor_backend": "uni",
                "enforce_eager": True,  # compiling takes longer than a small model ever saves
                "block_size": 32,  # the default of 128 finds only whole multiples of it again
            },
            environment={
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # or "uni" is not kept: one process more
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # replicas share the machine
            },
            kv_cache_bytes=256 * MEBIBYTE,
            overhead_bytes=GIBIBYTE,
        ),
        "cuda": Profile(
            device="cuda",
            engine_args={"distributed_executor_backend": "uni"},
            environment={},
            kv_cache_bytes=2 * GIBIBYTE,
            overhead_bytes=3 * GIBIBYTE // 2,  # CUDA's context and graphs
        ),
    }
)

_ENVIRONMENT: Final = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",  # its processes are all here; else it asks where the world is
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}
_COMMON: Final[Mapping[str, Json]] = {
    "enable_prefix_caching": True,
    "generation_config": "vllm",  # not the checkpoint's: its top-k and penalties are for chats
    "seed": 0,
    "disable_log_stats": True,
    "worker_extension_cls": "serve_app.engines.vllm.leash.Leash",
}


def environment(settings: VllmSettings) -> dict[str, str]:
    """What has to be in the environment before vLLM is imported, whatever the device."""
    offline = {} if settings.download else {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return {**_ENVIRONMENT, **offline}


def cpu_dtype(cpuinfo: str) -> str:
    """The type of weights that a CPU calculates in, by what Linux tells of it.

    One that knows 16-bit numbers only as something to convert takes five times as long with them.
    """
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = {flag for name, _, value in lines if name.strip() == "flags" for flag in value.split()}
    return _WIDE if flags and flags.isdisjoint(_NARROW_FLAGS) else "auto"


@dataclass(frozen=True, slots=True)
class Room:
    """The memory that a replica may use on its device."""

    total_bytes: int
    """Of the device."""
    share: float = 1.0
    """Of it, as Ray's ``num_gpus`` gives it to the replica."""

    @property
    def own_bytes(self) -> int:
        """What the share comes to."""
        return int(self.share * self.total_bytes)


def misfit(settings: VllmSettings, found: Checkpoint) -> str | None:
    """What of the settings does not fit this model on any machine; None where all may fit."""
    limited = settings.gpu_memory_gb is not None and settings.device != "cpu"
    device: Device = "cuda" if settings.device == "cuda" or limited else "cpu"
    try:
        engine_args(settings, PROFILES[device], Room(_ANY_SIZE), found)
    except EngineFaultError as error:
        return str(error)
    return None


def engine_args(
    settings: VllmSettings, profile: Profile, room: Room, found: Checkpoint | None
) -> dict[str, Json]:
    """Arguments for vLLM's ``AsyncEngineArgs``. ``found`` is None for a model of a hub.

    Raises EngineFaultError for what does not fit.
    """
    length = _model_len(settings, found)
    cache = _cache_bytes(settings, profile, room, found, length)
    weights = 0 if found is None else _weight_bytes(settings, found)
    needed = weights + cache + profile.overhead_bytes
    _refuse_too_much(settings, profile, room, needed)
    args: dict[str, Json] = {
        **_COMMON,
        **profile.engine_args,
        "model": settings.model,
        "max_model_len": length,
        "max_num_seqs": settings.max_num_seqs,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        "kv_cache_memory_bytes": cache,
    }
    if (
        profile.device == "cuda"
    ):  # vLLM wants so much to be free, although it takes the cache as said
        args["gpu_memory_utilization"] = min(round(needed / room.total_bytes, 3), 1.0)
    if settings.task == "embed":
        args |= {"runner": "pooling", "enable_prefix_caching": False}
    return args


def _model_len(settings: VllmSettings, found: Checkpoint | None) -> int | None:
    """None: as long as the model takes."""
    longest = None if found is None else found.context_tokens
    if settings.max_model_len is not None:
        if longest is not None and settings.max_model_len > longest:
            message = (
                f"orchestrator.max_model_len is {settings.max_model_len}, "
                f"but {settings.model} was made for at most {longest} tokens"
            )
            raise EngineFaultError(message)
        return settings.max_model_len
    if settings.task == "embed":
        return None
    usual = settings.budget_tokens + ANSWER_TOKENS
    return min(usual, longest or usual)


def _cache_bytes(
    settings: VllmSettings,
    profile: Profile,
    room: Room,
    found: Checkpoint | None,
    length: int | None,
) -> int:
    """The cache as configured, or what is left of the memory, or the device's usual size."""
    values = 0 if found is None or settings.task == "embed" else found.cache_values or 0
    least = values * (4 if settings.dtype == _WIDE else 2) * (length or 0)
    least += least // 16  # vLLM keeps whole blocks, and one of them for itself
    if settings.kv_cache_mb is not None:
        cache = settings.kv_cache_mb * MEBIBYTE
        if cache < least:
            message = (
                f"orchestrator.kv_cache_mb is {settings.kv_cache_mb}, but one prompt of "
                f"{length} tokens needs {_mebibytes(least)}; raise it, or lower max_model_len"
            )
            raise EngineFaultError(message)
        return cache
    if settings.gpu_memory_gb is None or profile.device == "cpu" or found is None:
        return max(profile.kv_cache_bytes, least)
    own = min(int(settings.gpu_memory_gb * GIBIBYTE), room.own_bytes)
    left = own - _weight_bytes(settings, found) - profile.overhead_bytes
    return max(left, least, 64 * MEBIBYTE)


def _refuse_too_much(settings: VllmSettings, profile: Profile, room: Room, needed: int) -> None:
    if profile.device == "cpu":
        if needed > room.own_bytes:
            message = (
                f"{settings.model} needs about {_gibibytes(needed)} GiB of memory, "
                f"and {_gibibytes(room.own_bytes)} GiB are free; take a smaller model"
            )
            raise EngineFaultError(message)
        return
    limit = settings.gpu_memory_gb
    if limit is not None and needed > limit * GIBIBYTE:
        message = (
            f"{settings.model} needs about {_gibibytes(needed)} GiB of the GPU; "
            f"orchestrator.gpu_memory_gb is {limit:g}: raise it, or lower kv_cache_mb"
        )
        raise EngineFaultError(message)
    if needed > room.own_bytes:
        share = -(-100 * needed // room.total_bytes) / 100
        way = f"set num_gpus to at least {share:g}" if share <= 1 else "take a larger GPU"
        message = (
            f"{settings.model} needs about {_gibibytes(needed)} GiB of the GPU; num_gpus "
            f"{room.share:g} of its {_gibibytes(room.total_bytes)} GiB is less: {way}, "
            "or lower kv_cache_mb"
        )
        raise EngineFaultError(message)


def _weight_bytes(settings: VllmSettings, found: Checkpoint) -> int:
    """What the weights take in memory: ``auto`` takes 16 bits for each of 32, too."""
    if settings.dtype == _WIDE:
        return found.weight_bytes * (2 if found.is_narrow else 1)
    return found.weight_bytes // (2 if found.is_wide else 1)


def _gibibytes(size: int) -> str:
    return f"{size / GIBIBYTE:.1f}"


def _mebibytes(size: int) -> int:
    return -(-size // MEBIBYTE)
