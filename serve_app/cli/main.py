"""The command ``fingerpost``: finds the command that is meant, and imports its module only.

Each command is a module with ``add_arguments`` and ``execute``; a library that is slow to import
is imported by the commands that need it, and by no other.
"""

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import Final, NamedTuple, Protocol, cast

from serve_app.cli.errors import LaunchError
from serve_app.cli.output import say
from serve_app.cli.version import installed_version
from serve_app.config.locations import ConfigError
from serve_app.engines.faults import EngineFaultError
from serve_app.errors import InvalidRequest

_FAILED: Final = 1


class CommandModule(Protocol):
    """What a module that implements a command has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares the arguments of the command."""

    def execute(self, arguments: argparse.Namespace) -> bool:
        """Runs the command; False where it failed. May raise the errors that ``main`` prints."""
        ...


class Command(NamedTuple):
    """A command: the module that implements it, and what it does."""

    module: str
    help: str


COMMANDS: Final[Mapping[str, Command]] = {
    "check": Command("serve_app.cli.check", "check a gateway.yaml and summarize it"),
    "migrate": Command("serve_app.cli.migrate", "print a Plano configuration in the v0.4 format"),
    "run": Command("serve_app.cli.run", "run the gateway on this machine until Ctrl-C"),
    "route": Command("serve_app.cli.route", "show which route a prompt matches, and why"),
    "eval": Command("serve_app.cli.eval", "measure an engine on a labelled set"),
    "tune": Command("serve_app.cli.tune", "learn from labelled conversations"),
    "report": Command("serve_app.cli.report", "report requests, costs and decisions from the logs"),
    "suggest": Command("serve_app.cli.suggest", "let a model write examples of the routes"),
    "models": Command("serve_app.cli.models", "list and download models for the embedded engine"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit status: 0, or 1 when it failed; 2 is a usage error."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    named = next((word for word in words if not word.startswith("-")), "")
    parser = build_parser({named} & COMMANDS.keys())
    chosen = parser.parse_args(words)
    if chosen.version:
        say(f"{parser.prog} {installed_version()}")
        return 0
    if chosen.command is None:
        say(parser.format_help(), end="")
        return 0
    try:
        succeeded = _module_of(chosen.command).execute(chosen)
    except (ConfigError, InvalidRequest, LaunchError, EngineFaultError) as error:
        say(str(error), sys.stderr)
        succeeded = False
    return 0 if succeeded else _FAILED


def build_parser(detailed: Collection[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The parser of the command line, with the arguments of the commands in ``detailed``.

    The modules of those commands are imported.
    """
    parser = argparse.ArgumentParser(prog="fingerpost", description="An LLM routing gateway.")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.help, description=command.help)
        if name in detailed:
            _module_of(name).add_arguments(subparser)
    return parser


def _module_of(name: str) -> CommandModule:
    return cast("CommandModule", import_module(COMMANDS[name].module))


if __name__ == "__main__":
    sys.exit(main())
