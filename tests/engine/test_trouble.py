"""Failures of vLLM: models that cannot run, and processes that die."""

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
from serve_app.engines.vllm.engine import VllmEngine
from serve_app.engines.vllm.settings import PROFILES, Room, VllmSettings, engine_args
from serve_app.evaluation.labelled_set import LabelledSet
from serve_app.scoring.prompt import FAMILIES
from tests.engine.conftest import START_S, Site, core_of, until

QUESTION: Final = Question(
    (Turn("user", "Write a sonnet about autumn"),),
    (Route("code", "code and programs", ()), Route("poems", "poems, songs and rhymes", ())),
    "two",
)
ROOM: Final = Room(80 << 30)


def settings(model: Path, **more: object) -> VllmSettings:
    return VllmSettings(str(model), FAMILIES["generic"], **more)  # type: ignore[arg-type]


def fault_of(wrong: VllmSettings) -> str:
    """The fault of an engine that does not start; it does not raise, and answers at once."""
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
    """A copy of the tiny model with a changed config.json."""
    for file in tiny.iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((tiny / "config.json").read_text())
    change(config)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_missing_model_folder_is_reported_without_vllm(tmp_path: Path) -> None:
    """A missing model folder is reported before vLLM is imported."""
    assert fault_of(settings(tmp_path / "x")) == (
        f"there is no folder {tmp_path}/x; see orchestrator.model, "
        "and set `download: true` if it is the id of a model on a hub"
    )


def test_missing_gpu_is_reported(tiny: Path) -> None:
    """A device that vLLM does not support on this machine is reported."""
    fault = fault_of(settings(tiny, device="cuda"))
    assert fault.startswith("orchestrator.device is cuda, but vLLM runs on cpu here")


def test_vllm_error_is_passed_on(tiny: Path, tmp_path: Path) -> None:
    """The error of vLLM about an invalid model is part of the fault."""
    wrong = changed(tiny, tmp_path, lambda config: config.update(num_attention_heads=3))
    assert fault_of(settings(wrong)).startswith(f"vLLM can't run {tmp_path}: ")


def test_model_that_exceeds_memory_is_rejected(tiny: Path) -> None:
    """A model that needs more memory than is free is rejected before vLLM starts."""
    fault = fault_of(settings(tiny, kv_cache_mb=1 << 20))
    assert "GiB are free; take a smaller model" in fault


def test_vllm_supports_known_architectures() -> None:
    """The locked version of vLLM supports every architecture in the gateway's list."""
    from vllm import ModelRegistry  # noqa: PLC0415 - seconds

    assert set(checkpoint.architectures()) <= set(ModelRegistry.get_supported_archs())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_vllm_accepts_engine_arguments(device: str, tiny: Path) -> None:
    """The engine's arguments for the CPU and for a GPU are valid arguments of vLLM."""
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - as above

    model = checkpoint.read_checkpoint(str(tiny))
    for task in ("generate", "embed"):
        wanted = settings(tiny, task=task)
        args = engine_args(wanted, PROFILES[device], ROOM, model)  # type: ignore[index]
        parsed = AsyncEngineArgs(**args)
        assert {name: getattr(parsed, name) for name in args} == args


async def test_replica_survives_failed_engine(tmp_path: Path, tiny: Path) -> None:
    """If the engine fails, the embedded engine answers with the fault; without a fallback, the
    fault is returned.
    """
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


async def test_killed_engine_restarts(chat: Site, labelled: LabelledSet) -> None:
    """A killed engine is noticed within 3 s and restarts in little more than a cold start, and no
    question raises.
    """
    engine, core, cold_s = chat.engine, core_of(chat.engine), chat.engine.start_s
    question = Question((Turn("user", "Write a poem about rain"),), labelled.routes, "ten")
    in_flight = asyncio.create_task(engine.score(question))
    await asyncio.sleep(0.05)
    core.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    noticed_s = await until(lambda: not engine.ready, 3)
    lost = await in_flight
    assert isinstance(lost, Scores) or lost.reason is Reason.ORCHESTRATOR_ERROR
    questions = 0
    while not engine.ready:
        started = time.monotonic()
        result = await engine.score(question)
        assert isinstance(result, Unavailable) or engine.ready
        assert time.monotonic() - started < 0.5 or engine.ready
        fallback_scores = await chat.orchestrator.score(question)
        assert isinstance(fallback_scores, Scores)
        questions += 1
        await asyncio.sleep(0.2)
        assert time.monotonic() - killed < 1.5 * cold_s + 3
    back_s = time.monotonic() - killed
    print(f"\nnoticed after {noticed_s:.2f} s, back after {back_s:.1f} s; cold {cold_s:.1f} s")
    assert questions > 3
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


@pytest.mark.long  # starts vLLM again in another process
def test_killed_replica_leaves_no_process(tiny: Path, tmp_path: Path) -> None:
    """When a replica is killed, the process of vLLM ends as well."""
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
