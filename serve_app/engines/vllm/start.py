"""Starts vLLM's engine, after checks whose messages tell what to change."""

from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psutil

from serve_app.engines.faults import EngineFaultError
from serve_app.engines.vllm import checkpoint
from serve_app.engines.vllm.arguments import DeviceMemory, engine_args
from serve_app.engines.vllm.chat_decider import ChatDecider
from serve_app.engines.vllm.embed_decider import EmbedDecider
from serve_app.engines.vllm.profiles import PROFILES, Device, cpu_dtype, environment
from serve_app.engines.vllm.settings import VllmSettings

_MAX_ERROR_CHARACTERS: Final = 300
_CPU_INFO: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Running:
    """An engine whose process is running."""

    engine: Any
    decider: ChatDecider | EmbedDecider
    device: Device


def start(settings: VllmSettings, gpu_share: float, environ: MutableMapping[str, str]) -> Running:
    """Starts an engine and its process, which takes seconds to minutes. Raises EngineFaultError.

    Settings that vLLM reads only from the environment are put into ``environ``.
    """
    model = None
    if not settings.download:
        faults = checkpoint.faults(settings.model, settings.task)
        if faults:
            raise EngineFaultError("; ".join(faults))
        model = checkpoint.read_checkpoint(settings.model)
    environ.update(environment(settings))
    device = _device(settings)
    profile = PROFILES[device]
    environ.update(profile.environment)
    if device == "cpu":
        environ["OMP_NUM_THREADS"] = str(settings.threads)
        if settings.dtype == "auto":
            settings = replace(
                settings, dtype=cpu_dtype(_CPU_INFO.read_text() if _CPU_INFO.is_file() else "")
            )
    args = engine_args(settings, profile, _memory(device, gpu_share), model)
    try:
        engine = _make_engine(args)
    except Exception as error:
        raise EngineFaultError(f"vLLM cannot run {settings.model}: {_describe(error)}") from error
    try:
        decider = EmbedDecider if settings.task == "embed" else ChatDecider
        longest = engine.model_config.max_model_len
        return Running(engine, decider(engine, engine.get_tokenizer(), settings, longest), device)
    except Exception as error:
        engine.shutdown()
        raise EngineFaultError(f"{settings.model} cannot be used: {_describe(error)}") from error


def _device(settings: VllmSettings) -> Device:
    """The device of the installed vLLM. Raises EngineFaultError if another one is configured."""
    try:
        from vllm.platforms import current_platform  # noqa: PLC0415 - takes seconds, and is optional
    except Exception as error:
        message = (
            "vLLM is not installed or cannot be imported; install the extra `gpu` or `cpu` of "
            f"this package, without torchvision, torchaudio and torchcodec ({_describe(error)})"
        )
        raise EngineFaultError(message) from error
    device = current_platform.device_type
    if device not in PROFILES or settings.device not in {"auto", device}:
        message = (
            f"orchestrator.device is {settings.device}, but vLLM runs on {device or 'no device'} "
            "here; install the extra `cpu` for a CPU, or the extra `gpu` on a machine with a GPU "
            "and set num_gpus in the ray_actor_options of the Orchestrator"
        )
        raise EngineFaultError(message)
    return "cuda" if device == "cuda" else "cpu"


def _memory(device: Device, gpu_share: float) -> DeviceMemory:
    if device == "cpu":
        return DeviceMemory(psutil.virtual_memory().available)
    from vllm.platforms import current_platform  # noqa: PLC0415 - as above

    return DeviceMemory(current_platform.get_device_total_memory(), gpu_share)


def _make_engine(args: dict[str, Any]) -> Any:  # noqa: ANN401 - vLLM has no types here
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - as above
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**args))


def _describe(error: Exception) -> str:
    """An error of vLLM on one line; those of its process are in the log above."""
    text = " ".join(str(error).split())
    short = text if len(text) <= _MAX_ERROR_CHARACTERS else f"{text[:_MAX_ERROR_CHARACTERS]} …"
    return f"{type(error).__name__}: {short}"
