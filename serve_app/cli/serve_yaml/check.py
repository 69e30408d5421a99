"""Checks whether Ray Serve can run a serve.yaml: ``fingerpost check --serve``.

Serve refuses a whole application for one option that is invalid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from serve_app.access.exposure import exposure_problem
from serve_app.cli.serve_yaml.application import (
    IMPORT_PATH,
    application_problems,
    deployment_problems,
    is_foreign,
    is_without_config,
    named_config,
)
from serve_app.cli.serve_yaml.pitfalls import address_problems, config_pitfalls, replica_pitfalls
from serve_app.cli.serve_yaml.read import ANY_HOST, ServeDocument, read_document
from serve_app.cli.serve_yaml.tree import Finding, Findings, applications
from serve_app.config.locations import ConfigError, Location
from serve_app.domain import Json
from serve_app.snapshot import Snapshot, compile_snapshot


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of the files before anything is started."""

    errors: tuple[ConfigError, ...]
    """One for each file with problems."""
    warnings: tuple[str, ...]
    config: Path | None
    """The configuration, of the first application of this project where there are several."""
    snapshot: Snapshot | None
    """That configuration, compiled; None where it has problems."""


def check_serve(file: Path, config: Path | None = None, *, by_serve: bool = True) -> Checked:
    """Checks a serve.yaml and its configuration. Raises ConfigError where it cannot be read.

    ``config`` is checked instead of the file that the first application names, which may be a
    path on another machine. ``by_serve``: also against Serve's schema; importing Ray for it takes
    seconds.
    """
    return check_document(read_document(file), config, by_serve=by_serve)


def check_document(
    document: ServeDocument, config: Path | None = None, *, by_serve: bool = True
) -> Checked:
    """The same of a serve.yaml that was read already."""
    content = document.content
    check = _Check(content)
    if by_serve:
        check.problems += _schema_problems(document)
    check.problems += address_problems(content)
    if content.get("applications") == []:
        message = f"empty; add one with `import_path: {IMPORT_PATH}` and `args: {{config: PATH}}`"
        check.problems.append((("applications",), message))
    own = [entry for entry in applications(content) if not is_foreign(entry[1], content)]
    compiled = [
        check.application(*entry, None if index else config) for index, entry in enumerate(own)
    ]
    errors = check.errors
    if check.problems:
        first_by_location = dict(reversed(check.problems))
        problems = [document.problem(*finding) for finding in first_by_location.items()]
        problems.sort(key=lambda problem: (problem.line, problem.path))
        errors = [ConfigError(str(document.path), tuple(problems)), *errors]
    warnings = tuple(f"{document.path}: {document.problem(*entry)}" for entry in check.warnings)
    checked_config, snapshot = compiled[0] if compiled else (config, None)
    return Checked(tuple(errors), warnings, checked_config, snapshot)


def _schema_problems(document: ServeDocument) -> Findings:
    """Those that Serve's own schema reports; its module is imported now, as it imports Ray."""
    module = import_module("serve_app.cli.serve_yaml.schema")
    findings: Findings = module.schema_problems(document.content, document.lines)
    return findings


class _Check:
    """Collects the problems and warnings of the applications of a file."""

    def __init__(self, content: Mapping[str, Json]) -> None:
        self._content = content
        self.problems: list[Finding] = []
        self.warnings: list[Finding] = []
        self.errors: list[ConfigError] = []

    def application(
        self, location: Location, application: Mapping[str, Json], config: Path | None
    ) -> tuple[Path | None, Snapshot | None]:
        """The configuration of an application, and its snapshot; None where it has problems."""
        named = named_config(application)
        self.problems += application_problems(location, application, None if config else named)
        self.warnings += replica_pitfalls(location, application)
        if config is not None:
            self.warnings += _unchecked(location, named, config)
        used = config or named
        if used is None and not is_without_config(application):
            return None, None
        if used is not None and config is None and not used.is_file():
            return used, None
        try:
            snapshot = compile_snapshot(used)
        except ConfigError as error:
            self.errors.append(error)
            return used, None
        self.problems += deployment_problems(location, application, snapshot)
        self.problems += _exposure(self._content, snapshot)
        self.warnings += config_pitfalls(self._content, location, application, snapshot)
        return used, snapshot


def _unchecked(location: Location, named: Path | None, config: Path) -> Findings:
    if named is not None and named.is_file() and config.is_file() and not named.samefile(config):
        message = f"{named} is not checked, {config} is; leave one of them out"
        yield (*location, "args", "config"), message


def _exposure(content: Mapping[str, Json], snapshot: Snapshot) -> Findings:
    http = content.get("http_options", {})
    host = http.get("host", ANY_HOST) if isinstance(http, dict) else None
    problem = exposure_problem(host, snapshot.config) if isinstance(host, str) else None
    if problem is not None:
        yield ("http_options", "host"), problem
