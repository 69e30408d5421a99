"""The command line: ``fingerpost check``, ``migrate``, ``run``, ``route`` and ``eval``."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.request import Request

from serve_app.api.headers import exposure_problem
from serve_app.cli import route, serve_process
from serve_app.cli.check import check
from serve_app.cli.output import replace_file, say
from serve_app.cli.serve_yaml.check import check_serve
from serve_app.cli.summary import example, summary
from serve_app.config.references import MissingEnvironmentError, expand
from serve_app.config.without_file import NO_FILE
from serve_app.engines.embedding.engine import EngineFaultError
from serve_app.errors import ConfigError, InvalidRequest, Problem
from serve_app.requests.decide import Setup, compile_setup

_FAILED: Final = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status: 0, 1 when it failed, 2 when it was asked wrongly."""
    chosen = _parser().parse_args(arguments)
    try:
        good = _obey(chosen)
    except (ConfigError, InvalidRequest, serve_process.LaunchError, EngineFaultError) as error:
        say(str(error), sys.stderr)
        good = False
    return 0 if good else _FAILED


def _obey(chosen: argparse.Namespace) -> bool:
    match chosen.command:
        case "check":
            if chosen.file is None and chosen.serve is None:
                chosen.refuse("name a gateway.yaml, or a serve.yaml with --serve")
            return check(chosen.file, chosen.serve, strict=chosen.strict, json=chosen.json)
        case "migrate":
            _migrate(chosen.file, write=chosen.write)
        case "run":
            _run(chosen.file, chosen.env, shlex.split(chosen.beside))
        case "route":
            route.show_route(chosen)
        case "eval":
            return route.measure(chosen)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fingerpost", description="An LLM routing gateway.")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser(
        "check", help="say what is wrong with a gateway.yaml, or sum it up"
    )
    checking.set_defaults(refuse=checking.error)
    checking.add_argument("file", type=Path, nargs="?", help="may be left out with --serve")
    checking.add_argument("--serve", type=Path, metavar="FILE", help="a serve.yaml, too")
    checking.add_argument(
        "--strict", action="store_true", help="keys that are not set and notes are failures"
    )
    checking.add_argument("--json", action="store_true", help="print what is found as JSON")
    migrate = commands.add_parser("migrate", help="print a configuration of Plano's as one of v0.4")
    migrate.add_argument("file", type=Path)
    migrate.add_argument("--write", action="store_true", help="replace the file")
    run = commands.add_parser("run", help="start the gateway on this machine, until Ctrl-C")
    run.add_argument("file", type=Path, nargs="?", default=Path("configs/serve.yaml"))
    run.add_argument("--env", type=Path, default=Path("configs/serve.env"), help="Serve's settings")
    run.add_argument("--beside", default="", help="a command to run as long as the gateway runs")
    route.add_route(commands.add_parser("route", help="show which route a text matches, and why"))
    route.add_eval(commands.add_parser("eval", help="measure the engine on a labelled set"))
    return parser


def _migrate(file: Path, *, write: bool) -> None:
    """Prints a configuration in the form of v0.4, or puts it in the file's place."""
    from serve_app.config.migrate.migrate import migrate  # noqa: PLC0415 - its library is for this command alone

    try:
        text = file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ConfigError(str(file), (Problem(0, "", f"can't be read: {reason}"),)) from error
    migrated = migrate(text, str(file))
    for note in migrated.notes:
        say(f"note: {note}", sys.stderr)
    if not write:
        say(migrated.text, end="")
    elif migrated.text == text:
        say(f"{file} is in the form of v0.4 already", sys.stderr)
    else:
        replace_file(file, migrated.text)


def _run(file: Path, env: Path, neighbour: Sequence[str]) -> None:
    serve_file = serve_process.read_serve_file(file)
    setup = compile_setup(serve_file.config)
    problem = exposure_problem(serve_file.host, setup.config)
    if problem is not None:
        raise serve_process.LaunchError(f"{file}: {problem}")
    try:
        settings = serve_process.read_env_file(env)
    except OSError as error:
        raise serve_process.LaunchError(f"{env} can't be read: {error.strerror}") from error
    faults = _faults_of(serve_file, by_serve=False)
    if faults:  # of some Serve says nothing, and waits for what never comes
        raise serve_process.LaunchError(faults)

    def on_healthy(seconds: float) -> None:
        say(f"Fingerpost is up after {seconds:.0f} s at {serve_file.url}")
        say("\n".join(summary(setup)))
        if setup.policy.routes:
            say(f"\nA decision of the gateway:\n\n{_decision(setup, serve_file.url)}")
        say(f"\nTry it:\n\n{example(setup, serve_file.url)}\n\nCtrl-C stops it.")

    config = serve_file.config or NO_FILE
    say(f"starting {file} ({config}); this takes about half a minute ...")
    try:
        serve_process.run(serve_file, settings, neighbour, on_healthy)
    except serve_process.LaunchError as error:
        faults = _faults_of(serve_file, by_serve=True)
        raise serve_process.LaunchError("\n\n".join(filter(None, (str(error), faults)))) from error


def _faults_of(serve_file: serve_process.ServeFile, *, by_serve: bool) -> str:
    """What ``check --serve`` finds; Serve's own part takes seconds, so only a failed start has it."""
    errors = check_serve(serve_file.path, by_serve=by_serve).errors
    return "\n\n".join(map(str, errors))


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
        with serve_process.open_directly(request, timeout=10) as answer:
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


if __name__ == "__main__":
    sys.exit(main())
