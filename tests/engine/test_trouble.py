"""What can go wrong with vLLM: models that can't be run, processes that die."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil
import pytest

from deployments.orchestrator import Orchestrator
from serve_app.domain import Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.engines.vllm import checkpoint
from serve_app.engines.vllm.arguments import DeviceMemory, engine_args
from serve_app.engines.vllm.engine import VllmEngine
from serve_app.engines.vllm.profiles import PROFILES
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.evaluation.labelled_set import LabelledSet
from serve_app.scoring.prompt import FAMILIES
from tests.engine.conftest import START_S, Site, core_of, until

QUESTION: Final = Question(
    (Turn("user", "Write a sonnet about autumn"),),
    (Route("code", "code and programs", ()), Route("poems", "poems, songs and rhymes", ())),
    "two",
)
MEMORY: Final = DeviceMemory(80 << 30)


def settings(model: Path, **more: object) -> VllmSettings:
    return VllmSettings(str(model), FAMILIES["generic"], **more)  # type: ignore[arg-type]


def fault_of(wrong: VllmSettings) -> str:
    """Why an engine does not start; it never raises, and answers at once."""
    engine = VllmEngine(wrong)
    try:
        assert not engine.wait(START_S)
        result = asyncio.run(engine.score(QUESTION))
        assert isinstance(result, Unavailable)
        assert result.reason is Reason.ORCHESTRATOR_ERROR
        assert result.detail == f"the engine has a fault: {engine.fault}"
        return engine.fault
    finally:
        started = time.monotonic()
        engine.close()
        assert time.monotonic() - started < 5


def changed(tiny: Path, folder: Path, change: Callable[[dict[str, object]], None]) -> Path:
    """The tiny model with another config.json."""
    for file in tiny.iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((tiny / "config.json").read_text())
    change(config)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_missing_folder_is_found_without_vllm(tmp_path: Path) -> None:
    """The path does not exist."""
    assert fault_of(settings(tmp_path / "x")) == (
        f"there is no folder {tmp_path}/x; check orchestrator.model, "
        "and set `download: true` if it is the id of a model on a hub"
    )


def test_missing_gpu_is_a_fault(tiny: Path) -> None:
    """The message tells what each build of vLLM needs."""
    fault = fault_of(settings(tiny, device="cuda"))
    assert fault.startswith("orchestrator.device is cuda, but vLLM runs on cpu here")


def test_error_of_vllm_is_passed_on(tiny: Path, tmp_path: Path) -> None:
    """The model looks complete from outside."""
    wrong = changed(tiny, tmp_path, lambda config: config.update(num_attention_heads=3))
    assert fault_of(settings(wrong)).startswith(f"vLLM cannot run {tmp_path}: ")


def test_too_large_model_is_refused(tiny: Path) -> None:
    """It is refused before anything is started."""
    fault = fault_of(settings(tiny, kv_cache_mb=1 << 20))
    assert "GiB are free; use a smaller model" in fault


def test_vllm_supports_the_listed_architectures() -> None:
    """The list is that of the locked version."""
    from vllm import ModelRegistry  # noqa: PLC0415 - seconds

    assert set(checkpoint.architectures()) <= set(ModelRegistry.get_supported_archs())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_vllm_accepts_the_arguments(device: str, tiny: Path) -> None:
    """Those for a GPU are tested, too, without one."""
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - as above

    found = checkpoint.read_checkpoint(str(tiny))
    for task in ("generate", "embed"):
        wanted = settings(tiny, task=task)
        args = engine_args(wanted, PROFILES[device], MEMORY, found)  # type: ignore[index]
        made = AsyncEngineArgs(**args)
        assert {name: getattr(made, name) for name in args} == args


async def test_replica_survives_without_its_engine(tmp_path: Path, tiny: Path) -> None:
    """The embedded engine stands in with the reason; without it the fault is returned."""
    file = tmp_path / "gateway.yaml"
    for fallback in ("embedding", "none"):
        file.write_text(
            "version: v0.4.0\nmodel_providers:\n  - model: openai/a\n"
            f"orchestrator: {{engine: vllm, model: nowhere, fallback: {fallback}}}\n"
        )
        orchestrator = Orchestrator(str(file))
        assert orchestrator._vllm is not None
        await asyncio.to_thread(orchestrator._vllm.wait, 20)
        result = await orchestrator.score(QUESTION)
        orchestrator.__del__()
        if fallback == "none":
            assert isinstance(result, Unavailable)
            assert "there is no folder" in result.detail
        else:
            assert isinstance(result, Scores)
            assert result.winner == "poems"
            assert "there is no folder" in result.stand_in


async def test_killed_engine_is_restarted(chat: Site, labelled: LabelledSet) -> None:
    """It is noticed within 3 s, and restarted in little more than a start; no question raises."""
    engine, core, cold_s = chat.engine, core_of(chat.engine), chat.engine.start_s
    question = Question((Turn("user", "Write a poem about rain"),), labelled.routes, "ten")
    in_flight = asyncio.create_task(engine.score(question))
    await asyncio.sleep(0.05)
    core.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    noticed_s = await until(lambda: not engine.ready, 3)
    lost = await in_flight
    assert isinstance(lost, Scores) or lost.reason is Reason.ORCHESTRATOR_ERROR
    asked = 0
    while not engine.ready:
        started = time.monotonic()
        result = await engine.score(question)
        assert isinstance(result, Unavailable) or engine.ready
        assert time.monotonic() - started < 0.5 or engine.ready
        instead = await chat.orchestrator.score(question)
        assert isinstance(instead, Scores)
        asked += 1
        await asyncio.sleep(0.2)
        assert time.monotonic() - killed < 1.5 * cold_s + 3
    back_s = time.monotonic() - killed
    print(f"\nnoticed after {noticed_s:.2f} s, back after {back_s:.1f} s; cold {cold_s:.1f} s")
    assert asked > 3
    assert isinstance(await engine.score(question), Scores)
    assert engine.starts == 2


_OWNER: Final = """
import sys, time
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.engines.vllm.engine import VllmEngine
from serve_app.scoring.prompt import FAMILIES

engine = VllmEngine(VllmSettings(sys.argv[1], FAMILIES["generic"], max_model_len=512))
ready = engine.wait(150)
(core,) = engine._running.engine.engine_core.resources.engine_manager.processes
print("core", core.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.long  # another start of vLLM, in a process of its own
def test_killed_replica_leaves_no_process(tiny: Path, tmp_path: Path) -> None:
    """The process of vLLM ends with it, although it gets no message."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(tiny)], stdout=subprocess.PIPE, text=True, env=environ
    ) as owner:
        try:
            assert owner.stdout is not None
            lines = (line.split() for line in owner.stdout)
            core = next(psutil.Process(int(line[1])) for line in lines if line[0] == "core")
            assert core.is_running()
        finally:
            owner.kill()
    psutil.wait_procs([core], timeout=5)
    assert not core.is_running()
