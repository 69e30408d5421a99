"""The data in which CPU and GPU differ; the code that runs the engine is the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from serve_app.config.schema.gateway import MEBIBYTE
from serve_app.domain import Json
from serve_app.engines.vllm.settings import VllmSettings

Device: TypeAlias = Literal["cpu", "cuda"]

GIBIBYTE: Final = 1 << 30

_NARROW_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True, slots=True)
class Profile:
    """The needs of a device."""

    device: Device
    engine_args: Mapping[str, Json]
    environment: Mapping[str, str]
    """Environment variables of its processes."""
    kv_cache_bytes: int
    """Default size of the KV cache; one prompt may need more."""
    overhead_bytes: int
    """Memory of the device for neither weights nor cache."""


PROFILES: Final[Mapping[Device, Profile]] = MappingProxyType(
    {
        "cpu": Profile(
            device="cpu",
            engine_args={
                "distributed_executor_backend": "uni",
                "enforce_eager": True,  # compiling takes longer than a small model ever saves
                "block_size": 32,  # with the default of 128, only multiples of 128 are reused
            },
            environment={
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else "uni" starts one more process
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
    "VLLM_HOST_IP": "127.0.0.1",  # all processes are local; else it looks for a public address
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}


def environment(settings: VllmSettings) -> dict[str, str]:
    """Environment variables that must be set before vLLM is imported, for any device."""
    offline = {} if settings.download else {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return {**_ENVIRONMENT, **offline}


def cpu_dtype(cpuinfo: str) -> str:
    """The type of weights to compute with on a CPU, given Linux's ``/proc/cpuinfo``.

    A CPU that can only convert 16-bit numbers takes five times as long with them.
    """
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = {flag for name, _, value in lines if name.strip() == "flags" for flag in value.split()}
    return "float32" if flags and flags.isdisjoint(_NARROW_FLAGS) else "auto"
