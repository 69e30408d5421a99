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

from serve_app.cli.calibrate import DEFAULT_FILE, write_calibration
from serve_app.cli.output import say, say_json
from serve_app.config.locations import ConfigError, Problem
from serve_app.config.pydantic_errors import describe_error
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Json
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.servers import Servers
from serve_app.engines.threshold import no_probabilities
from serve_app.evaluation.calibrate import corrected
from serve_app.evaluation.confusion_svg import as_svg
from serve_app.evaluation.draws import draw_examples
from serve_app.evaluation.labelled_set import Case, LabelledSet, read_set
from serve_app.evaluation.live_engine import EngineContext, Measure, live_measure
from serve_app.evaluation.measure import Draws, Evaluation, evaluate
from serve_app.evaluation.orders import measure_flips
from serve_app.evaluation.report import compare, read_report, report_json, report_text
from serve_app.scoring.calibration import DecisionRule
from serve_app.snapshot import Snapshot, compile_snapshot

_CHOICES: Final = {
    "engine": "engine to measure (default: that of --config, or embedding)",
    "family": "prompt format of the model",
    "device": "device of the model (vllm)",
    "mode": "way of reading the answer (vllm)",
}

_WITH_CALIBRATE: Final[tuple[str, ...]] = ("output", "no_fit")
_WITHOUT_CALIBRATE: Final[tuple[str, ...]] = ("draw", "orders", "plot", "compare", "fail_under")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``fingerpost eval``."""
    parser.add_argument(
        "file",
        type=Path,
        nargs="+",
        help="labelled set: JSON lines, routes first, then cases; several only with --calibrate",
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
        "--min-confidence", type=float, help="minimum probability with which a route wins"
    )
    parser.add_argument(
        "--min-margin", type=float, help="minimum lead of the winning route over the second one"
    )
    parser.add_argument(
        "--no-examples", action="store_true", help="ignore the examples of the routes"
    )
    _add_measurements(parser)


def _add_measurements(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument(
        "--orders",
        type=_at_least(0),
        default=0,
        metavar="N",
        help="decide all cases again with the routes in N other orders, and show how many change",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.svg",
        help="write the confusion matrix and the reliability of decisions as SVG",
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
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="fit the probabilities of the engine to the set, and write them to --output",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"file of --calibrate (default: {DEFAULT_FILE})",
    )
    parser.add_argument(
        "--no-fit",
        action="store_true",
        help="with --calibrate: measure the errors of the probabilities as they are",
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
    _check_options(arguments)
    snapshot = None if arguments.config is None else compile_snapshot(arguments.config)
    section = _section(arguments, snapshot)
    sets = [_labelled(file, arguments) for file in arguments.file]
    if arguments.calibrate:
        for labelled in sets:
            labelled.check_labels()
    rule = None if arguments.calibrate else _rule(section, snapshot)
    with _engine(section, arguments, snapshot, rule) as (measure_set, draw):
        if arguments.calibrate:
            write_calibration(
                section,
                [measure_set(labelled) for labelled in sets],
                arguments.output or DEFAULT_FILE,
                fits=not arguments.no_fit,
                json=arguments.json,
            )
            return True
        (labelled,) = sets
        evaluation = measure_set(labelled)
        flips = measure_flips(evaluation, measure_set, arguments.orders)
        evaluation = replace(evaluation, flips=flips)
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


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises ConfigError for options that do not fit together."""
    if arguments.plot is not None and arguments.plot.suffix != ".svg":
        raise ConfigError(
            str(arguments.plot), (Problem(0, "--plot", "the file name must end in .svg"),)
        )
    misplaced, message = _WITH_CALIBRATE, "only works with --calibrate; add that or remove it"
    if arguments.calibrate:
        misplaced, message = _WITHOUT_CALIBRATE, "cannot be combined with --calibrate; remove it"
    problems = [
        Problem(0, f"--{name.replace('_', '-')}", message)
        for name in misplaced
        if getattr(arguments, name)
    ]
    if len(arguments.file) > 1 and not arguments.calibrate:
        problems.append(Problem(0, "file", "several sets only work with --calibrate; name one"))
    if problems:
        raise ConfigError("the command line", tuple(problems))


