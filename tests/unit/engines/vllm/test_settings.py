"""What vLLM is told on each device, and what does not fit; without vLLM and without a GPU."""

import sys
from dataclasses import replace
from importlib import import_module
from typing import Any, Final

import pytest

from serve_app.config.schema.gateway import MEBIBYTE
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.engines.faults import EngineFaultError
from serve_app.engines.vllm import start
from serve_app.engines.vllm.arguments import DeviceMemory, engine_args, misfit
from serve_app.engines.vllm.checkpoint import Checkpoint
from serve_app.engines.vllm.profiles import GIBIBYTE, PROFILES, Device, cpu_dtype, environment
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.scoring.prompt import FAMILIES

ARCH_ROUTER: Final = Checkpoint(int(3.1e9), 32768, 2 * 28 * 2 * 128, is_narrow=True)
SETTINGS: Final = VllmSettings("/m/Arch-Router-1.5B", FAMILIES["arch-router"])
L4: Final = DeviceMemory(24 * GIBIBYTE)


def args(
    device: Device = "cuda",
    memory: DeviceMemory = L4,
    checkpoint: Checkpoint | None = ARCH_ROUTER,
    **changes: Any,
) -> dict[str, Any]:
    return engine_args(replace(SETTINGS, **changes), PROFILES[device], memory, checkpoint)


def refused(device: Device = "cuda", memory: DeviceMemory = L4, **changes: Any) -> str:
    with pytest.raises(EngineFaultError) as raised:
        args(device, memory, **changes)
    return str(raised.value)


def test_section_has_every_setting() -> None:
    """They are all settings of the section for this engine."""
    section = OrchestratorSection(
        engine="vllm", model="/m", family="generic", task="embed", device="cuda", mode="choice",
        download=True, max_model_len=1024, kv_cache_mb=99, gpu_memory_gb=7.5, dtype="float16",
        quantization="fp8", max_num_seqs=9, threads=3, min_confidence=0.3, min_margin=0.1,
        max_query_tokens=32,
    )  # fmt: skip
    assert VllmSettings.from_section(section) == VllmSettings(
        "/m", FAMILIES["generic"], "embed", "cuda", "choice", download=True, max_model_len=1024,
        kv_cache_mb=99, gpu_memory_gb=7.5, dtype="float16", quantization="fp8", max_num_seqs=9,
        threads=3, min_confidence=0.3, min_margin=0.1, max_query_tokens=32,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("katanemo/Arch-Router-1.5B", "arch-router"),
        ("/models/Plano-Orchestrator-4B", "plano-orchestrator"),
        ("/models/Qwen2.5-1.5B-Instruct", "generic"),
    ],
)
def test_family_is_derived_from_the_name(model: str, family: str) -> None:
    """The configuration may name another one."""
    section = OrchestratorSection(engine="vllm", model=model)
    assert VllmSettings.from_section(section).family.name == family
    assert VllmSettings.from_section(section) == VllmSettings(model, FAMILIES[family])


def test_arguments_for_a_gpu() -> None:
    """There are CUDA graphs, the size of the cache, and the total share of the card."""
    assert args() == {
        "enable_prefix_caching": True,
        "generation_config": "vllm",
        "seed": 0,
        "disable_log_stats": True,
        "worker_extension_cls": "serve_app.engines.vllm.leash.Leash",
        "distributed_executor_backend": "uni",
        "model": "/m/Arch-Router-1.5B",
        "max_model_len": 2560,
        "max_num_seqs": 64,
        "dtype": "auto",
        "quantization": None,
        "kv_cache_memory_bytes": 2 * GIBIBYTE,
        "gpu_memory_utilization": round((3.1e9 + 3.5 * GIBIBYTE) / (24 * GIBIBYTE), 3),
    }


def test_arguments_for_a_cpu_differ_in_data_only() -> None:
    """There is one process for the model, nothing is compiled, and blocks are small."""
    cpu, cuda = args("cpu"), args("cuda")
    more = {"enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": 256 * MEBIBYTE}
    del cuda["gpu_memory_utilization"]
    assert cpu == cuda | more


def test_leash_is_found_by_its_name() -> None:
    """It is imported by the name of its class."""
    module, _, name = args()["worker_extension_cls"].rpartition(".")
    assert getattr(import_module(module), name).__qualname__ == name


