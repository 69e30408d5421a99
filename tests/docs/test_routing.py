"""docs/guides/engines.md and the files for a GPU: sums that must be what the engine itself would say."""

import re
from pathlib import Path
from typing import Final, get_args

import pytest
import yaml

from serve_app.config.load import load
from serve_app.engines.faults import EngineFaultError
from serve_app.engines.vllm.arguments import DeviceMemory, engine_args
from serve_app.engines.vllm.checkpoint import Checkpoint
from serve_app.engines.vllm.profiles import GIBIBYTE, PROFILES
from serve_app.engines.vllm.settings import Mode, VllmSettings
from serve_app.scoring.prompt import FAMILIES

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docs/guides/engines.md").read_text("utf-8")
ROWS: Final = re.findall(
    r"^\| ([^|]+ billion[^|]*) \| ([\d.]+) \| (\d+) \| ([\d.]+) \| ([^|]+) \| ([\d.]+) \| ([\d.]+) \|$",
    TEXT,
    re.MULTILINE,
)
CACHE_VALUES: Final = {"1.5": 14_336, "4": 73_728, "30": 49_152}
"""Keys and values of a token, by billions of parameters; two bytes each."""

STEP: Final = 0.05


def checkpoint(billions: str, weights_gib: float) -> Checkpoint:
    return Checkpoint(round(weights_gib * GIBIBYTE), 32_768, CACHE_VALUES[billions], is_narrow=True)


def test_there_are_rows_to_check() -> None:
    """Of every size that is spoken of."""
    assert len(ROWS) == 7
    assert {model.split()[0] for model, *_ in ROWS} == set(CACHE_VALUES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}, {row[4]}")
def test_a_share_of_a_card_is_the_least_that_the_engine_takes(row: tuple[str, ...]) -> None:
    """In steps of a twentieth; the sum beside it is what the engine counts."""
    model, weights, cache_mb, needed, _, shown, share = row
    found = checkpoint(model.split()[0], float(weights))
    family = FAMILIES["arch-router" if model.startswith("1.5") else "plano-orchestrator"]
    settings = VllmSettings("m", family, kv_cache_mb=int(cache_mb))
    total = round(float(shown) * GIBIBYTE)
    args = engine_args(settings, PROFILES["cuda"], DeviceMemory(total, float(share)), found)
    assert args["gpu_memory_utilization"] * float(shown) == pytest.approx(float(needed), abs=0.05)
    with pytest.raises(EngineFaultError, match="set num_gpus to at least"):
        engine_args(settings, PROFILES["cuda"], DeviceMemory(total, float(share) - STEP), found)


def test_what_a_cache_holds_is_right() -> None:
    """Tokens, in thousands, and bytes of each."""
    sizes = [2 * values // 1024 for values in CACHE_VALUES.values()]
    assert "takes {} KiB of cache with 1.5 billion parameters, {} KiB with 4 billion and {} KiB".format(*sizes) in TEXT  # fmt: skip
    held = [cache_mb * 1024 / size for cache_mb, size in zip((1024, 4096, 1024), sizes, strict=True)]  # fmt: skip
    thousands = [round(tokens / 1000) for tokens in held]
    assert "about {} 000, {} 000 and {} 000 tokens".format(*thousands) in TEXT


@pytest.mark.parametrize("card_gib", [21.9, 22.5])
def test_the_example_for_a_gpu_fits_its_share(card_gib: float) -> None:
    """A model with 1.5 billion parameters, on a card with 24 GB, three times."""
    serve = yaml.safe_load((ROOT / "configs/serve.gpu.yaml").read_text())
    (options,) = serve["applications"][0]["deployments"]
    share = options["ray_actor_options"]["num_gpus"]
    assert options["autoscaling_config"]["max_replicas"] * share <= 1
    section = load(ROOT / "configs/gateway.gpu.yaml").config.orchestrator
    memory = DeviceMemory(round(card_gib * GIBIBYTE), share)
    args = engine_args(
        VllmSettings.from_section(section), PROFILES["cuda"], memory, checkpoint("1.5", 2.9)
    )
    assert args["kv_cache_memory_bytes"] == GIBIBYTE


def test_families_and_modes_are_those_there_are() -> None:
    """With the budgets of the families."""
    budgets = dict(re.findall(r"^\| `([\w-]+)` \| .* \| (\S+) \|$", TEXT, re.MULTILINE))
    assert {name: budgets.get(name) for name in FAMILIES} == {
        name: str(family.budget_tokens) for name, family in FAMILIES.items()
    }
    table = TEXT.partition("| `mode` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == {*get_args(Mode)} - {"free"}
