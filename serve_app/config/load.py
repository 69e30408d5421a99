"""Reads a configuration file: YAML with lines, the schema, and references to the environment.

Every problem of a file is collected before any is raised, each with its line and a way out.
Keys stay references (``$NAME``) in what is returned; only the replica that uses one expands it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from serve_app.config.schema import GatewayConfig
from serve_app.domain import Json
from serve_app.errors import ConfigError, Problem

Place: TypeAlias = tuple[str | int, ...]

_MAX_DEPTH = 32
_MAX_BYTES = 4 << 20
_MAX_NODES = 200_000


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A file that fits the schema, with what is needed to point at its lines."""

    file: str
    version: str
    """Changes with the bytes of the file: 12 hex digits of their SHA-256."""
    config: GatewayConfig
    lines: Mapping[Place, int]
    problems: tuple[Problem, ...]
    """What the schema found; the entries concerned are left out of ``config``."""
    left_out: frozenset[str]
    """Model names in such entries, so that nobody reports a reference to them as unknown."""
    kept: Mapping[str, Sequence[int]]
    """For a list with entries left out: where each remaining one stands in the file."""

    def leaves_out(self, name: str) -> bool:
        """True when an entry that could not be read may be the one that a name means."""
        provider, slash, _ = name.partition("/")
        named = any(entry.endswith(f"/{name}") for entry in self.left_out)
        return name in self.left_out or named or (bool(slash) and f"{provider}/*" in self.left_out)

    def problem(self, place: Place, message: str) -> Problem:
        """A problem at a place of ``config``, with the line and the path of the file."""
        if len(place) > 1 and isinstance(place[1], int) and place[0] in self.kept:
            place = (place[0], self.kept[str(place[0])][place[1]], *place[2:])
        return _problem(self.lines, place, message)


def load(file: str | Path) -> LoadedConfig:
    """The configuration in ``file``. Raises ConfigError when nothing of it can be used.

    Problems of single entries do not raise here: they come back in ``problems``, so that the
    caller can add its own and report all of them together.
    """
    content = _read(str(file))
    data, lines = _parse(str(file), content)
    version = hashlib.sha256(content).hexdigest()[:12]
    try:
        config = GatewayConfig.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=True)
    else:
        config = _placed(config, file)
        return LoadedConfig(str(file), version, config, lines, (), frozenset(), {})
    problems = tuple(_problem(lines, *explain(detail)) for detail in details)
    pruned, left_out, kept = _prune(data, [tuple(detail["loc"]) for detail in details])
    try:
        config = GatewayConfig.model_validate(pruned)
    except ValidationError:
        raise ConfigError(str(file), _in_order(problems)) from None
    return LoadedConfig(str(file), version, _placed(config, file), lines, problems, left_out, kept)


def _placed(config: GatewayConfig, file: str | Path) -> GatewayConfig:
    """The configuration with paths that no longer depend on where a process runs."""
    engine = config.orchestrator
    if engine.model is None or engine.engine == "http" or engine.download:
        return config
    try:
        own = Path(engine.model).expanduser()
    except RuntimeError:  # ~somebody, whom this machine does not know
        own = Path(engine.model)
    model = str(Path(file).absolute().parent / own)
    return config.model_copy(update={"orchestrator": engine.model_copy(update={"model": model})})


def raise_problems(loaded: LoadedConfig, more: Iterable[Problem]) -> None:
    """Raises ConfigError with the problems of the schema and these, in the file's order."""
    problems = (*loaded.problems, *more)
    if problems:
        raise ConfigError(loaded.file, _in_order(problems))


def notices(config: GatewayConfig) -> list[str]:
    """What is accepted and not in force, or likely not what was meant; one line each."""
    found = []
    if config.listeners:
        found.append("listeners is not in force: Serve's http_options say where to listen")
    if any(route.selection_policy for route in config.routing_preferences):
        found.append("selection_policy is not in force: models stay in the order given")
    found += [
        f"route {route.name!r} has one example, which helps little; give three"
        for route in config.routing_preferences
        if len(route.examples) == 1
    ]
    budget = config.routing.routing_budget
    if budget is not None and budget.record_counterfactual:
        found.append("routing.routing_budget.record_counterfactual is not in force")
    model = config.orchestrator.model
    if config.orchestrator.engine == "embedding" and model is not None and not _is_file(model):
        found.append(f"orchestrator.model: there is no file {model} on this machine")
    return found