def test_arguments_for_an_embedding_model() -> None:
    """It has its own maximum of tokens, and no prefix cache."""
    found = args(task="embed", checkpoint=Checkpoint(90_000_000, 512, 4608))
    assert (found["runner"], found["max_model_len"]) == ("pooling", None)
    assert found["enable_prefix_caching"] is False


@pytest.mark.parametrize(
    ("changes", "length", "budget"),
    [
        ({}, 2560, 2048),
        ({"family": FAMILIES["plano-orchestrator"]}, 8704, 8192),
        ({"checkpoint": replace(ARCH_ROUTER, context_tokens=2048)}, 2048, 2048),
        ({"checkpoint": None}, 2560, 2048),
        ({"max_model_len": 4096}, 4096, 3584),
        ({"max_model_len": 600}, 600, 300),
    ],
)
def test_sequence_fits_prompt_and_answer(changes: dict[str, Any], length: int, budget: int) -> None:
    """Its length follows from the family, the model and the configuration."""
    assert args(**changes)["max_model_len"] == length
    changes.pop("checkpoint", None)
    assert replace(SETTINGS, **changes).budget_tokens == budget


@pytest.mark.parametrize(
    ("device", "changes", "cache"),
    [
        ("cuda", {"kv_cache_mb": 300}, 300 * MEBIBYTE),
        ("cpu", {"kv_cache_mb": 300}, 300 * MEBIBYTE),
        ("cuda", {"gpu_memory_gb": 8}, 8 * GIBIBYTE - int(3.1e9) - 3 * GIBIBYTE // 2),
        ("cpu", {"gpu_memory_gb": 8}, 256 * MEBIBYTE),
        ("cuda", {"gpu_memory_gb": 8, "checkpoint": None}, 2 * GIBIBYTE),
        ("cpu", {"dtype": "float32", "max_model_len": 8192}, 57344 * 8192 * 17 // 16),
        ("cpu", {"max_model_len": 8192}, 256 * MEBIBYTE),
        ("cpu", {"max_model_len": 32768}, 28672 * 32768 * 17 // 16),
    ],
)
def test_cache_fits_at_least_one_prompt(
    device: Device, changes: dict[str, Any], cache: int
) -> None:
    """Otherwise it has the configured size, the rest of the memory, or the default size."""
    assert args(device, **changes)["kv_cache_memory_bytes"] == cache


def test_rest_of_a_share_is_the_cache() -> None:
    """Ray's share applies if it is less than the configured memory."""
    memory = DeviceMemory(24 * GIBIBYTE, share=0.25)
    cache = args(memory=memory, gpu_memory_gb=20)["kv_cache_memory_bytes"]
    assert cache == 6 * GIBIBYTE - int(3.1e9) - 3 * GIBIBYTE // 2


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"max_model_len": 40_000}, "orchestrator.max_model_len: 40000 exceeds the 32768 tokens that /m/Arch-Router-1.5B supports; lower it"),
        ({"kv_cache_mb": 16}, "orchestrator.kv_cache_mb: one prompt of 2560 tokens needs 75 MiB, but it is 16; raise it or lower max_model_len"),
        ({"gpu_memory_gb": 4}, "/m/Arch-Router-1.5B needs about 4.5 GiB of the GPU, but orchestrator.gpu_memory_gb is 4; raise it or lower kv_cache_mb"),
        ({"gpu_memory_gb": 6, "kv_cache_mb": 4096}, "/m/Arch-Router-1.5B needs about 8.4 GiB of the GPU, but orchestrator.gpu_memory_gb is 6; raise it or lower kv_cache_mb"),
        ({"memory": DeviceMemory(24 * GIBIBYTE, 0.1)}, "/m/Arch-Router-1.5B needs about 6.4 GiB of the GPU, but num_gpus 0.1 of its 24.0 GiB is less; set num_gpus to at least 0.27 or lower kv_cache_mb"),
        ({"memory": DeviceMemory(4 * GIBIBYTE)}, "/m/Arch-Router-1.5B needs about 6.4 GiB of the GPU, but num_gpus 1 of its 4.0 GiB is less; use a larger GPU or lower kv_cache_mb"),
        ({"device": "cpu", "memory": DeviceMemory(4 * GIBIBYTE)}, "/m/Arch-Router-1.5B needs about 4.1 GiB of memory, but 4.0 GiB are free; use a smaller model"),
        ({"device": "cpu", "dtype": "float32", "memory": DeviceMemory(6 * GIBIBYTE)}, "/m/Arch-Router-1.5B needs about 7.0 GiB of memory, but 6.0 GiB are free; use a smaller model"),
    ],
)  # fmt: skip
def test_too_large_model_is_refused(changes: dict[str, Any], fault: str) -> None:
    """The message has the figures and the fix."""
    assert refused(**changes) == fault


