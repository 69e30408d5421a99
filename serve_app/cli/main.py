"""The command line: ``fingerpost check``, ``migrate``, ``run``, ``route`` and ``eval``."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from serve_app.cli import route, serve_process
from serve_app.cli.check import check
from serve_app.cli.eval import add_eval, measure
from serve_app.cli.migrate import _migrate
from serve_app.cli.output import say
from serve_app.cli.run import _run
from serve_app.config.locations import ConfigError
from serve_app.engines.faults import EngineFaultError
from serve_app.errors import InvalidRequest

_FAILED: Final = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status: 0, 1 when it failed, 2 when it was asked wrongly."""
    chosen = _parser().parse_args(arguments)
    try:
        good = _dispatch(chosen)
    except (ConfigError, InvalidRequest, serve_process.LaunchError, EngineFaultError) as error:
        say(str(error), sys.stderr)
        good = False
    return 0 if good else _FAILED


def _dispatch(chosen: argparse.Namespace) -> bool:
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
            return measure(chosen)
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
    add_eval(commands.add_parser("eval", help="measure the engine on a labelled set"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
