"""Reads a configuration file: YAML with lines, older forms, the schema, and what belongs together.

Every problem of a file is collected before any is raised, each with its line and a way out.
Keys stay references (``$NAME``) in what is returned; only the replica that uses one expands it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from serve_app.config.locations import ConfigError, Location, Problem, problem_at
from serve_app.config.plano_router import orchestrator_of
from serve_app.config.pydantic_errors import describe_error
from serve_app.config.references import absolute
from serve_app.config.schema.durations import seconds_of
from serve_app.config.schema.gateway import NEWEST, GatewayConfig, Overrides
from serve_app.config.upgrade import Upgraded, models_in, upgrade
from serve_app.config.without_file import NO_FILE, synthesise
from serve_app.config.yaml_tree import Tree, parse
from serve_app.domain import Json

_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A file that fits the schema, with what is needed to point at its lines."""

    file: str
    version: str
    """Changes with the bytes of the file: 12 hex digits of their SHA-256."""
    config: GatewayConfig
    lines: Mapping[Location, int]
    form: Upgraded
    problems: tuple[Problem, ...]
    """What was found so far; the entries concerned are left out of ``config``."""
    left_out: frozenset[str]
    """Model names in such entries, so that nobody reports a reference to them as unknown.

    ``*`` where an entry may have had any name.
    """
    kept: Mapping[str, Sequence[int]]
    """For a list with entries left out: where each remaining one stands in ``form``."""

    def leaves_out(self, name: str) -> bool:
        """True when an entry that could not be read may be the one that a name means."""
        provider, slash, _ = name.partition("/")
        named = any(entry.endswith(f"/{name}") for entry in self.left_out)
        wild = {"*", f"{provider}/*"} if slash else {"*"}
        return name in self.left_out or named or not wild.isdisjoint(self.left_out)

    def written(self, place: Location) -> Location:
        """Where in the file a place of ``config`` is written."""
        if len(place) > 1 and isinstance(place[1], int) and place[0] in self.kept:
            place = (place[0], self.kept[str(place[0])][place[1]], *place[2:])
        return self.form.written(place)

    def problem(self, place: Location, message: str) -> Problem:
        """A problem at a place of ``config``, with the line and the path of the file."""
        return problem_at(self.lines, self.written(place), message)


def load(file: str | Path | None, environ: Mapping[str, str] | None = None) -> LoadedConfig:
    """The configuration in ``file``; of None, one that serves what ``environ`` has keys for.

    Raises ConfigError when nothing of a file can be used. Problems of single entries do not raise
    here: they come back in ``problems``, so that the caller can add its own and report all of
    them together.
    """
    if file is None:
        values = synthesise(os.environ if environ is None else environ)
        version = _digest(json.dumps(values).encode())
        return _checked(NO_FILE, version, Tree(values, {}, {}, ()))
    content = _read(str(file))
    loaded = _checked(str(file), _digest(content), parse(str(file), content))
    return replace(loaded, config=_settled(loaded.config, Path(file)))


def raise_problems(loaded: LoadedConfig, more: Iterable[Problem]) -> None:
    """Raises ConfigError with the problems of the schema and these, in the file's order."""
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
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ConfigError(file, (Problem(0, "", f"cannot read the file: {reason}"),)) from error
    if len(content) > _MAX_BYTES:
        message = f"file is larger than {_MAX_BYTES} bytes; name a configuration"
        raise ConfigError(file, (Problem(0, "", message),))
    return content


def read_yaml(file: str, start: str) -> tuple[dict[str, Json], Mapping[Location, int]]:
    """Another YAML file than gateway.yaml: its keys, and the line of every place.

    ``start`` is what such a file may begin with. Raises ConfigError.
    """
    tree = parse(file, _read(file), start)
    if tree.problems:
        raise ConfigError(file, _in_order(tree.problems))
    return tree.values, tree.lines


