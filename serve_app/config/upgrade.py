"""Converts older formats of Plano's file to that of v0.4.0.

The original location of every part that moves is recorded, so that later problems point there.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter, ValidationError

from serve_app.config.locations import Location, path_text
from serve_app.config.pydantic_errors import describe_error
from serve_app.config.schema.gateway import NEWEST
from serve_app.config.schema.inert import InlinePreference, LegacyListeners
from serve_app.domain import Json

OLDER: Final = ("v0.1", "v0.1.0", "0.1-beta", "0.2.0", "v0.3.0")

_ROUTES: Final = "routing_preferences"
_MODELS: Final = "model_providers"
_OLD_MODELS: Final = "llm_providers"
_BEFORE_TOP_LEVEL: Final = "v0.3.0"
"""The newest version whose routes are under models."""

_TYPES: Final = {"egress_traffic": "model", "ingress_traffic": "prompt"}
_INLINE: Final = TypeAdapter(list[InlinePreference])


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A file in the format of v0.4.0; only the parts that were moved are checked so far."""

    values: dict[str, Json]
    origins: Mapping[Location, Location]
    """The location in the file of each part that was moved."""
    problems: tuple[tuple[Location, str], ...]
    """With locations in the file."""
    older: tuple[str, ...]
    """The older formats in the file, and a missing version; one line each."""
    ignored: tuple[str, ...]
    """The parts of them that are ignored; one line each."""
    left_out: frozenset[str]
    """Model names in parts that cannot be used."""

    def written(self, location: Location) -> Location:
        """The location in the file of a location in ``values``."""
        for end in range(len(location), 0, -1):
            origin = self.origins.get(location[:end])
            if origin is not None:
                return (*origin, *location[end:])
        return location


@dataclass(slots=True)
class _Work:
    values: dict[str, Json]
    origins: dict[Location, Location] = field(default_factory=dict)
    problems: list[tuple[Location, str]] = field(default_factory=list)
    older: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)


def upgrade(values: Mapping[str, Json]) -> Upgraded:
    """Converts the content of a file to the format of v0.4.0; ``values`` is not changed.

    A file without a version has the newest one whose format it fits.
    """
    work = _Work(dict(values))
    _rename_models(work)
    _list_listeners(work)
    _set_version(work)
    if work.values.get("version") in OLDER:
        work.values["version"] = NEWEST
        _lift_routes(work)
    return Upgraded(
        work.values,
        work.origins,
        tuple(work.problems),
        tuple(work.older),
        tuple(work.ignored),
        frozenset(work.left_out),
    )


def _set_version(work: _Work) -> None:
    """Sets a missing version: the newest one, unless routes are under models alone."""
    if "version" in work.values:
        return
    version, why = NEWEST, ""
    if _has_routes_under_models(work.values):
        location = path_text(work.origins.get((_MODELS,), (_MODELS,)))
        version, why = _BEFORE_TOP_LEVEL, f", because of {_ROUTES} under {location}"
    work.values["version"] = version
    work.older.append(
        f"version is missing: the file is read as {version}{why}; add the line `version: {version}`"
    )


def _has_routes_under_models(values: Mapping[str, Json]) -> bool:
    entries = values.get(_MODELS)
    if values.get(_ROUTES) or not isinstance(entries, list):
        return False
    return any(isinstance(entry, dict) and entry.get(_ROUTES) for entry in entries)


def models_in(entries: Json, indexes: Collection[str | int]) -> Iterator[str]:
    """The models of these entries of a list; ``*`` for an entry whose model is unknown."""
    if not isinstance(entries, list):
        yield "*"
        return
    for index, entry in enumerate(entries):
        if index in indexes:
            name = entry.get("model") if isinstance(entry, dict) else entry
            yield name if isinstance(name, str) else "*"


def _rename_models(work: _Work) -> None:
    if _OLD_MODELS not in work.values:
        return
    entries = work.values.pop(_OLD_MODELS)
    if _MODELS in work.values:
        message = f"the old name of {_MODELS}, which is also present; move the entries there"
        work.problems.append(((_OLD_MODELS,), message))
        count = len(entries) if isinstance(entries, list) else 0
        work.left_out.update(models_in(entries, range(count)))
        return
    work.values[_MODELS] = entries
    work.origins[_MODELS,] = (_OLD_MODELS,)
    work.older.append(f"{_OLD_MODELS} is the old name of {_MODELS}; rename it")


