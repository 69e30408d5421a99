"""How well the embedded engine finds routes, and what each of its parts is worth.

    .venv/bin/python benchmarks/routing_accuracy.py [SET.jsonl ...]

Sets are those of ``fingerpost eval``; without any, the two in benchmarks/routing/ are taken.
Accuracy is top-1 of the cases that have a route. ``fp32`` is the same model in floating point:
the pinned package's own graph. Results go to benchmarks/results/routing_accuracy.{json,md}.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from machine import headline, machine

from serve_app.engines.embedding.engine import PACKAGE, EmbeddingEngine, EmbeddingSettings
from serve_app.evaluation.draws import draw_examples
from serve_app.evaluation.labelled_set import Case, LabelledSet, read_set
from serve_app.evaluation.measure import evaluate

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results" / "routing_accuracy"
_DRAWS: Final = 5


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    own = sorted((HERE / "routing").glob("*.jsonl"))
    parser.add_argument("sets", nargs="*", type=Path, default=own)
    chosen = parser.parse_args()
    sets = [read_set(file) for file in chosen.sets]
    rows = [{"set": Path(one.file).stem, **measure(one)} for one in sets]
    about = machine()
    RESULTS.with_suffix(".json").write_text(
        json.dumps({"machine": about, "rows": rows}, indent=1) + "\n"
    )
    text = "\n".join(["# Accuracy of the embedded engine", "", headline(about), "", *table(rows)])
    RESULTS.with_suffix(".md").write_text(text + "\n")
    print(text)


def variants() -> dict[str, EmbeddingSettings]:
    """What is compared, by name."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SystemExit(f"{PACKAGE} is not installed")
    package = Path(found.origin).parent / "model.onnx"
    return {
        "int8": EmbeddingSettings(),
        "without archetypes": EmbeddingSettings(archetypes=False),
        "fp32": EmbeddingSettings(model=package),
        "fp32 without archetypes": EmbeddingSettings(model=package, archetypes=False),
        "128 tokens": EmbeddingSettings(max_query_tokens=128),
        "256 tokens": EmbeddingSettings(max_query_tokens=256),
    }


def measure(labelled: LabelledSet) -> dict[str, Any]:
    """The accuracy of each variant on one set, and of examples drawn from it."""
    bare = replace(labelled, routes=tuple(replace(route, examples=()) for route in labelled.routes))
    row: dict[str, Any] = {"cases": sum(case.expect is not None for case in bare.cases)}
    for name, settings in variants().items():
        engine = EmbeddingEngine(settings)
        found = evaluate(bare, settings, _quietly, engine)
        row[name] = found.accuracy
        if name == "int8":
            row["AUROC"] = found.auroc()
            row["p50_ms"] = found.latency_ms(0.5)
            for count in (1, 3, 5):
                drawn = draw_examples(bare, engine, settings, count, _DRAWS)
                row[f"{count} examples"] = drawn.mean
    return row


def _quietly(cases: Sequence[Case]) -> Sequence[Case]:
    return cases


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One column a set."""
    lines = [
        f"| | {' | '.join(row['set'] for row in rows)} |",
        f"|---{'|---' * len(rows)}|",
    ]
    lines += [
        f"| {key} | {' | '.join(_shown(row[key]) for row in rows)} |"
        for key in rows[0]
        if key != "set"
    ]
    return lines


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


if __name__ == "__main__":
    main()