def _checked(file: str, version: str, tree: Tree) -> LoadedConfig:
    """What a tree comes to. Raises ConfigError where nothing can be used."""
    form = upgrade(tree.values)
    found = [problem_at(tree.lines, *one) for one in (*form.problems, *unsupported(form.values))]
    values, left_out, kept = form.values, form.left_out, dict[str, Sequence[int]]()
    try:
        config = GatewayConfig.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        for place, message in map(describe_error, details):
            standing = tree.standing(form.written(place))
            found.append(problem_at(tree.lines, standing, message))
        places = [tuple(detail["loc"]) for detail in details]
        values, more, kept = _prune(values, places)
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
    found += [loaded.problem(place, message) for place, message in doubled(config)]
    return replace(loaded, problems=(*tree.problems, *found))


def _validated(values: dict[str, Json]) -> GatewayConfig:
    """The configuration without the sections that can't be used even in part."""
    while True:
        try:
            return GatewayConfig.model_validate(values)
        except ValidationError as error:
            bad = {detail["loc"][0] for detail in error.errors(include_url=False)}
            values = {key: value for key, value in values.items() if key not in bad}


def _nameless(config: GatewayConfig) -> frozenset[str]:
    """Models that are not written ``provider/name``: a problem of their own entry."""
    names = (entry.model for entry in config.model_providers)
    return frozenset(name for name in names if not all(name.partition("/")))


def _prune(
    values: Mapping[str, Json], places: Sequence[Location]
) -> tuple[dict[str, Json], frozenset[str], dict[str, Sequence[int]]]:
    """``values`` without the entries that these places lie in."""
    bad: dict[str, set[str | int]] = {}
    for place in places:
        bad.setdefault(str(place[0]), set()).update(place[1:2])
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
    """The configuration with paths that no longer depend on where a process runs, and one place
    for what Plano says in another: ``overrides.llm_routing_model`` is the orchestrator's, and
    ``overrides.upstream_connect_timeout`` is ``timeouts.connect_s``.
    """
    engine, overrides, timeouts = orchestrator_of(config), config.overrides, config.timeouts
    if engine.model is not None and engine.engine != "http" and not engine.download:
        engine = engine.model_copy(update={"model": _beside(file, engine.model)})
    if engine.access_key is not None:
        key = absolute(engine.access_key, file.absolute().parent)
        engine = engine.model_copy(update={"access_key": key})
    if overrides.upstream_tls_ca_path is not None:
        update = {"upstream_tls_ca_path": _beside(file, overrides.upstream_tls_ca_path)}
        overrides = overrides.model_copy(update=update)
    connect_s = _connect_s(overrides)
    if connect_s is not None and "connect_s" not in timeouts.model_fields_set:
        timeouts = timeouts.model_copy(update={"connect_s": connect_s})
    return config.model_copy(
        update={"orchestrator": engine, "overrides": overrides, "timeouts": timeouts}
    )


def _connect_s(overrides: Overrides) -> float | None:
    text = overrides.upstream_connect_timeout
    return None if text is None else seconds_of(text)


def _beside(file: Path, name: str) -> str:
    try:
        own = Path(name).expanduser()
    except (RuntimeError, ValueError):  # ~somebody, whom this machine does not know
        own = Path(name)
    return str(file.absolute().parent / own)


_UNSUPPORTED: Final = {"ratelimits": "limit", "prompt_guards": "guard"}


def unsupported(values: Mapping[str, Json]) -> Iterator[tuple[Location, str]]:
    """Sections whose silence would be taken for safety, unless the file says that it knows."""
    if values.get("ignore_unsupported"):
        return
    for key, verb in _UNSUPPORTED.items():
        if values.get(key):
            message = f"is not in force: {verb} in front of the gateway, or set "
            yield (key,), f"{message}`ignore_unsupported: true` to start without it"


def doubled(config: GatewayConfig) -> Iterator[tuple[Location, str]]:
    """Entries of which there may be one of a kind."""
    models = 0
    for index, listener in enumerate(config.listeners):
        models += listener.type == "model"
        if listener.type == "model" and models > 1:
            yield ("listeners", index, "type"), "another listener is of type model; keep one"
    kinds: set[str] = set()
    for index, source in enumerate(config.model_metrics_sources):
        if source.type in kinds:
            message = f"another source is of type {source.type}; keep one"
            yield ("model_metrics_sources", index, "type"), message
        kinds.add(source.type)
