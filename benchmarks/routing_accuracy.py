"""Measures how often the embedded engine finds the right route, with and without its parts.

    .venv/bin/python benchmarks/routing_accuracy.py [SET.jsonl ...]

The sets are files of ``fingerpost eval``; the default is the two in benchmarks/routing/. Accuracy is
top-1 of the cases that have a route, without examples but where the row says so; ``decided`` is the
share of all cases whose decision is right, "no route" included. Without a part, its share of the
similarity is spread over the others. ``package`` is the pinned package's own graph, in floating
point, with the read-out for any sentence encoder. Results go to
benchmarks/results/routing_accuracy.{json,md}.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.lib.machine import headline, machine
from benchmarks.lib.package_model import package_graph
from benchmarks.lib.paths import ROUTING_SETS
from benchmarks.lib.script import publish, script_parser
from serve_app.engines.embedding.engine import (
    EmbeddingEngine,
    EmbeddingModel,
    EmbeddingSettings,
)
from serve_app.evaluation.draws import draw_examples
from serve_app.evaluation.labelled_set import Case, LabelledSet, read_set
from serve_app.evaluation.measure import evaluate
from serve_app.scoring.readout import Readout

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
    publish(options.results, "routing_accuracy", {"machine": about, "rows": rows}, text)


def variants() -> dict[str, tuple[EmbeddingSettings, str]]:
    """Returns the settings to compare, by name, and the part of a route's text that is left out."""
    bundled = EmbeddingSettings()
    return {
        "bundled": (bundled, ""),
        **{f"without the {part}": (bundled, part) for part in ("whole", "name", "phrase")},
        "package": (EmbeddingSettings(model=package_graph()), ""),
        "128 tokens": (EmbeddingSettings(max_query_tokens=128), ""),
        "256 tokens": (EmbeddingSettings(max_query_tokens=256), ""),
    }


def without(readout: Readout, part: str) -> Readout:
    """Returns the read-out with the share of this part spread over the other two."""
    shares = {name: getattr(readout, name) for name in ("whole", "name", "phrase")}
    total = sum(shares.values())
    shares[part] = 0.0
    scale = total / sum(shares.values())
    whole, name, phrase = (scale * share for share in shares.values())
    return replace(readout, whole=whole, name=name, phrase=phrase)


def measure(labelled: LabelledSet) -> dict[str, Any]:
    """Returns the accuracy of each variant on one set, and with examples drawn from it."""
    bare = replace(
        labelled,
        routes=tuple(replace(route, examples=()) for route in labelled.routes),
        no_route_examples=(),
    )
    row: dict[str, Any] = {"cases": sum(case.expect is not None for case in bare.cases)}
    for name, (settings, left_out) in variants().items():
        model = EmbeddingModel(settings)
        if left_out:
            model.readout = without(model.readout, left_out)
        engine = EmbeddingEngine(settings, model)
        evaluation = evaluate(bare, settings, _without_progress, engine)
        row[name] = evaluation.accuracy
        if name == "bundled":
            row["decided"] = evaluation.decided
            row["AUROC"] = evaluation.auroc()
            row["p50_ms"] = evaluation.latency_ms(0.5)
            for count in (1, 3, 5):
                drawn = draw_examples(bare, engine, count, _DRAWS)
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