WIDE: Final = Checkpoint(int(6.2e9), 32768, 2 * 28 * 2 * 128, is_wide=True)


@pytest.mark.parametrize(
    ("checkpoint", "dtype", "times"),
    [
        (ARCH_ROUTER, "auto", 1.0),
        (ARCH_ROUTER, "float32", 2.0),
        (WIDE, "auto", 0.5),
        (WIDE, "float16", 0.5),
        (WIDE, "float32", 1.0),
    ],
)
def test_weights_count_as_they_are_in_memory(
    checkpoint: Checkpoint, dtype: str, times: float
) -> None:
    """Unless 32-bit numbers are configured, vLLM stores them as 16-bit."""
    share = args(checkpoint=checkpoint, dtype=dtype, kv_cache_mb=1024)["gpu_memory_utilization"]
    needed = checkpoint.weight_bytes * times + 2.5 * GIBIBYTE
    assert share == pytest.approx(needed / L4.total_bytes, abs=0.001)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"device": "cuda", "gpu_memory_gb": 6.5}, None),
        ({"gpu_memory_gb": 5.0, "kv_cache_mb": 1024}, "/m/Arch-Router-1.5B needs about 5.4 GiB of the GPU, but orchestrator.gpu_memory_gb is 5; raise it or lower kv_cache_mb"),
        ({"device": "cpu", "gpu_memory_gb": 5.0, "kv_cache_mb": 1024}, None),
        ({"kv_cache_mb": 32}, "orchestrator.kv_cache_mb: one prompt of 2560 tokens needs 75 MiB, but it is 32; raise it or lower max_model_len"),
        ({"max_model_len": 40_000}, "orchestrator.max_model_len: 40000 exceeds the 32768 tokens that /m/Arch-Router-1.5B supports; lower it"),
    ],
)  # fmt: skip
def test_misfit_is_found_without_a_device(changes: dict[str, Any], fault: str | None) -> None:
    """It is a setting that contradicts the model on any machine."""
    assert misfit(replace(SETTINGS, **changes), ARCH_ROUTER) == fault


def test_environment_disables_telemetry_and_downloads() -> None:
    """Downloads are possible only if the configuration allows them."""
    variables = environment(SETTINGS)
    assert (variables["VLLM_NO_USAGE_STATS"], variables["DO_NOT_TRACK"]) == ("1", "1")
    assert (variables["HF_HUB_OFFLINE"], variables["TRANSFORMERS_OFFLINE"]) == ("1", "1")
    assert "HF_HUB_OFFLINE" not in environment(replace(SETTINGS, download=True))


@pytest.mark.parametrize(
    ("cpuinfo", "dtype"),
    [
        ("model name\t: X\nflags\t\t: fpu avx avx2\n", "float32"),
        ("flags\t\t: fpu avx512f avx512_bf16\n", "auto"),
        ("flags\t\t: amx_bf16\nflags\t\t: fpu\n", "auto"),
        ("Features\t: fp asimd bf16\n", "auto"),
        ("", "auto"),
    ],
)
def test_cpu_dtype_follows_its_instructions(cpuinfo: str, dtype: str) -> None:
    """It is 32 bits, unless there are instructions for 16, or no information."""
    assert cpu_dtype(cpuinfo) == dtype


def test_missing_vllm_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extras to install."""
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setitem(sys.modules, "vllm.platforms", None)
    with pytest.raises(EngineFaultError, match="install the extra `gpu` or `cpu`"):
        start._device(SETTINGS)
