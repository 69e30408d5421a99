"""Whether Serve can run what a serve.yaml says; ``fingerpost check --serve``.

Serve gives the whole application up for one option that does not fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serve_app.access.exposure import exposure_problem
from serve_app.cli.serve_yaml.pitfalls import address_problems, hints
from serve_app.cli.serve_yaml.schema import (
    Found,
    applications,
    entries,
    known_place,
    schema_problems,
)
from serve_app.cli.summary import deployment_names
from serve_app.config.load import read_yaml
from serve_app.config.locations import ConfigError, Location, Problem, path_text
from serve_app.config.pydantic_errors import did_you_mean
from serve_app.domain import Json
from serve_app.packaged_files import find_packaged
from serve_app.snapshot import Snapshot, compile_snapshot

IMPORT_PATH: Final = "serve_app.app:build"

_OURS: Final = frozenset({IMPORT_PATH, "serve_app.app.build"})
_ANYWHERE: Final = "0.0.0.0"  # noqa: S104 - where Serve listens when nothing is said


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of files before anything is started."""

    errors: tuple[ConfigError, ...]
    """Of each file that is bad."""
    warnings: tuple[str, ...]
    config: Path | None
    """The configuration, of our first application where there are several."""
    snapshot: Snapshot | None
    """What it comes to, where it can be used."""


def check_serve(file: Path, config: Path | None = None, *, by_serve: bool = True) -> Checked:
    """Checks a serve.yaml and what it names. Raises ConfigError where it can't be read.

    ``config`` is checked in place of the first application's, which may be a path elsewhere.
    ``by_serve``: also by Serve's own schema, for which Ray is imported; that takes seconds.
    """
    content, lines = read_yaml(str(file), "applications:")
    check = _Check(content)
    if by_serve:
        check.problems += schema_problems(content, lines)
    check.problems += address_problems(content)
    ours = [found for found in applications(content) if not _is_foreign(found[1], content)]
    if content.get("applications") == []:
        text = f"needs one with `import_path: {IMPORT_PATH}` and `args: {{config: PATH}}`"
        check.problems.append((("applications",), text))
    setups = [
        check.application(*found, None if index else config) for index, found in enumerate(ours)
    ]
    errors, first = check.errors, dict(reversed(check.problems))  # one for each place
    if first:
        told = [_problem(lines, place, text) for place, text in first.items()]
        told.sort(key=lambda problem: (problem.line, problem.path))
        errors = [ConfigError(str(file), tuple(told)), *errors]
    notes = tuple(f"{file}: {_problem(lines, place, hint)}" for place, hint in check.hints)
    own, snapshot = setups[0] if setups else (config, None)
    return Checked(tuple(errors), notes, own, snapshot)


class _Check:
    """Collects what is found out about the applications of a file."""

    def __init__(self, content: Mapping[str, Json]) -> None:
        self._content = content
        self.problems: list[tuple[Location, str]] = []
        self.hints: list[tuple[Location, str]] = []
        self.errors: list[ConfigError] = []

    def application(
        self, place: Location, application: Mapping[str, Json], config: Path | None
    ) -> tuple[Path | None, Snapshot | None]:
        """The configuration of an application, and what it comes to where it can be used."""
        named = _named(application)
        self.problems += _import_path(place, application)
        self.problems += _route_prefix(place, application)
        self.problems += _args(place, application, None if config else named)
        self.hints += _without_effect(place, application)
        if config is not None:
            self.hints += _another(place, named, config)
        own = config or named
        if not _names_none(application) and (own is None or not (config or own.is_file())):
            return own, None
        try:
            snapshot = compile_snapshot(own)
        except ConfigError as error:
            self.errors.append(error)
            return own, None
        self.problems += _overrides(place, application, snapshot)
        self.problems += _exposure(self._content, snapshot)
        self.hints += hints(self._content, place, application, snapshot)
        return own, snapshot


def _problem(lines: Mapping[Location, int], place: Location, message: str) -> Problem:
    return Problem(lines[known_place(lines, place)], path_text(place), message)


def _is_foreign(application: Mapping[str, Json], content: Mapping[str, Json]) -> bool:
    """True for an application of somebody else beside one of ours."""
    name = application.get("import_path")
    named = [other.get("import_path") for _, other in applications(content)]
    ours = any(isinstance(one, str) and one in _OURS for one in named)
    return ours and isinstance(name, str) and "serve_app" not in name


