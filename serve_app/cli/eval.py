"""``fingerpost eval``: measures how well an engine matches a labelled set."""

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
from serve_app.evaluation.live_engine import Measure, live_measure
from serve_app.evaluation.measure import Draws, Evaluation, evaluate
from serve_app.evaluation.report import compare, read_report, report_json, report_text
from serve_app.snapshot import compile_snapshot

_CHOICES: Final = {
    "engine": "engine to measure (default: that of --config, or embedding)",
    "family": "prompt format of the model",
    "device": "device of the model (vllm)",
    "mode": "way of reading the answer (vllm)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``fingerpost eval``."""
    parser.add_argument(
        "file", type=Path, help="labelled set: JSON lines, routes first, then cases"
    )
    parser.add_argument("--config", type=Path, help="gateway.yaml with the settings of the engine")
    for name, description in _CHOICES.items():
        choices = get_args(OrchestratorSection.model_fields[name].annotation)
        parser.add_argument(f"--{name}", choices=choices, help=description)
    parser.add_argument("--model", help="model of the engine, see orchestrator.model")
    parser.add_argument("--threads", type=int, help="CPU threads of the engine")
    parser.add_argument(
        "--max-query-tokens", type=int, help="maximum tokens of a prompt that are compared"
    )
    parser.add_argument(
        "--min-confidence", type=float, help="minimum score with which a route wins"
    )
    parser.add_argument(
        "--min-margin", type=float, help="minimum lead of the winning route over the second one"
    )
    parser.add_argument(
        "--no-archetypes", action="store_true", help="ignore the bank of example prompts"
    )
    parser.add_argument(
        "--no-examples", action="store_true", help="ignore the examples of the routes"
    )
    parser.add_argument(
        "--draw", type=_at_least(0), nargs="*", default=[], metavar="N",
        help="measure with N examples per route, too, that are drawn from the set",
    )  # fmt: skip
    parser.add_argument(
        "--draws",
        type=_at_least(1),
        default=5,
        help="number of draws for each N (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.svg", help="write the confusion matrix as SVG"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="OTHER",
        help="compare with a report of --json, or with another labelled set",
    )
    parser.add_argument(
        "--fail-under",
        type=float,
        metavar="ACCURACY",
        help="exit with status 1 if the accuracy is lower",
    )


def _at_least(least: int) -> Callable[[str], int]:
    """A parser of integers that are at least ``least``."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"must be an integer of at least {least}, not {text!r}"
            )
        return int(text)

    return read


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost eval``; False if the accuracy is below ``--fail-under``."""
    if arguments.plot is not None and arguments.plot.suffix != ".svg":
        raise ConfigError(
            str(arguments.plot), (Problem(0, "--plot", "the file name must end in .svg"),)
        )
    section = _section(arguments)
    labelled = read_set(arguments.file)
    if arguments.no_examples:
        routes = tuple(replace(route, examples=()) for route in labelled.routes)
        labelled = replace(labelled, routes=routes)
    with _engine(section, arguments, labelled.routes) as (measure_set, draw):
        evaluation = measure_set(labelled)
        if draw is not None:
            draws = tuple(draw(labelled, count) for count in arguments.draw)
            evaluation = replace(evaluation, draws=draws)
        report = report_json(evaluation)
        if arguments.json:
            say_json(report)
        else:
            say("\n".join(report_text(evaluation)))
        if arguments.compare is not None:
            lines = compare(report, _other_report(arguments.compare, measure_set))
            say("\n".join(["", *lines]), sys.stderr if arguments.json else sys.stdout)
    if arguments.plot is not None:
        _plot(evaluation, arguments.plot)
    if arguments.fail_under is not None and evaluation.accuracy < arguments.fail_under:
        say(f"accuracy {evaluation.accuracy:.3f} is below {arguments.fail_under:g}", sys.stderr)
        return False
    return True


_Draw: TypeAlias = Callable[[LabelledSet, int], Draws]


@contextmanager
def _engine(
    section: OrchestratorSection, arguments: argparse.Namespace, routes: tuple[Route, ...]
) -> Iterator[tuple[Measure, _Draw | None]]:
    """A function that measures sets, and one that draws examples (embedded engine only)."""
    if section.engine != "embedding":
        with live_measure(section, _bar, routes, _tls_ca(arguments)) as measure_set:
            yield measure_set, None
        return
    settings = replace(
        EmbeddingSettings.from_section(section), archetypes=not arguments.no_archetypes
    )
    engine = EmbeddingEngine(settings)

    def embedded(labelled: LabelledSet) -> Evaluation:
        return evaluate(labelled, settings, _bar, engine)

    def draw(labelled: LabelledSet, count: int) -> Draws:
        return draw_examples(labelled, engine, settings, count, arguments.draws)

    yield embedded, draw


def _plot(evaluation: Evaluation, file: Path) -> None:
    try:
        file.write_bytes(as_svg(evaluation))
    except OSError as error:
        problem = Problem(0, "--plot", f"cannot write the file: {error.strerror}")
        raise ConfigError(str(file), (problem,)) from error


def _section(arguments: argparse.Namespace) -> OrchestratorSection:
    """The section of ``--config``, if any, with the options of the command line.

    The model and the thresholds of a section for another engine are not used.
    """
    section = OrchestratorSection()
    if arguments.config is not None:
        section = compile_snapshot(arguments.config).config.orchestrator
    kept = section.model_dump()
    if arguments.engine not in {None, section.engine}:
        for name in ("model", "min_confidence", "min_margin"):
            del kept[name]
    names = (*_CHOICES, "model", "threads", "max_query_tokens", "min_confidence", "min_margin")
    options = {
        name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None
    }
    try:
        section = OrchestratorSection.model_validate({**kept, **options})
    except ValidationError as error:
        raise ConfigError("the command line", tuple(_problems(error))) from error
    if section.engine != "embedding":
        problems = [
            Problem(0, option, "only works with engine embedding; remove it")
            for option, is_set in (
                ("--draw", arguments.draw),
                ("--no-archetypes", arguments.no_archetypes),
            )
            if is_set
        ]
        if problems:
            raise ConfigError("the command line", tuple(problems))
    return section


def _tls_ca(arguments: argparse.Namespace) -> str | None:
    if arguments.config is None:
        return None
    return compile_snapshot(arguments.config).config.overrides.upstream_tls_ca_path


def _problems(error: ValidationError) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        option = "".join(f"--{name}".replace("_", "-") for name in detail["loc"][:1])
        more = "" if option else ", or name a gateway.yaml that has it with --config"
        yield Problem(0, option or "--engine", f"{describe_error(detail)[1]}{more}")


def _bar(cases: Sequence[Case]) -> Iterable[Case]:
    """Shows a progress bar on a terminal."""
    bar: Iterable[Case] = tqdm(cases, unit="case", disable=None, leave=False)
    return bar


def _other_report(other: Path, measure_set: Measure) -> Mapping[str, Json]:
    """The report to compare with: read from a file, or measured on another set."""
    report = read_report(other)
    return report_json(measure_set(read_set(other))) if report is None else report
