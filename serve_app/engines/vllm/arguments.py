"""The arguments for vLLM's engine, and whether the model fits into the memory of the device."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from serve_app.config.schema.gateway import MEBIBYTE
from serve_app.domain import Json
from serve_app.engines.faults import EngineFaultError
from serve_app.engines.vllm.checkpoint import Checkpoint
from serve_app.engines.vllm.profiles import GIBIBYTE, PROFILES, Device, Profile
from serve_app.engines.vllm.settings import ANSWER_TOKENS, VllmSettings

_UNLIMITED_BYTES: Final = 1 << 60
"""Memory of a device into which everything fits."""

_WIDE: Final = "float32"

_COMMON_ARGS: Final[Mapping[str, Json]] = {
    "enable_prefix_caching": True,
    "generation_config": "vllm",  # the checkpoint's top-k and penalties are meant for chats
    "seed": 0,
    "disable_log_stats": True,
    "worker_extension_cls": "serve_app.engines.vllm.leash.Leash",
}


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """The memory of a device, and the share of it that a replica may use."""

    total_bytes: int
    share: float = 1.0
    """Ray's ``num_gpus`` of the replica."""

    @property
    def usable_bytes(self) -> int:
        """The bytes that the replica may use."""
        return int(self.share * self.total_bytes)


def misfit(settings: VllmSettings, checkpoint: Checkpoint) -> str | None:
    """The setting that contradicts the model on any machine. Returns None if there is none."""
    limited = settings.gpu_memory_gb is not None and settings.device != "cpu"
    device: Device = "cuda" if settings.device == "cuda" or limited else "cpu"
    try:
        engine_args(settings, PROFILES[device], DeviceMemory(_UNLIMITED_BYTES), checkpoint)
    except EngineFaultError as error:
        return str(error)
    return None


def engine_args(
    settings: VllmSettings, profile: Profile, memory: DeviceMemory, checkpoint: Checkpoint | None
) -> dict[str, Json]:
    """Arguments for vLLM's ``AsyncEngineArgs``. ``checkpoint`` is None for a model of a hub.

    Raises EngineFaultError if the model does not fit.
    """
    length = _model_len(settings, checkpoint)
    cache = _cache_bytes(settings, profile, memory, checkpoint, length)
    weights = 0 if checkpoint is None else _weight_bytes(settings, checkpoint)
    needed = weights + cache + profile.overhead_bytes
    _check_memory(settings, profile, memory, needed)
    args: dict[str, Json] = {
        **_COMMON_ARGS,
        **profile.engine_args,
        "model": settings.model,
        "max_model_len": length,
        "max_num_seqs": settings.max_num_seqs,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        "kv_cache_memory_bytes": cache,
    }
    if profile.device == "cuda":
        # vLLM requires this share to be free, although the size of the cache is given
        args["gpu_memory_utilization"] = min(round(needed / memory.total_bytes, 3), 1.0)
    if settings.task == "embed":
        args |= {"runner": "pooling", "enable_prefix_caching": False}
    return args


def _model_len(settings: VllmSettings, checkpoint: Checkpoint | None) -> int | None:
    """Maximum tokens of a sequence. Returns None for the model's own maximum."""
    longest = None if checkpoint is None else checkpoint.context_tokens
    if settings.max_model_len is not None:
        if longest is not None and settings.max_model_len > longest:
            message = (
                f"orchestrator.max_model_len: {settings.max_model_len} exceeds the "
                f"{longest} tokens that {settings.model} supports; lower it"
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
    memory: DeviceMemory,
    checkpoint: Checkpoint | None,
    length: int | None,
) -> int:
    """The cache as configured, or the rest of the configured memory, or the device's default."""
    values = 0 if checkpoint is None or settings.task == "embed" else checkpoint.cache_values or 0
    least = values * (4 if settings.dtype == _WIDE else 2) * (length or 0)
    least += least // 16  # vLLM allocates whole blocks, and reserves one of them
    if settings.kv_cache_mb is not None:
        cache = settings.kv_cache_mb * MEBIBYTE
        if cache < least:
            message = (
                f"orchestrator.kv_cache_mb: one prompt of {length} tokens needs "
                f"{_mebibytes(least)} MiB, but it is {settings.kv_cache_mb}; raise it or lower "
                "max_model_len"
            )
            raise EngineFaultError(message)
        return cache
    if settings.gpu_memory_gb is None or profile.device == "cpu" or checkpoint is None:
        return max(profile.kv_cache_bytes, least)
    usable = min(int(settings.gpu_memory_gb * GIBIBYTE), memory.usable_bytes)
    rest = usable - _weight_bytes(settings, checkpoint) - profile.overhead_bytes
    return max(rest, least, 64 * MEBIBYTE)


def _check_memory(
    settings: VllmSettings, profile: Profile, memory: DeviceMemory, needed: int
) -> None:
    """Raises EngineFaultError if the model needs more memory than it may use."""
    if profile.device == "cpu":
        if needed > memory.usable_bytes:
            message = (
                f"{settings.model} needs about {_gibibytes(needed)} GiB of memory, but "
                f"{_gibibytes(memory.usable_bytes)} GiB are free; use a smaller model"
            )
            raise EngineFaultError(message)
        return
    limit = settings.gpu_memory_gb
    if limit is not None and needed > limit * GIBIBYTE:
        message = (
            f"{settings.model} needs about {_gibibytes(needed)} GiB of the GPU, but "
            f"orchestrator.gpu_memory_gb is {limit:g}; raise it or lower kv_cache_mb"
        )
        raise EngineFaultError(message)
    if needed > memory.usable_bytes:
        share = -(-100 * needed // memory.total_bytes) / 100
        fix = f"set num_gpus to at least {share:g}" if share <= 1 else "use a larger GPU"
        message = (
            f"{settings.model} needs about {_gibibytes(needed)} GiB of the GPU, but num_gpus "
            f"{memory.share:g} of its {_gibibytes(memory.total_bytes)} GiB is less; {fix} "
            "or lower kv_cache_mb"
        )
        raise EngineFaultError(message)


def _weight_bytes(settings: VllmSettings, checkpoint: Checkpoint) -> int:
    """Bytes of the weights in memory: ``auto`` stores 32-bit weights as 16-bit, too."""
    if settings.dtype == _WIDE:
        return checkpoint.weight_bytes * (2 if checkpoint.is_narrow else 1)
    return checkpoint.weight_bytes // (2 if checkpoint.is_wide else 1)


def _gibibytes(size: int) -> str:
    return f"{size / GIBIBYTE:.1f}"


def _mebibytes(size: int) -> int:
    return -(-size // MEBIBYTE)
