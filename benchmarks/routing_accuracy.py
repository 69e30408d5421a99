"""Measures how often the embedded engine finds the right route, with and without its parts.

    .venv/bin/python benchmarks/routing_accuracy.py [SET.jsonl ...]

The sets are files of ``fingerpost eval``; the default is the two in benchmarks/routing/. Accuracy is
top-1 of the cases that have a route. ``fp32`` is the same model in floating point: the graph of the
pinned package. Results go to benchmarks/results/routing_accuracy.{json,md}.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.lib.machine import headline, machine
from benchmarks.lib.package_model import package_graph
from benchmarks.lib.paths import ROUTING_SETS
from benchmarks.lib.script import script_parser, write_results
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.evaluation.draws import draw_examples
from serve_app.evaluation.labelled_set import Case, LabelledSet, read_set
from serve_app.evaluation.measure import evaluate

_DRAWS: Final = 5


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = script_parser(__doc__)
    bundled = sorted(ROUTING_SETS.glob("*.jsonl"))
    parser.add_argument("sets", nargs="*", type=Path, default=bundled, help="labelled sets")
    options = parser.parse_args()
    sets = [read_set(file) for file in options.sets]
    rows = [{"set": Path(one.file).stem, **measure(one)} for one in sets]
    about = machine()
    text = "\n".join(["# Accuracy of the embedded engine", "", headline(about), "", *table(rows)])
    print(text)
    write_results(options.results, "routing_accuracy", {"machine": about, "rows": rows}, text)


def variants() -> dict[str, EmbeddingSettings]:
    """Returns the settings to compare, by name."""
    package = package_graph()
    return {
        "int8": EmbeddingSettings(),
        "without archetypes": EmbeddingSettings(archetypes=False),
        "fp32": EmbeddingSettings(model=package),
        "fp32 without archetypes": EmbeddingSettings(model=package, archetypes=False),
        "128 tokens": EmbeddingSettings(max_query_tokens=128),
        "256 tokens": EmbeddingSettings(max_query_tokens=256),
    }


def measure(labelled: LabelledSet) -> dict[str, Any]:
    """Returns the accuracy of each variant on one set, and with examples drawn from it."""
    bare = replace(labelled, routes=tuple(replace(route, examples=()) for route in labelled.routes))
    row: dict[str, Any] = {"cases": sum(case.expect is not None for case in bare.cases)}
    for name, settings in variants().items():
        engine = EmbeddingEngine(settings)
        evaluation = evaluate(bare, settings, _without_progress, engine)
        row[name] = evaluation.accuracy
        if name == "int8":
            row["AUROC"] = evaluation.auroc()
            row["p50_ms"] = evaluation.latency_ms(0.5)
            for count in (1, 3, 5):
                drawn = draw_examples(bare, engine, settings, count, _DRAWS)
                row[f"{count} examples"] = drawn.mean
    return row


def _without_progress(cases: Sequence[Case]) -> Sequence[Case]:
    return cases


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a table with one column per set."""
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
