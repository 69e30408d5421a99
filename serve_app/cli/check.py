"""``fingerpost check``: reports the problems of a configuration, or summarizes it."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from serve_app.cli.output import say, say_json
from serve_app.cli.serve_yaml.check import Checked, check_serve
from serve_app.cli.summary import (
    NO_SUMMARY,
    keys_of,
    snapshot_warnings,
    summary,
    summary_json,
)
from serve_app.config.locations import ConfigError
from serve_app.domain import Json
from serve_app.evaluation.suggested import names_of
from serve_app.graph import deployment_names
from serve_app.packaged_files import find_packaged
from serve_app.snapshot import Snapshot, compile_snapshot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``fingerpost check``."""
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        help="a gateway.yaml; with --serve, default: the one that the serve.yaml names",
    )
    parser.add_argument("--serve", type=Path, metavar="FILE", help="check this serve.yaml, too")
    parser.add_argument(
        "--strict", action="store_true", help="treat unset keys and warnings as failures"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost check``; False if a file is bad."""
    if arguments.file is None and arguments.serve is None:
        arguments.usage_error("name a gateway.yaml, or a serve.yaml with --serve")
    return check(arguments.file, arguments.serve, strict=arguments.strict, json=arguments.json)


def check(file: Path | None, serve: Path | None, *, strict: bool, json: bool) -> bool:
    """Prints the problems, or else a summary; False if a file is bad.

    Files are resolved as by ``fingerpost run``: a missing relative path may name a packaged file.
    ``strict``: unset keys and warnings make a file bad, too.
    """
    file, serve = (None if path is None else find_packaged(path) for path in (file, serve))
    checked = _checked(file, serve)
    unset = [] if checked.snapshot is None else _unset(checked.snapshot)
    warnings = [] if checked.snapshot is None else snapshot_warnings(checked.snapshot)
    warnings += checked.warnings
    good = not checked.errors and not (strict and (unset or warnings))
    if json:
        say_json({"ok": good, **_report(checked, serve, warnings)})
    elif checked.errors or checked.snapshot is None:
        say("\n".join(map(str, checked.errors)), sys.stderr)
    else:
        lines = summary(checked.snapshot)
        if serve is not None:
            lines += [f"warning: {warning}" for warning in checked.warnings]
            lines.append(f"deployments {', '.join(deployment_names(checked.snapshot))}")
        lines += _notes(checked.snapshot, checked.config)
        say("\n".join(lines))
        if not good:
            reasons = [f"{name} is not set" for name in unset]
            if warnings:
                reasons.append(f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}")
            say(f"--strict: {', '.join(reasons)}", sys.stderr)
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


def _notes(snapshot: Snapshot, config: Path | None) -> list[str]:
    """What would improve a good file; unlike a warning, it is not a failure with ``strict``."""
    bare = [route.name for route in snapshot.policy.routes if not route.examples]
    if not bare or snapshot.config.orchestrator.generates:
        return []
    routes = f"route{'' if len(bare) == 1 else 's'} {names_of(bare)}"
    command = f"fingerpost suggest {config}"
    return [f"note: no examples for {routes}; let a model write some with `{command}`"]


def _report(checked: Checked, serve: Path | None, warnings: list[str]) -> Mapping[str, Json]:
    summarized = NO_SUMMARY if checked.snapshot is None else summary_json(checked.snapshot)
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
        **summarized,
        "warnings": warnings,
    }