def _is_file(name: str) -> bool:
    """False also where it can't be told: too long a name, or a folder that is not for us."""
    try:
        return Path(name).is_file()
    except OSError:
        return False


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` when something known is near, else the empty string."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))


def _read(file: str) -> bytes:
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(file, (Problem(0, "", f"can't be read: {reason}"),)) from error
    if len(content) > _MAX_BYTES:
        message = f"is larger than {_MAX_BYTES} bytes; this can't be a gateway configuration"
        raise ConfigError(file, (Problem(0, "", message),))
    return content


def _parse(file: str, content: bytes) -> tuple[dict[str, Json], dict[Place, int]]:
    try:
        loader = yaml.SafeLoader(content)
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(file, (Problem(1, "", "is empty; start with `version: v0.4.0`"),))
        reader = _NodeReader(loader)
        data = reader.read(node, (), 0)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        message = f"is not valid YAML: {error.problem or error.context}"
        raise ConfigError(file, (Problem(line, "", message),)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(file, (Problem(0, "", f"is not valid YAML: {error}"),)) from error
    if reader.problems:
        raise ConfigError(file, _in_order(reader.problems))
    if not isinstance(data, dict):
        message = "must be a mapping of keys, such as `version: v0.4.0`"
        raise ConfigError(file, (Problem(1, "", message),))
    return data, reader.lines


class _NodeReader:
    """Turns YAML nodes into plain values and remembers the line of every place.

    yaml's own constructor keeps no lines, takes the last of two equal keys in silence, and
    follows aliases without a bound.
    """

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader = loader
        self._nodes = 0
        self.lines: dict[Place, int] = {}
        self.problems: list[Problem] = []

    def read(self, node: yaml.Node, place: Place, depth: int) -> Json:
        self.lines[place] = node.start_mark.line + 1
        self._nodes += 1
        if depth > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise yaml.MarkedYAMLError(
                problem="nested too deeply, or anchors that multiply", problem_mark=node.start_mark
            )
        if isinstance(node, yaml.MappingNode):
            return self._merged(node, place, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.read(item, (*place, index), depth + 1) for index, item in enumerate(node.value)
            ]
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError, AttributeError) as error:
            raise yaml.MarkedYAMLError(
                problem=f"{node.value!r} is not what its tag says", problem_mark=node.start_mark
            ) from error

    def _merged(self, node: yaml.MappingNode, place: Place, depth: int) -> dict[str, Json]:
        """A mapping with what ``<<`` brings in; its own keys win, and earlier ones over later."""
        own: dict[str, Json] = {}
        brought: dict[str, Json] = {}
        for key, value in self._members(node, place, depth):
            if key == "<<":
                for source in value if isinstance(value, list) else [value]:
                    brought = {**(source if isinstance(source, dict) else {}), **brought}
            else:
                own[key] = value
        return {**brought, **own}

    def _members(
        self, node: yaml.MappingNode, place: Place, depth: int
    ) -> Iterator[tuple[str, Json]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                self.problems.append(Problem(line, path(place), "a key must be a plain word"))
                continue
            if key in seen:
                self.problems.append(
                    Problem(line, path((*place, key)), "stands there twice; keep one of them")
                )
                continue
            seen.add(key)
            yield key, self.read(value_node, (*place, key), depth + 1)
            self.lines[*place, key] = line


def path(place: Place) -> str:
    """A place as text: ``model_providers[0].model``."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _problem(lines: Mapping[Place, int], place: Place, message: str) -> Problem:
    known = place
    while known and known not in lines:
        known = known[:-1]
    return Problem(lines.get(known, 0), path(place), message)


def explain(detail: ErrorDetails) -> tuple[Place, str]:
    """The place and a message of our own for one of pydantic's findings."""
    place = tuple(step for step in detail["loc"] if step != "[key]")
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = _keys_at(place[:-1])
        way_out = did_you_mean(str(place[-1]), known) or f"; known keys: {', '.join(known)}"
        return place, f"unknown key{way_out}"
    if kind == "missing":
        return place, f"missing; add `{place[-1]}:`"
    if kind in {"literal_error", "enum"}:
        return place, f"must be {context['expected']}, not {_shown(place, detail['input'])}"
    if kind == "too_long":
        return place, f"may hold at most {context['max_length']}, not {context['actual_length']}"
    message = _MESSAGES.get(kind)
    if message is not None:
        return place, f"{message}, not {_shown(place, detail['input'])}"
    return place, detail["msg"][:1].lower() + detail["msg"][1:]


_MESSAGES: Mapping[str, str] = {
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys",
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
}
_SHOWN_SIGNS = 60
_KINDS: Mapping[type, str] = {
    dict: "a mapping", list: "a list", str: "a text", int: "a number", float: "a number",
    bool: "true or false",
}  # fmt: skip
_SECRET_KEYS = frozenset({"access_key", "client_keys", "url"})


def _shown(place: Place, value: object) -> str:
    if not _SECRET_KEYS.isdisjoint(place):
        return _KINDS.get(type(value), "this value")
    if value is None:
        return "nothing"
    text = repr(value)
    if isinstance(value, str | int | float) and len(text) <= _SHOWN_SIGNS:
        return text
    return _KINDS.get(type(value), "a long value")


def _keys_at(place: Place) -> list[str]:
    """The keys that the schema knows at a place."""
    model: Any = GatewayConfig
    for step in place:
        if isinstance(step, str) and step in getattr(model, "model_fields", {}):
            model = model.model_fields[step].annotation
        model = _model_in(model)
    fields = getattr(model, "model_fields", {})
    return list(fields)


def _model_in(annotation: Any) -> Any:  # noqa: ANN401 - a type of any form
    """The model inside ``list[Model]``, ``dict[str, Model]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def _prune(
    data: Mapping[str, Json], places: Sequence[Place]
) -> tuple[dict[str, Json], frozenset[str], dict[str, Sequence[int]]]:
    """``data`` without the entries that these places lie in."""
    bad: dict[str, set[str | int]] = {}
    for place in places:
        if place:
            bad.setdefault(str(place[0]), set()).update(place[1:2])
    pruned, left_out, kept = dict(data), set[str](), dict[str, Sequence[int]]()
    for key, steps in bad.items():
        value = pruned.pop(key, None)
        if isinstance(value, list) and steps:
            kept[key] = [index for index in range(len(value)) if index not in steps]
            left_out.update(_models(value[index] for index in steps if isinstance(index, int)))
            pruned[key] = [value[index] for index in kept[key]]
        elif isinstance(value, dict) and steps:
            pruned[key] = {name: item for name, item in value.items() if name not in steps}
    pruned.setdefault("version", "v0.4.0")
    return pruned, frozenset(left_out), kept


def _models(entries: Iterable[Json]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("model"), str):
            yield entry["model"]