def _import_path(place: Location, application: Mapping[str, Json]) -> Found:
    name = application.get("import_path")
    if isinstance(name, str) and name not in _OURS:  # else Serve's schema says so
        yield (*place, "import_path"), f"must be {IMPORT_PATH}, not {name!r}"


def _route_prefix(place: Location, application: Mapping[str, Json]) -> Found:
    """Serve looks at it only when it deploys."""
    prefix = application.get("route_prefix")
    if not isinstance(prefix, str) or prefix == "/":
        return
    if not prefix.startswith("/") or prefix.endswith("/") or not {"{", "}"}.isdisjoint(prefix):
        message = "must begin with a slash, end without one, and hold no braces"
        yield (*place, "route_prefix"), message


def _named(application: Mapping[str, Json]) -> Path | None:
    """The configuration that an application names, as the builder finds it."""
    args = application.get("args")
    name = args.get("config") if isinstance(args, dict) else None
    if not isinstance(name, str) or not name:
        return None
    try:
        named = Path(name).expanduser()
    except RuntimeError:  # ~somebody, whom this machine does not know
        named = Path(name)
    return find_packaged(named).absolute()


def _names_none(application: Mapping[str, Json]) -> bool:
    """True for an application without a file, for the keys in the environment."""
    args = application.get("args", {})
    return isinstance(args, dict) and "config" not in args


def _args(place: Location, application: Mapping[str, Json], named: Path | None) -> Found:
    args = application.get("args", {})
    if not isinstance(args, dict):
        return  # Serve's schema says so
    if "config" in args and (not isinstance(args["config"], str) or not args["config"]):
        yield (*place, "args", "config"), "must be the path of a gateway.yaml, or be left out"
    elif named is not None and not named.is_file():
        where = "" if Path(args["config"]).is_absolute() else ", nor one of the program's own"
        yield (*place, "args", "config"), f"there is no file {named}{where}"
    for key in args:
        if key != "config":
            near = did_you_mean(key, ["config"])
            yield (*place, "args", key), f"unknown key{near or '; only `config` is one'}"


def _another(place: Location, named: Path | None, config: Path) -> Found:
    if named is not None and named.is_file() and config.is_file() and not named.samefile(config):
        yield (*place, "args", "config"), f"names {named}; {config} was checked in its place"


def _exposure(content: Mapping[str, Json], snapshot: Snapshot) -> Found:
    http = content.get("http_options", {})
    host = http.get("host", _ANYWHERE) if isinstance(http, dict) else None
    problem = exposure_problem(host, snapshot.config) if isinstance(host, str) else None
    if problem is not None:
        yield ("http_options", "host"), problem


def _overrides(place: Location, application: Mapping[str, Json], snapshot: Snapshot) -> Found:
    """Entries of ``deployments`` for which Serve would give the application up."""
    names, seen = deployment_names(snapshot), set[str]()
    for here, options in entries(application, "deployments", place):
        name = options.get("name")
        if not isinstance(name, str):
            continue  # Serve's schema says so
        if name in seen:
            yield (*here, "name"), f"{name!r} stands there twice; only the last one would count"
        elif name not in names:
            yield (*here, "name"), _no_such(name, names, snapshot)
        seen.add(name)
        if options.get("user_config") is not None:
            yield (*here, "user_config"), "no deployment takes one; settings go to gateway.yaml"
        if name == "Affinity":
            yield from _one_replica(here, options)


def _no_such(name: str, names: list[str], snapshot: Snapshot) -> str:
    slug = name.removeprefix("provider-")
    data_path = snapshot.providers.data_paths().get(slug) if slug != name else None
    if data_path is not None:
        why = f": provider {slug} is {data_path}"
    elif name == "Affinity":
        why = ": bindings are kept in Redis"
    else:
        why = did_you_mean(name, names)
    return f"the application has {', '.join(names)}, and no {name!r}{why}"


def _one_replica(here: Location, options: Mapping[str, Json]) -> Found:
    why = "Affinity has one replica, because bindings are in its memory; Redis scales"
    if options.get("num_replicas", 1) != 1:
        yield (*here, "num_replicas"), f"must be 1: {why}"
    if options.get("autoscaling_config") is not None:
        yield (*here, "autoscaling_config"), f"must be left out: {why}"


def _without_effect(place: Location, application: Mapping[str, Json]) -> Found:
    for here, options in entries(application, "deployments", place):
        fixed = isinstance(options.get("num_replicas"), int) and options.get("name") != "Affinity"
        if fixed and "autoscaling_config" not in options:
            message = "has no effect beside the usual autoscaling; add `autoscaling_config: null`"
            yield (*here, "num_replicas"), message
