"""``fingerpost check``: what is wrong with a configuration, or what it comes to."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from serve_app.cli.output import say, say_json
from serve_app.cli.serve_yaml.check import Checked, check_serve
from serve_app.cli.summary import (
    NO_SUMMARY,
    deployment_names,
    keys_of,
    summary,
    summary_json,
    warnings_of,
)
from serve_app.config.locations import ConfigError
from serve_app.domain import Json
from serve_app.packaged_files import find_packaged
from serve_app.snapshot import Snapshot, compile_snapshot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``fingerpost check``."""
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("file", type=Path, nargs="?", help="may be left out with --serve")
    parser.add_argument("--serve", type=Path, metavar="FILE", help="a serve.yaml, too")
    parser.add_argument(
        "--strict", action="store_true", help="treat unset keys and warnings as failures"
    )
    parser.add_argument("--json", action="store_true", help="print what is found as JSON")


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost check``; False where a file is bad."""
    if arguments.file is None and arguments.serve is None:
        arguments.usage_error("name a gateway.yaml, or a serve.yaml with --serve")
    return check(arguments.file, arguments.serve, strict=arguments.strict, json=arguments.json)


def check(file: Path | None, serve: Path | None, *, strict: bool, json: bool) -> bool:
    """Prints what there is to say; False where that is bad.

    Files are found as ``fingerpost run`` finds them: one that is not here may be the program's own.
    ``strict``: keys that are not set, and warnings, are bad, too.
    """
    file, serve = (None if path is None else find_packaged(path) for path in (file, serve))
    checked = _checked(file, serve)
    unset = [] if checked.snapshot is None else _unset(checked.snapshot)
    warned = [] if checked.snapshot is None else warnings_of(checked.snapshot)
    warned += checked.warnings
    good = not checked.errors and not (strict and (unset or warned))
    if json:
        say_json({"ok": good, **_report(checked, serve, warned)})
    elif checked.errors or checked.snapshot is None:
        say("\n".join(map(str, checked.errors)), sys.stderr)
    else:
        lines = summary(checked.snapshot)
        if serve is not None:
            lines += [f"warning: {warning}" for warning in checked.warnings]
            lines.append(f"deployments {', '.join(deployment_names(checked.snapshot))}")
        say("\n".join(lines))
        if not good:
            told = [f"{name} is not set" for name in unset]
            told += [f"{len(warned)} warning{'' if len(warned) == 1 else 's'}"] if warned else []
            say(f"--strict: {', '.join(told)}", sys.stderr)
    return good


def _checked(file: Path | None, serve: Path | None) -> Checked:
    errors = []
    if serve is not None:
        try:
            return check_serve(serve, file)
        except ConfigError as error:
            errors.append(error)
    if file is not None:
        try:
            return Checked(tuple(errors), (), file, compile_snapshot(file))
        except ConfigError as error:
            errors.append(error)
    return Checked(tuple(errors), (), file, None)


def _unset(snapshot: Snapshot) -> list[str]:
    keys = [item for keys in keys_of(snapshot).values() for item in keys.items()]
    return list(dict.fromkeys(name for name, is_set in keys if not is_set))


def _report(checked: Checked, serve: Path | None, warned: list[str]) -> Mapping[str, Json]:
    found = NO_SUMMARY if checked.snapshot is None else summary_json(checked.snapshot)
    return {
        "file": None if checked.config is None else str(checked.config),
        "serve": None if serve is None else str(serve),
        "problems": [
            {
                "file": error.file,
                "line": problem.line or None,
                "place": problem.path,
                "message": problem.message,
            }
            for error in checked.errors
            for problem in error.problems
        ],
        **found,
        "warnings": warned,
    }
