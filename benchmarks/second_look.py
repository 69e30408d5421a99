"""Measures decisions with a second look at close calls: their time, with and without its limit.

    .venv/bin/python benchmarks/second_look.py

The reranker is a graph of six layers of 384 units, all-MiniLM-L6-v2 with one logit (lib/cross_encoder.py,
which installs ``onnx`` in an environment of its own): the shape of the cross-encoders that are usual
for this, such as ms-marco-MiniLM-L6-v2. Its answers mean nothing, its time does. All conversations
of two sets are decided, one thread. Results go to benchmarks/results/second_look.{json,md}.
"""

import json
import math
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tokenizers import BertWordPieceTokenizer
from tokenizers.processors import TemplateProcessing

from benchmarks.lib.loadgen import quantile
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.package_model import package_graph
from benchmarks.lib.paths import BENCHMARKS, ROUTING_SETS
from benchmarks.lib.peers import install_tool, python_of
from benchmarks.lib.processes import temporary_folder
from benchmarks.lib.script import publish, script_parser, verdict
from serve_app.domain import Question, Scores
from serve_app.engines.embedding.engine import (
    VOCABULARY,
    EmbeddingEngine,
    EmbeddingSettings,
)
from serve_app.evaluation.labelled_set import read_set
from serve_app.scoring.second_look import close_call

_ONNX: Final = "onnx==1.19.1"
_SETS: Final = ("llm_tasks", "dialogues")
_BELOW: Final = 0.5
_LIMIT_S: Final = EmbeddingSettings().reranker_s
_P99_BAR_MS: Final = 60.0


def write_reranker(folder: Path) -> None:
    """Writes a cross-encoder of the usual shape."""
    install_tool("onnx", _ONNX)
    script = BENCHMARKS / "lib/cross_encoder.py"
    command = [python_of("onnx"), str(script), str(package_graph()), str(folder / "model.onnx")]
    subprocess.run(command, check=True)
    tokenizer = BertWordPieceTokenizer(str(VOCABULARY), lowercase=True)
    tokenizer._tokenizer.post_processor = TemplateProcessing(  # noqa: SLF001 - it has no other way
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 101), ("[SEP]", 102)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"model_type": "bert", "max_position_embeddings": 512, "hidden_size": 384}
    (folder / "config.json").write_text(json.dumps(config))


def times(settings: EmbeddingSettings) -> dict[str, list[float]]:
    """Returns the milliseconds of clear decisions and of close calls."""
    engine = EmbeddingEngine(settings)
    first = EmbeddingEngine(EmbeddingSettings())
    found: dict[str, list[float]] = {"clear": [], "close": []}
    for name in _SETS:
        labelled = read_set(ROUTING_SETS / f"{name}.jsonl")
        engine.prepare(labelled.routes)
        first.prepare(labelled.routes)
        for case in labelled.cases:
            question = Question(case.turns, labelled.routes, name)
            scores = first.score(question, lambda: True)
            kind = "close" if isinstance(scores, Scores) and close_call(scores, _BELOW) else "clear"
            began = time.perf_counter()
            engine.score(question, lambda: True)
            found[kind].append((time.perf_counter() - began) * 1e3)
    return found


def report(result: Mapping[str, Any]) -> str:
    """Returns the report."""
    lines = ["# Decisions with a second look at close calls", ""]
    lines += [f"{headline(result['machine'])} How: benchmarks/second_look.py.", ""]
    lines += ["| reranker_ms | decisions | number | p50 ms | p99 ms | most ms | p99 <= 60 ms |"]
    lines += ["|---|---|--:|--:|--:|--:|---|"]
    for limit, kinds in result["times_ms"].items():
        for kind, values in {**kinds, "all": [*kinds["clear"], *kinds["close"]]}.items():
            p50, p99 = quantile(values, 0.5, math.nan), quantile(values, 0.99, math.nan)
            holds = p99 <= _P99_BAR_MS if limit == "45, the default" else None
            lines.append(
                f"| {limit} | {kind} | {len(values)} | {p50:.1f} | {p99:.1f} "
                f"| {max(values):.1f} | {verdict(holds=holds)} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints and writes the figures."""
    options = script_parser(__doc__).parse_args()
    with temporary_folder() as folder:
        write_reranker(folder)
        limits = {"45, the default": _LIMIT_S, "no limit": math.inf}
        found = {
            name: times(
                EmbeddingSettings(reranker=folder, reranker_below=_BELOW, reranker_s=limit_s)
            )
            for name, limit_s in limits.items()
        }
    result = {"machine": machine(), "times_ms": found}
    text = report(result)
    publish(options.results, "second_look", result, text)


if __name__ == "__main__":
    main()
