"""What can be tried without a running gateway: ``fingerpost route`` and ``fingerpost eval``."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias, get_args

from pydantic import ValidationError
from tqdm import tqdm

from serve_app.cli.output import say, say_json
from serve_app.config.load import explain
from serve_app.config.schema.orchestrator import Orchestrator
from serve_app.dialects.openai_chat.dialect import read_turns
from serve_app.domain import Json, Question, Route, Scores, Turn, Unavailable
from serve_app.engines.embedding.engine import EmbeddingEngine, settings_of
from serve_app.errors import ConfigError, Problem
from serve_app.evaluation.live_engine import Measure, decide, measured
from serve_app.evaluation.measure import (
    Case,
    Draws,
    Evaluation,
    LabelledSet,
    draw_examples,
    evaluate,
    read_set,
)
from serve_app.evaluation.report import as_json, as_svg, as_text, compare, read_report, table
from serve_app.requests.decide import Decided, Setup, compile_setup
from serve_app.requests.explain import render_explanation
from serve_app.routing.router import ByContent, by_scores
from serve_app.scoring.excerpt import conversation, recent

_SHOWN: Final = 200
_CHOICES: Final = {
    "engine": "what is measured; else that of --config, or embedding",
    "family": "how a model is asked",
    "device": "vllm: where it runs",
    "mode": "vllm: how an answer is read",
}


def add_route(parser: argparse.ArgumentParser) -> None:
    """The command line of ``fingerpost route``."""
    parser.add_argument(
        "text", help="what a user says; - reads it, or a JSON list of messages, from standard input"
    )
    parser.add_argument("--config", type=Path, default=Path("configs/gateway.yaml"))
    parser.add_argument("--json", action="store_true", help="what POST /v1/route answers")


def add_eval(parser: argparse.ArgumentParser) -> None:
    """The command line of ``fingerpost eval``."""
    parser.add_argument("file", type=Path, help="JSON lines: routes first, then cases")
    parser.add_argument("--config", type=Path, help="take the settings of a gateway.yaml")
    for name, what in _CHOICES.items():
        choices = get_args(Orchestrator.model_fields[name].annotation)
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


def show_route(chosen: argparse.Namespace) -> None:
    """Prints which route a text matches, and why."""
    setup = compile_setup(chosen.config)
    policy = setup.policy
    if not policy.routes:
        problem = Problem(0, "routing_preferences", "there are no routes; add one with models")
        raise ConfigError(str(chosen.config), (problem,))
    section = setup.config.orchestrator
    text = chosen.text
    if text == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    look = conversation if section.generates else recent
    question = Question(look(_conversation(text)), policy.routes, policy.version)
    said: Scores | Unavailable = Scores({}, 0.0, None)
    took_s = 0.0
    if question.turns:
        if section.engine == "embedding":
            said, took_s = _compared(section, question)
        else:
            said, took_s = decide(section, question, setup.config.overrides.upstream_tls_ca_path)
    decided = Decided(by_scores(policy, ByContent(policy.routes), said), question, said)
    explained = render_explanation(setup, decided, took_s)
    if chosen.json:
        say_json(explained)
    else:
        say("\n".join(_explanation(setup, explained)))


def _compared(section: Orchestrator, question: Question) -> tuple[Scores | Unavailable, float]:
    """What the embedded engine says, and how many seconds that took."""
    engine = EmbeddingEngine(settings_of(section))
    engine.scorer.prepare(question.routes)
    started = time.perf_counter()
    said = engine.score(question, lambda: True)
    return said, time.perf_counter() - started


def _conversation(text: str) -> tuple[Turn, ...]:
    """A JSON list of messages, or an object with one, as turns; any other text as the user's."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    messages = value.get("messages") if isinstance(value, dict) else value
    return read_turns(messages) if isinstance(messages, list) else (Turn("user", text),)


def _explanation(setup: Setup, explained: Mapping[str, Json]) -> list[str]:
    """A decision as lines: every score, what was decided, and why."""
    asked, routes = explained["orchestrator"], setup.policy.routes
    scores = asked["scores"] or {}
    rows = [["", "route", "score", "models"]]
    for route in sorted(routes, key=lambda route: -scores.get(route.name, 0.0)):
        mark = "->" if route.name == explained["route"] else ""
        score = f"{scores[route.name]:.3f}" if route.name in scores else "-"
        rows.append([mark, route.name, score, ", ".join(map(str, route.models))])
    limits = asked["thresholds"]
    margin = "" if asked["margin"] is None else f", {asked['margin']:.3f} ahead of the next"
    lines = [f"seen: {turn['content'][:_SHOWN]}" for turn in asked["seen"]]
    lines += ["", *table(rows, right=(2,)), ""]
    lines.append(
        f"decided: {explained['route'] or 'no route'} (reason {explained['reason']}{margin}; "
        f"min_confidence {limits['min_confidence']:g}, min_margin {limits['min_margin']:g}; "
        f"{explained['took_ms']:.1f} ms)"
    )
    lines += [
        f"  {position}. {candidate['model']}: {candidate['why']}"
        for position, candidate in enumerate(explained["candidates"], 1)
    ]
    return lines


def measure(chosen: argparse.Namespace) -> bool:
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
        report = as_json(found)
        if chosen.json:
            say_json(report)
        else:
            say("\n".join(as_text(found)))
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
    section: Orchestrator, chosen: argparse.Namespace, routes: tuple[Route, ...]
) -> Iterator[tuple[Measure, _Draw | None]]:
    """What measures sets, and what draws examples from them, which the embedded one alone can."""
    if section.engine != "embedding":
        with measured(section, _bar, routes, _tls_ca(chosen)) as measure_set:
            yield measure_set, None
        return
    settings = replace(settings_of(section), archetypes=not chosen.no_archetypes)
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


def _section(chosen: argparse.Namespace) -> Orchestrator:
    """That of the configuration, if one is named, with what the command line says instead.

    Of a section for another engine the model and the thresholds are not this one's.
    """
    section = Orchestrator()
    if chosen.config is not None:
        section = compile_setup(chosen.config).config.orchestrator
    kept = section.model_dump()
    if chosen.engine not in {None, section.engine}:
        for name in ("model", "min_confidence", "min_margin"):
            del kept[name]
    names = (*_CHOICES, "model", "threads", "max_query_tokens", "min_confidence", "min_margin")
    said = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    try:
        section = Orchestrator.model_validate({**kept, **said})
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
    return compile_setup(chosen.config).config.overrides.upstream_tls_ca_path


def _problems(error: ValidationError) -> Iterator[Problem]:
    for found in error.errors(include_url=False):
        option = "".join(f"--{name}".replace("_", "-") for name in found["loc"][:1])
        more = "" if option else "; name a gateway.yaml that has it with --config"
        yield Problem(0, option or "--engine", f"{explain(found)[1]}{more}")


def _bar(cases: Sequence[Case]) -> Iterable[Case]:
    """A progress bar on a terminal, nothing elsewhere."""
    bar: Iterable[Case] = tqdm(cases, unit="case", disable=None, leave=False)
    return bar


def _other_report(other: Path, measure_set: Measure) -> Mapping[str, Json]:
    """What to compare with: a report read from a file, or made of another set."""
    report = read_report(other)
    return as_json(measure_set(read_set(other))) if report is None else report
