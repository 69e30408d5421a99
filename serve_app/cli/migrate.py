"""``fingerpost migrate``: converts an older configuration to the format of v0.4."""

import argparse
import sys
from pathlib import Path

from serve_app.cli.output import replace_file, say
from serve_app.config.locations import read_text
from serve_app.config.migrate.migrate import migrate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``fingerpost migrate``."""
    parser.add_argument("file", type=Path, help="a gateway.yaml or plano_config.yaml")
    parser.add_argument(
        "--write", action="store_true", help="replace the file instead of printing the result"
    )


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost migrate``."""
    _migrate(arguments.file, write=arguments.write)
    return True


def _migrate(file: Path, *, write: bool) -> None:
    """Prints a configuration in the format of v0.4, or replaces the file with it."""
    text = read_text(file)
    migrated = migrate(text, str(file))
    for line in (*migrated.changes, *(f"warning: {warning}" for warning in migrated.warnings)):
        say(line, sys.stderr)
    if not write:
        say(migrated.text, end="")
    elif migrated.text == text:
        say(f"{file} has the format of v0.4 already", sys.stderr)
    else:
        replace_file(file, migrated.text)
