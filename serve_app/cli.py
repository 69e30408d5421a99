"""The command line: ``fingerpost check``, ``run``, ``route`` and ``eval``."""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import TextIO
from urllib.request import Request

from pydantic import ValidationError
from tqdm import tqdm

from serve_app import launch
from serve_app.api.context import exposure_problem
from serve_app.config.load import explain, notices
from serve_app.config.references import MissingEnvironmentError, expand, references
from serve_app.config.schema import Orchestrator
from serve_app.decision import Decided, Setup, compile_setup
from serve_app.dialects.openai_chat import read_turns
from serve_app.domain import AUTO, Json, Question, Scores, Turn
from serve_app.engines.embedding import EmbeddingEngine, EngineFaultError, Settings, settings_of
from serve_app.errors import ConfigError, InvalidRequest, Problem
from serve_app.evaluation import Case, Evaluation, draw_examples, evaluate, read_set
from serve_app.explain import render_explanation
from serve_app.providers.spec import Endpoint
from serve_app.report import as_json, as_svg, as_text, compare, table
from serve_app.routing.router import ByContent, by_scores
from serve_app.routing.view import recent

_FAILED = 1
_SHOWN = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status: 0, 1 when it failed, 2 when it was asked wrongly."""
    chosen = _parser().parse_args(arguments)
    try:
        match chosen.command:
            case "check":
                _print("\n".join(summary(compile_setup(chosen.file))))
            case "run":
                _run(chosen.file, chosen.env, shlex.split(chosen.beside))
            case "route":
                _route(chosen)
            case "eval":
                return _eval(chosen)
    except (ConfigError, InvalidRequest, launch.LaunchError, EngineFaultError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a program's output
        return _FAILED
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fingerpost", description="An LLM routing gateway.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="say what is wrong with a gateway.yaml, or sum it up")
    check.add_argument("file", type=Path)
    run = commands.add_parser("run", help="start the gateway on this machine, until Ctrl-C")
    run.add_argument("file", type=Path, nargs="?", default=Path("configs/serve.yaml"))
    run.add_argument("--env", type=Path, default=Path("configs/serve.env"), help="Serve's settings")
    run.add_argument("--beside", default="", help="a command to run as long as the gateway runs")
    route = commands.add_parser("route", help="show which route a text matches, and why")
    route.add_argument(
        "text", help="what a user says; - reads it, or a JSON list of messages, from standard input"
    )
    route.add_argument("--config", type=Path, default=Path("configs/gateway.yaml"))
    route.add_argument("--json", action="store_true", help="what POST /v1/route answers")
    _add_eval(commands.add_parser("eval", help="measure the engine on a labelled set"))
    return parser


def _add_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="JSON lines: routes first, then cases")
    parser.add_argument("--config", type=Path, help="take the settings of a gateway.yaml")
    parser.add_argument("--model", help="an ONNX file with other weights")
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


def _route(chosen: argparse.Namespace) -> None:
    setup = compile_setup(chosen.config)
    policy = setup.policy
    if not policy.routes:
        problem = Problem(0, "routing_preferences", "there are no routes; add one with models")
        raise ConfigError(str(chosen.config), (problem,))
    engine = EmbeddingEngine(settings_of(setup.config.orchestrator))
    engine.scorer.prepare(policy.routes)
    text = chosen.text
    if text == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    turns = recent(_conversation(text))
    question = Question(turns, policy.routes, policy.version)
    started = time.perf_counter()
    said = engine.score(question, lambda: True) if turns else Scores({}, 0.0, None)
    took_s = time.perf_counter() - started
    decided = Decided(by_scores(policy, ByContent(policy.routes), said), question, said)
    explained = render_explanation(setup, decided, took_s)
    if chosen.json:
        _print(json.dumps(explained, ensure_ascii=False, indent=2))
    else:
        _print("\n".join(_explanation(setup, explained)))


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


def _eval(chosen: argparse.Namespace) -> int:
    if chosen.plot is not None and chosen.plot.suffix != ".svg":
        raise ConfigError(
            str(chosen.plot), (Problem(0, "--plot", "name a file that ends in .svg"),)
        )
    settings = _settings(chosen)
    labelled = read_set(chosen.file)
    if chosen.no_examples:
        bare = tuple(replace(route, examples=()) for route in labelled.routes)
        labelled = replace(labelled, routes=bare)
    engine = EmbeddingEngine(settings)
    found = evaluate(labelled, settings, _bar, engine)
    drawn = [
        draw_examples(labelled, engine, settings, count, chosen.draws) for count in chosen.draw
    ]
    found = replace(found, draws=tuple(drawn))
    report = as_json(found)
    if chosen.json:
        _print(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        _print("\n".join(as_text(found)))
    if chosen.compare is not None:
        lines = compare(report, _other_report(chosen.compare, settings, engine))
        _print("\n".join(["", *lines]), sys.stderr if chosen.json else sys.stdout)
    if chosen.plot is not None:
        _plot(found, chosen.plot)
    if chosen.fail_under is not None and found.accuracy < chosen.fail_under:
        print(f"accuracy {found.accuracy:.3f} is under {chosen.fail_under:g}", file=sys.stderr)  # noqa: T201
        return _FAILED
    return 0


def _plot(found: Evaluation, file: Path) -> None:
    try:
        file.write_bytes(as_svg(found))
    except OSError as error:
        problem = Problem(0, "--plot", f"can't be written: {error.strerror}")
        raise ConfigError(str(file), (problem,)) from error


def _settings(chosen: argparse.Namespace) -> Settings:
    """Those of the configuration, if one is named, with what the command line says instead."""
    section = Orchestrator()
    if chosen.config is not None:
        section = compile_setup(chosen.config).config.orchestrator
    names = ("model", "threads", "max_query_tokens", "min_confidence", "min_margin")
    said = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    try:
        section = Orchestrator.model_validate({**section.model_dump(), **said})
    except ValidationError as error:
        problems = [
            Problem(0, f"--{str(found['loc'][0]).replace('_', '-')}", explain(found)[1])
            for found in error.errors(include_url=False)
        ]
        raise ConfigError("the command line", tuple(problems)) from error
    return replace(settings_of(section), archetypes=not chosen.no_archetypes)


def _bar(cases: Sequence[Case]) -> Iterable[Case]:
    """A progress bar on a terminal, nothing elsewhere."""
    bar: Iterable[Case] = tqdm(cases, unit="case", disable=None, leave=False)
    return bar


def _other_report(other: Path, settings: Settings, engine: EmbeddingEngine) -> Mapping[str, Json]:
    """What to compare with: a report read from a file, or made of another set."""
    try:
        report: dict[str, Json] = dict(json.loads(other.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        report = {}
    if "confusion" in report:
        return report
    return as_json(evaluate(read_set(other), settings, _bar, engine))


def _run(file: Path, env: Path, neighbour: Sequence[str]) -> None:
    serve_file = launch.read_serve_file(file)
    setup = compile_setup(serve_file.config)
    problem = exposure_problem(serve_file.host, setup.config)
    if problem is not None:
        raise launch.LaunchError(f"{file}: {problem}")
    try:
        settings = launch.read_env_file(env)
    except OSError as error:
        raise launch.LaunchError(f"{env} can't be read: {error.strerror}") from error

    def on_healthy(seconds: float) -> None:
        _print(f"Fingerpost is up after {seconds:.0f} s at {serve_file.url}")
        _print("\n".join(summary(setup)))
        if setup.policy.routes:
            _print(f"\nA decision of the gateway:\n\n{_decision(setup, serve_file.url)}")
        _print(f"\nTry it:\n\n{example(setup, serve_file.url)}\n\nCtrl-C stops it.")

    _print(f"starting {file} ({serve_file.config}); this takes about half a minute ...")
    launch.run(serve_file, settings, neighbour, on_healthy)


_ASKED = "Write a Python function that reverses a linked list"


def _decision(setup: Setup, url: str) -> str:
    """What the running gateway decides for a prompt, with all of its scores."""
    body = json.dumps({"messages": [{"role": "user", "content": _ASKED}]}).encode()
    headers = {"content-type": "application/json"}
    if setup.config.client_keys is not None:
        with suppress(MissingEnvironmentError):
            headers["authorization"] = f"Bearer {expand(setup.config.client_keys[0], os.environ)}"
    request = Request(f"{url}/v1/route", body, headers)  # noqa: S310 - our own address
    try:
        with launch.open_directly(request, timeout=10) as answer:
            explained = json.loads(answer.read())
    except (OSError, ValueError, HTTPException) as error:
        return f"  it could not be asked: {error}"
    scores = (explained["orchestrator"] or {}).get("scores") or {}
    shown = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
    why = [explained["reason"], *([shown] if shown else []), f"{explained['took_ms']:.0f} ms"]
    return (
        f'  "{_ASKED}"\n  -> {explained["route"] or "no route"}, {explained["model"]} '
        f"({'; '.join(why)})"
    )


def summary(setup: Setup) -> list[str]:
    """What a configuration serves, line by line; keys by the names of their variables only."""
    policy, providers = setup.policy, setup.providers
    lines = [f"policy {policy.version}"]
    for slug, data_path in providers.data_paths().items():
        lines.append(f"provider {slug} ({data_path})")
    for name, model in policy.models.items():
        default = ", default" if model == policy.default else ""
        lines.append(f"model {name}{default}{_key_state(providers.models[model])}")
    for prefix, endpoint in providers.wildcards.items():
        lines.append(f"models {prefix}/*{_key_state(endpoint)}")
    lines += [f"note: {notice}" for notice in notices(setup.config)]
    lines += [f"alias {alias} -> {model or AUTO}" for alias, model in policy.aliases.items()]
    lines += [
        f"route {route.name} -> {', '.join(map(str, route.models))}" for route in policy.routes
    ]
    return lines


def _key_state(endpoint: Endpoint) -> str:
    missing = endpoint.missing(os.environ)
    return f"  [{' and '.join(missing)} is not set]" if missing else ""


def example(setup: Setup, url: str) -> str:
    """A curl line that works with this configuration here and now."""
    policy, providers = setup.policy, setup.providers
    models = [policy.default] if policy.default else []
    models += [model for model in policy.models.values() if model != policy.default]
    key = ""
    if setup.config.client_keys is not None:
        names = references(setup.config.client_keys[0])
        key = f" -H 'Authorization: Bearer {'$' + names[0] if names else '...'}'".replace("'", '"')
    for model in models:
        endpoint = providers.endpoint(model)
        if endpoint is not None and not endpoint.missing(os.environ):
            body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
            return f"  curl{key} {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"
    return (
        f"  curl{key} {url}/v1/models\n\n"
        "No model has its key: set the variables named above and start again, or try `make demo`."
    )


def _print(text: str, file: TextIO | None = None) -> None:
    """What the output's encoding has no sign for, such as half a surrogate pair, is escaped."""
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


if __name__ == "__main__":
    sys.exit(main())
