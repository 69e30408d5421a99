"""Reads a configuration file: YAML with lines, older formats, the schema, and cross-checks.

All problems of a file are collected before any is raised, each with its line and a fix.
Keys stay references (``$NAME``) in the result; only the replica that uses one expands it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from serve_app.config.locations import ConfigError, Location, Problem, problem_at, unreadable
from serve_app.config.plano_router import orchestrator_of
from serve_app.config.pydantic_errors import describe_error
from serve_app.config.references import absolute
from serve_app.config.schema.durations import seconds_of
from serve_app.config.schema.gateway import NEWEST, GatewayConfig, Overrides
from serve_app.config.schema.logs import Logs
from serve_app.config.schema.orchestrator import EngineSection
from serve_app.config.upgrade import Upgraded, models_in, upgrade
from serve_app.config.without_file import NO_FILE, synthesise
from serve_app.config.yaml_tree import Tree, parse
from serve_app.domain import Json

_MAX_BYTES = 4 << 20
_Engine = TypeVar("_Engine", bound=EngineSection)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A file that fits the schema, with the map from its values to its lines."""

    file: str
    version: str
    """Changes with the bytes of the file: 12 hex digits of their SHA-256."""
    config: GatewayConfig
    lines: Mapping[Location, int]
    form: Upgraded
    problems: tuple[Problem, ...]
    """The problems so far; ``config`` does not contain their entries."""
    left_out: frozenset[str]
    """Model names in those entries, so that references to them are not reported as unknown.

    ``*`` for an entry whose name is unknown.
    """
    kept: Mapping[str, Sequence[int]]
    """For a list without some of its entries: the index of each remaining one in ``form``."""

    def leaves_out(self, name: str) -> bool:
        """True if a name may mean an entry that was left out."""
        provider, slash, _ = name.partition("/")
        named = any(entry.endswith(f"/{name}") for entry in self.left_out)
        wild = {"*", f"{provider}/*"} if slash else {"*"}
        return name in self.left_out or named or not wild.isdisjoint(self.left_out)

    def written(self, location: Location) -> Location:
        """The location in the file of a location in ``config``."""
        if len(location) > 1 and isinstance(location[1], int) and location[0] in self.kept:
            location = (location[0], self.kept[str(location[0])][location[1]], *location[2:])
        return self.form.written(location)

    def problem(self, location: Location, message: str) -> Problem:
        """A problem at a location in ``config``, with its line and path in the file."""
        return problem_at(self.lines, self.written(location), message)


def load(file: str | Path | None, environ: Mapping[str, str] | None = None) -> LoadedConfig:
    """The configuration in ``file``; for None, one that serves the providers with a key in ``environ``.

    Raises ConfigError if the file cannot be used at all. Problems of single entries are returned
    in ``problems``, so that the caller can add its own and report all of them together.
    """
    if file is None:
        values = synthesise(os.environ if environ is None else environ)
        version = _digest(json.dumps(values).encode())
        return _checked(NO_FILE, version, Tree(values, {}, {}, ()))
    content = _read(str(file))
    loaded = _checked(str(file), _digest(content), parse(str(file), content))
    return replace(loaded, config=_settled(loaded.config, Path(file)))


def raise_problems(loaded: LoadedConfig, more: Iterable[Problem]) -> None:
    """Raises ConfigError with the problems of ``loaded`` and these, if any, in the order of lines."""
    problems = (*loaded.problems, *more)
    if problems:
        raise ConfigError(loaded.file, _in_order(problems))


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _read(file: str) -> bytes:
    try:
        content = Path(file).read_bytes()
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from error
    if len(content) > _MAX_BYTES:
        message = f"file is larger than {_MAX_BYTES} bytes; name a configuration"
        raise ConfigError(file, (Problem(0, "", message),))
    return content


def read_yaml(file: str, start: str) -> tuple[dict[str, Json], Mapping[Location, int]]:
    """The keys of a YAML file, and the line of every location. Raises ConfigError.

    ``start`` is an example of how such a file begins.
    """
    tree = parse(file, _read(file), start)
    if tree.problems:
        raise ConfigError(file, _in_order(tree.problems))
    return tree.values, tree.lines


def _checked(file: str, version: str, tree: Tree) -> LoadedConfig:
    """Checks a tree against the schema. Raises ConfigError if nothing of it can be used."""
    if "applications" in tree.values and "model_providers" not in tree.values:
        message = "this is a serve.yaml; name the gateway.yaml, or check this file with --serve"
        raise ConfigError(file, (problem_at(tree.lines, ("applications",), message),))
    form = upgrade(tree.values)
    early = (*form.problems, *unsupported(form.values))
    problems = [problem_at(tree.lines, *problem) for problem in early]
    values, left_out, kept = form.values, form.left_out, dict[str, Sequence[int]]()
    try:
        config = GatewayConfig.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        for location, message in map(describe_error, details):
            written = tree.written_at(form.written(location))
            problems.append(problem_at(tree.lines, written, message))
        values, more, kept = _prune(values, [tuple(detail["loc"]) for detail in details])
        left_out |= more
        config = _validated(values)
    loaded = LoadedConfig(
        file=file,
        version=version,
        config=config.read_from((*form.older, *form.ignored)),
        lines=tree.lines,
        form=form,
        problems=(),
        left_out=left_out | _nameless(config),
        kept=kept,
    )
    problems += [loaded.problem(location, message) for location, message in duplicates(config)]
    return replace(loaded, problems=(*tree.problems, *problems))


def _validated(values: dict[str, Json]) -> GatewayConfig:
    """The configuration without the sections that are still invalid."""
    while True:
        try:
            return GatewayConfig.model_validate(values)
        except ValidationError as error:
            bad = {detail["loc"][0] for detail in error.errors(include_url=False)}
            values = {key: value for key, value in values.items() if key not in bad}


