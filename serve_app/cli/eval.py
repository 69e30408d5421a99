"""``fingerpost eval``: measures an engine on a labelled set."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias, get_args

from pydantic import ValidationError
from tqdm import tqdm

from serve_app.cli.output import say, say_json
from serve_app.config.locations import ConfigError, Problem
from serve_app.config.pydantic_errors import describe_error
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Json, Route
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.evaluation.confusion_svg import as_svg
from serve_app.evaluation.draws import draw_examples
from serve_app.evaluation.labelled_set import Case, LabelledSet, read_set
from serve_app.evaluation.live_engine import Measure, measured
from serve_app.evaluation.measure import Draws, Evaluation, evaluate
from serve_app.evaluation.report import compare, read_report, report_json, report_text
from serve_app.snapshot import compile_snapshot

_CHOICES: Final = {
    "engine": "what is measured; else that of --config, or embedding",
    "family": "how a model is asked",
    "device": "vllm: where it runs",
    "mode": "vllm: how an answer is read",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``fingerpost eval``."""
    parser.add_argument("file", type=Path, help="JSON lines: routes first, then cases")
    parser.add_argument("--config", type=Path, help="take the settings of a gateway.yaml")
    for name, what in _CHOICES.items():
        choices = get_args(OrchestratorSection.model_fields[name].annotation)
        parser.add_argument(f"--{name}", choices=choices, help=what)
    parser.add_argument("--model", help="another one: see orchestrator.model")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--max-query-tokens", type=int)
    parser.add_argument("--min-confidence", type=float)
    parser.add_argument("--min-margin", type=float)
    parser.add_argument("--no-archetypes", action="store_true", help="without the bank's prompts")
    parser.add_argument("--no-examples", action="store_true", help="without the routes' examples")
    parser.add_argument(
        "--draw", type=_at_least(0), nargs="*", default=[], metavar="N",
        help="also with N examples a route drawn from the set, the drawn cases left out",
    )  # fmt: skip
    parser.add_argument("--draws", type=_at_least(1), default=5, help="how often, for a mean")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the confusion matrix")
    parser.add_argument(
        "--compare", type=Path, metavar="OTHER", help="a report of --json, or another labelled set"
    )
    parser.add_argument("--fail-under", type=float, metavar="ACCURACY", help="exit with 1 below")


def _at_least(least: int) -> Callable[[str], int]:
    """Reads a number of the command line."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} up, not {text}")
        return int(text)

    return read


def execute(chosen: argparse.Namespace) -> bool:
    """Prints how well the engine finds the routes of a set; False where that is not enough."""
    if chosen.plot is not None and chosen.plot.suffix != ".svg":
        raise ConfigError(
            str(chosen.plot), (Problem(0, "--plot", "name a file that ends in .svg"),)
        )
    section = _section(chosen)
    labelled = read_set(chosen.file)
    if chosen.no_examples:
        bare = tuple(replace(route, examples=()) for route in labelled.routes)
        labelled = replace(labelled, routes=bare)
    with _engine(section, chosen, labelled.routes) as (measure_set, draw):
        found = measure_set(labelled)
        if draw is not None:
            found = replace(found, draws=tuple(draw(labelled, count) for count in chosen.draw))
        report = report_json(found)
        if chosen.json:
            say_json(report)
        else:
            say("\n".join(report_text(found)))
        if chosen.compare is not None:
            lines = compare(report, _other_report(chosen.compare, measure_set))
            say("\n".join(["", *lines]), sys.stderr if chosen.json else sys.stdout)
    if chosen.plot is not None:
        _plot(found, chosen.plot)
    if chosen.fail_under is not None and found.accuracy < chosen.fail_under:
        say(f"accuracy {found.accuracy:.3f} is under {chosen.fail_under:g}", sys.stderr)
        return False
    return True


_Draw: TypeAlias = Callable[[LabelledSet, int], Draws]


@contextmanager
def _engine(
    section: OrchestratorSection, chosen: argparse.Namespace, routes: tuple[Route, ...]
) -> Iterator[tuple[Measure, _Draw | None]]:
    """What measures sets, and what draws examples from them, which the embedded one alone can."""
    if section.engine != "embedding":
        with measured(section, _bar, routes, _tls_ca(chosen)) as measure_set:
            yield measure_set, None
        return
    settings = replace(EmbeddingSettings.from_section(section), archetypes=not chosen.no_archetypes)
    engine = EmbeddingEngine(settings)

    def embedded(labelled: LabelledSet) -> Evaluation:
        return evaluate(labelled, settings, _bar, engine)

    def draw(labelled: LabelledSet, count: int) -> Draws:
        return draw_examples(labelled, engine, settings, count, chosen.draws)

    yield embedded, draw


def _plot(found: Evaluation, file: Path) -> None:
    try:
        file.write_bytes(as_svg(found))
    except OSError as error:
        problem = Problem(0, "--plot", f"can't be written: {error.strerror}")
        raise ConfigError(str(file), (problem,)) from error


def _section(chosen: argparse.Namespace) -> OrchestratorSection:
    """That of the configuration, if one is named, with what the command line says instead.

    Of a section for another engine the model and the thresholds are not this one's.
    """
    section = OrchestratorSection()
    if chosen.config is not None:
        section = compile_snapshot(chosen.config).config.orchestrator
    kept = section.model_dump()
    if chosen.engine not in {None, section.engine}:
        for name in ("model", "min_confidence", "min_margin"):
            del kept[name]
    names = (*_CHOICES, "model", "threads", "max_query_tokens", "min_confidence", "min_margin")
    said = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    try:
        section = OrchestratorSection.model_validate({**kept, **said})
    except ValidationError as error:
        raise ConfigError("the command line", tuple(_problems(error))) from error
    if section.engine != "embedding":
        found = [
            Problem(0, option, "is for engine embedding alone; leave it out")
            for option, is_set in (
                ("--draw", chosen.draw),
                ("--no-archetypes", chosen.no_archetypes),
            )
            if is_set
        ]
        if found:
            raise ConfigError("the command line", tuple(found))
    return section


def _tls_ca(chosen: argparse.Namespace) -> str | None:
    if chosen.config is None:
        return None
    return compile_snapshot(chosen.config).config.overrides.upstream_tls_ca_path


def _problems(error: ValidationError) -> Iterator[Problem]:
    for found in error.errors(include_url=False):
        option = "".join(f"--{name}".replace("_", "-") for name in found["loc"][:1])
        more = "" if option else "; name a gateway.yaml that has it with --config"
        yield Problem(0, option or "--engine", f"{describe_error(found)[1]}{more}")


def _bar(cases: Sequence[Case]) -> Iterable[Case]:
    """A progress bar on a terminal, nothing elsewhere."""
    bar: Iterable[Case] = tqdm(cases, unit="case", disable=None, leave=False)
    return bar


def _other_report(other: Path, measure_set: Measure) -> Mapping[str, Json]:
    """What to compare with: a report read from a file, or made of another set."""
    report = read_report(other)
    return report_json(measure_set(read_set(other))) if report is None else report