def _labelled(file: Path, arguments: argparse.Namespace) -> LabelledSet:
    labelled = read_set(file)
    if not arguments.no_examples:
        return labelled
    routes = tuple(replace(route, examples=()) for route in labelled.routes)
    return replace(labelled, routes=routes)


_Draw: TypeAlias = Callable[[LabelledSet, int], Draws]


@contextmanager
def _engine(
    section: OrchestratorSection,
    arguments: argparse.Namespace,
    snapshot: Snapshot | None,
    rule: DecisionRule | None,
) -> Iterator[tuple[Measure, _Draw | None]]:
    """A function that measures sets, and one that draws examples (embedded engine only)."""
    if section.engine != "embedding" or section.when_unsure is not None:
        routes = read_set(arguments.file[0]).routes
        context = EngineContext(rule=rule)
        if snapshot is not None:
            servers = Servers.of(snapshot.config, snapshot.providers)
            context = EngineContext(servers, rule)
        with live_measure(section, _bar, routes, context) as measure_set:
            yield measure_set, None
        return
    settings = EmbeddingSettings.from_section(section)
    engine = EmbeddingEngine(settings)

    def embedded(labelled: LabelledSet) -> Evaluation:
        evaluation = evaluate(labelled, settings, _bar, engine)
        return evaluation if rule is None else corrected(evaluation, rule)

    def draw(labelled: LabelledSet, count: int) -> Draws:
        return draw_examples(labelled, engine, count, arguments.draws)

    yield embedded, draw


def _plot(evaluation: Evaluation, file: Path) -> None:
    try:
        file.write_bytes(as_svg(evaluation))
    except OSError as error:
        problem = Problem(0, "--plot", f"cannot write the file: {error.strerror}")
        raise ConfigError(str(file), (problem,)) from error


def _section(arguments: argparse.Namespace, snapshot: Snapshot | None) -> OrchestratorSection:
    """The section of ``--config``, if any, with the options of the command line.

    The model and the thresholds of a section for another engine are not used. A calibration is of
    one engine, so ``when_unsure`` is left out of it.
    """
    section = OrchestratorSection() if snapshot is None else snapshot.config.orchestrator
    kept = section.model_dump(exclude_unset=True)
    kept.pop("max_error", None)  # the snapshot has picked min_confidence for it
    left_out = {"when_unsure"} if arguments.calibrate else set()
    if arguments.engine not in {None, section.engine}:
        left_out = {"model", "min_confidence", "min_margin", "when_unsure", "calibration"}
    kept = {name: value for name, value in kept.items() if name not in left_out}
    names = (*_CHOICES, "model", "threads", "max_query_tokens", "min_confidence", "min_margin")
    options = {
        name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None
    }
    try:
        section = OrchestratorSection.model_validate({**kept, **options})
    except ValidationError as error:
        raise ConfigError("the command line", tuple(_problems(error))) from error
    problems = []
    if arguments.draw and (section.engine != "embedding" or section.when_unsure is not None):
        alone = "" if section.when_unsure is None else " without when_unsure"
        problems = [Problem(0, "--draw", f"only works with engine embedding{alone}; remove it")]
    if arguments.calibrate and not section.has_probabilities:
        problems = [Problem(0, "--calibrate", f"{no_probabilities(section)}; use another engine")]
    if problems:
        raise ConfigError("the command line", tuple(problems))
    return section


def _rule(section: OrchestratorSection, snapshot: Snapshot | None) -> DecisionRule | None:
    """The rule of ``--config``, with the thresholds in use; None if it is for another model."""
    if snapshot is None or snapshot.threshold.rule is None:
        return None
    configured = snapshot.config.orchestrator
    if (section.engine, section.model) != (configured.engine, configured.model):
        return None
    return replace(
        snapshot.threshold.rule,
        min_confidence=section.min_confidence,
        min_margin=section.min_margin,
    )


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