def _nameless(config: GatewayConfig) -> frozenset[str]:
    """Models that are not written ``provider/name``, which is a problem of their entry."""
    names = (entry.model for entry in config.model_providers)
    return frozenset(name for name in names if not all(name.partition("/")))


def _prune(
    values: Mapping[str, Json], locations: Sequence[Location]
) -> tuple[dict[str, Json], frozenset[str], dict[str, Sequence[int]]]:
    """``values`` without the entries that contain these locations."""
    bad: dict[str, set[str | int]] = {}
    for location in locations:
        bad.setdefault(str(location[0]), set()).update(location[1:2])
    pruned, left_out, kept = dict(values), set[str](), dict[str, Sequence[int]]()
    for key, steps in bad.items():
        value = pruned.pop(key, None)
        if key == "model_providers":
            left_out.update(models_in(value, steps))
        if isinstance(value, list) and steps:
            kept[key] = [index for index in range(len(value)) if index not in steps]
            pruned[key] = [value[index] for index in kept[key]]
        elif isinstance(value, dict) and steps:
            pruned[key] = {name: item for name, item in value.items() if name not in steps}
    pruned.setdefault("version", NEWEST)
    return pruned, frozenset(left_out), kept


def _settled(config: GatewayConfig, file: Path) -> GatewayConfig:
    """The configuration with absolute paths, and with Plano's overrides moved to their sections.

    ``overrides.llm_routing_model`` goes to ``orchestrator``, and
    ``overrides.upstream_connect_timeout`` to ``timeouts.connect_s``.
    """
    engine, overrides, timeouts = orchestrator_of(config), config.overrides, config.timeouts
    engine = _placed(engine, file)
    if engine.when_unsure is not None:
        better = _placed(engine.when_unsure, file)
        engine = engine.model_copy(update={"when_unsure": better})
    for name in ("calibration", "reranker", "tuned"):
        path = getattr(engine, name)
        if path is not None:
            engine = engine.model_copy(update={name: _beside(file, path)})
    if overrides.upstream_tls_ca_path is not None:
        update = {"upstream_tls_ca_path": _beside(file, overrides.upstream_tls_ca_path)}
        overrides = overrides.model_copy(update=update)
    config = _with_stores_ca(config, file)
    logs = _placed_logs(config.logs, file)
    connect_s = _connect_s(overrides)
    if connect_s is not None and "connect_s" not in timeouts.model_fields_set:
        timeouts = timeouts.model_copy(update={"connect_s": connect_s})
    return config.model_copy(
        update={
            "orchestrator": engine,
            "overrides": overrides,
            "timeouts": timeouts,
            "logs": logs,
        }
    )


def _with_stores_ca(config: GatewayConfig, file: Path) -> GatewayConfig:
    """The configuration with absolute paths of the certificates of Redis."""
    cache, state = config.routing.session_cache, config.state_storage
    if cache.tls_ca_path is not None:
        update = {"tls_ca_path": _beside(file, cache.tls_ca_path)}
        routing = {"session_cache": cache.model_copy(update=update)}
        config = config.model_copy(update={"routing": config.routing.model_copy(update=routing)})
    if state.tls_ca_path is not None:
        update = {"tls_ca_path": _beside(file, state.tls_ca_path)}
        config = config.model_copy(update={"state_storage": state.model_copy(update=update)})
    return config


def _placed_logs(logs: Logs, file: Path) -> Logs:
    """The section with absolute paths of its files."""
    update = {
        name: section.model_copy(update={"to": _beside(file, section.file)})
        for name, section in logs
        if section.file is not None
    }
    return logs.model_copy(update=update) if update else logs


def _placed(engine: _Engine, file: Path) -> _Engine:
    """The section with absolute paths of its model and its key, where they are files."""
    if engine.model is not None and not engine.asks_server and not engine.download:
        engine = engine.model_copy(update={"model": _beside(file, engine.model)})
    if engine.access_key is not None:
        key = absolute(engine.access_key, file.absolute().parent)
        engine = engine.model_copy(update={"access_key": key})
    return engine


def _connect_s(overrides: Overrides) -> float | None:
    text = overrides.upstream_connect_timeout
    return None if text is None else seconds_of(text)


def _beside(file: Path, name: str) -> str:
    try:
        own = Path(name).expanduser()
    except (RuntimeError, ValueError):  # ~user, and this machine has no such user
        own = Path(name)
    return str(file.absolute().parent / own)


_UNSUPPORTED: Final = {
    "prompt_guards": "check prompts in front of the gateway",
}


def unsupported(values: Mapping[str, Json]) -> Iterator[tuple[Location, str]]:
    """Sections that protect in Plano and are ignored here, unless the file accepts that."""
    if values.get("ignore_unsupported"):
        return
    for key, fix in _UNSUPPORTED.items():
        if values.get(key):
            yield (key,), f"not supported; {fix}, or set `ignore_unsupported: true`"


def duplicates(config: GatewayConfig) -> Iterator[tuple[Location, str]]:
    """Entries beyond the one that is allowed of their kind."""
    models = 0
    for index, listener in enumerate(config.listeners):
        models += listener.type == "model"
        if listener.type == "model" and models > 1:
            yield ("listeners", index, "type"), "duplicate listener of type model; keep one"
    kinds: set[str] = set()
    for index, source in enumerate(config.model_metrics_sources):
        if source.type in kinds:
            message = f"duplicate source of type {source.type}; keep one"
            yield ("model_metrics_sources", index, "type"), message
        kinds.add(source.type)