def _list_listeners(work: _Work) -> None:
    mapping = work.values.get("listeners")
    if not isinstance(mapping, dict):
        return
    listed: list[Json] = []
    work.values["listeners"] = listed
    try:
        LegacyListeners.model_validate(mapping)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            location, message = describe_error(detail, LegacyListeners)
            work.problems.append((("listeners", *location), message))
        return
    if work.values.get(_MODELS, []) == []:
        message = f"a mapping of listeners needs {_MODELS}; add it, or write a list of listeners"
        work.problems.append((("listeners",), message))
    for name, kind in _TYPES.items():
        if mapping.get(name) is not None:
            work.origins["listeners", len(listed)] = ("listeners", name)
            kept = {key: value for key, value in mapping[name].items() if key != "message_format"}
            listed.append({"type": kind, "name": name, **kept})


def _lift_routes(work: _Work) -> None:
    """Moves routes from under models to the top level, as Plano's migration does.

    Invalid parts stay in location, so that the schema reports them.
    """
    entries, routes = work.values.get(_MODELS), work.values.get(_ROUTES, [])
    if not isinstance(entries, list) or not isinstance(routes, list):
        return
    lifting = _Lifting(work, _names(routes), len(routes))
    work.values[_MODELS] = [lifting.without(index, entry) for index, entry in enumerate(entries)]
    if lifting.routes:
        work.values[_ROUTES] = [*routes, *(route for _, route in lifting.routes.values())]
    if lifting.found_any:
        location = path_text(work.origins.get((_MODELS,), (_MODELS,)))
        work.older.append(
            f"{_ROUTES} under {location} is the format before {NEWEST}; move the routes to the top level"
        )


def _names(routes: Iterable[Json]) -> frozenset[str]:
    named = (route.get("name") for route in routes if isinstance(route, dict))
    return frozenset(name for name in named if isinstance(name, str))


@dataclass(slots=True)
class _Lifting:
    work: _Work
    taken: frozenset[str]
    """Names of the routes at the top level, which take precedence."""
    start: int
    """The number of those routes."""
    routes: dict[str, tuple[int, dict[str, Json]]] = field(default_factory=dict)
    """By name: the position at the top level, and the route to write there."""
    found_any: bool = False

    def without(self, index: int, entry: Json) -> Json:
        """Moves the routes out of an entry; returns the entry without them, unless they are invalid."""
        if not isinstance(entry, dict) or not entry.get(_ROUTES):
            return entry
        try:
            items = _INLINE.validate_python(entry[_ROUTES])
        except ValidationError:
            return entry
        model = entry.get("model")
        if not isinstance(model, str) or not model:
            return entry
        self.found_any = True
        written = self.work.origins.get((_MODELS,), (_MODELS,))
        if "/" in model and model.rpartition("/")[2].strip() == "*":
            message = "a wildcard cannot have routes; move them to the top level"
            self.work.problems.append(((*written, index, _ROUTES), message))
        else:
            for position, item in enumerate(items):
                self._lift(item, model, (*written, index), (_ROUTES, position))
        return {key: value for key, value in entry.items() if key != _ROUTES}

    def _lift(self, item: InlinePreference, model: str, entry: Location, step: Location) -> None:
        """Adds a model to the route that an item names; ``entry`` and ``step`` are its location."""
        location = (*entry, *step)
        if not item.name:
            self.work.ignored.append(f"{path_text(location)} is ignored: it has no name; add one")
            return
        if item.name in self.taken:
            self.work.ignored.append(
                f"{path_text(location)} is ignored: the top-level {_ROUTES} has a route {item.name!r}; "
                "remove one of the two"
            )
            return
        if item.name not in self.routes:
            position = self.start + len(self.routes)
            route: dict[str, Json] = {
                "name": item.name,
                "description": item.description,
                "models": [],
            }
            self.work.origins[_ROUTES, position] = location
            self.routes[item.name] = position, route
        position, route = self.routes[item.name]
        if item.description and item.description != route["description"]:
            self.work.ignored.append(
                f"{path_text(location)}.description is ignored: route {item.name!r} keeps the first one; "
                "remove this one"
            )
        if model not in route["models"]:
            self.work.origins[_ROUTES, position, "models", len(route["models"])] = (*entry, "model")
            route["models"].append(model)
