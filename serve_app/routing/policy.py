"""The policy: names, aliases and routes of one configuration, compiled, immutable, versioned.

A request uses the policy that is current when it arrives, to its end.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import TypeAlias

from serve_app.config.load import LoadedConfig
from serve_app.config.locations import Problem, path_text
from serve_app.config.pydantic_errors import did_you_mean
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.schema.routes import RouteModel, RoutingPreference
from serve_app.domain import (
    AUTO,
    AUTO_NAMES,
    OWN_MODEL,
    Effort,
    ModelRef,
    Prefer,
    Reason,
    Route,
)
from serve_app.routing.rules import Rule

_NEAREST = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """The meaning of the names that clients use."""

    version: str
    models: Mapping[str, ModelRef]
    """By full name."""
    wildcards: frozenset[str]
    """Providers with a wildcard, of which any model may be requested."""
    bare: Mapping[str, tuple[ModelRef, ...]]
    """Models by their name without the provider; several if it is ambiguous."""
    hints: Mapping[str, ModelRef]
    """Models by the ``name`` of their configuration entry."""
    aliases: Mapping[str, ModelRef | None]
    """Models by alias; None if the alias leaves the choice to the gateway."""
    routes: tuple[Route, ...]
    default: ModelRef | None
    always_route: bool = False
    """True if requests that name a model are also decided by content."""
    no_route_examples: tuple[str, ...] = ()
    """What users say when they mean none of ``routes``."""
    rules: tuple[Rule, ...] = ()
    """Decide before the content does, in this order."""

    def resolve(self, name: str) -> tuple[ModelRef, Reason] | None:
        """The model of a name, and whether the name is explicit or an alias.

        In this order: a configured model, an alias, the name of one model without its provider,
        and a wildcard. Returns None for any other name.
        """
        if name in self.models:
            return self.models[name], Reason.EXPLICIT
        target = self.aliases.get(name)
        if target is not None:
            return target, Reason.ALIAS
        same = self.bare.get(name, ())
        if len(same) == 1:
            return same[0], Reason.EXPLICIT
        provider, _, model = name.partition("/")
        if provider in self.wildcards and model not in {"", "*"}:
            return ModelRef(provider, model), Reason.EXPLICIT
        return None

    def leaves_open(self, name: str) -> bool:
        """True for a name by which a client leaves the choice to the gateway."""
        return name.lower() in AUTO_NAMES or (name in self.aliases and self.aliases[name] is None)

    def knows(self, name: str) -> bool:
        """True for a name that is allowed in a request."""
        return self.leaves_open(name) or self.resolve(name) is not None

    def resolve_hint(self, name: str) -> ModelRef | None:
        """The model of a provider hint: the name of an entry, or of any model."""
        if name in self.hints:
            return self.hints[name]
        resolved = self.resolve(name)
        return None if resolved is None else resolved[0]

    def names(self) -> list[str]:
        """The names to list for clients: models, then aliases, in configuration order.

        If there are routes, ``auto`` comes last.
        """
        return [*self.models, *self.aliases, *([AUTO] if self.routes else [])]

    def nearest(self, name: str) -> tuple[str, ...]:
        """Similar names that exist; empty if there are none."""
        if name in self.bare:
            return tuple(str(model) for model in self.bare[name])
        guesses = [f"{provider}/{name}" for provider in sorted(self.wildcards) if "/" not in name]
        near = get_close_matches(name, [*self.names(), *self.bare], n=_NEAREST, cutoff=0.5)
        return tuple(dict.fromkeys([*near, *guesses]))[:_NEAREST]


def compile_policy(loaded: LoadedConfig) -> tuple[Policy, list[Problem]]:
    """The policy of a configuration, and the problems of its names."""
    config = loaded.config
    models, wildcards = _models(config)
    policy = Policy(
        version=loaded.version,
        models=MappingProxyType({str(model): model for model in models}),
        wildcards=frozenset(wildcards),
        bare=MappingProxyType(_bare(models)),
        hints=MappingProxyType(_hints(config)),
        aliases=MappingProxyType({}),
        routes=(),
        default=_default(config),
        always_route=config.overrides.always_route,
        no_route_examples=tuple(config.no_route_examples),
    )
    aliases, problems = _aliases(loaded, policy)
    routes, more = _routes(loaded, policy)
    problems += more + _duplicates(loaded)
    return replace(policy, aliases=MappingProxyType(aliases), routes=routes), problems


def _models(config: GatewayConfig) -> tuple[list[ModelRef], list[str]]:
    """The models, without duplicates, and the providers with wildcards."""
    models, wildcards = dict[ModelRef, None](), []
    for entry in config.model_providers:
        provider, _, name = entry.model.partition("/")
        if name == "*":
            wildcards.append(provider)
        elif provider and name:
            models[ModelRef(provider, name)] = None
    return list(models), wildcards


def _bare(models: Iterable[ModelRef]) -> dict[str, tuple[ModelRef, ...]]:
    bare: dict[str, tuple[ModelRef, ...]] = {}
    for model in models:
        bare[model.name] = (*bare.get(model.name, ()), model)
    return bare


def _hints(config: GatewayConfig) -> dict[str, ModelRef]:
    return {
        entry.name: ModelRef.parse(entry.model)
        for entry in config.model_providers
        if entry.name and _is_name(entry.model)
    }


def _default(config: GatewayConfig) -> ModelRef | None:
    for entry in config.model_providers:
        if entry.default and _is_name(entry.model):
            return ModelRef.parse(entry.model)
    return None


def _is_name(text: str) -> bool:
    provider, _, name = text.partition("/")
    return bool(provider) and name not in {"", "*"}


def _aliases(
    loaded: LoadedConfig, policy: Policy
) -> tuple[dict[str, ModelRef | None], list[Problem]]:
    aliases: dict[str, ModelRef | None] = {}
    problems: list[Problem] = []
    for alias, entry in loaded.config.model_aliases.items():
        location = ("model_aliases", alias)
        resolved = policy.resolve(entry.target)
        if alias.lower() in AUTO_NAMES or alias == str(OWN_MODEL):
            problems.append(
                loaded.problem(
                    location, "is reserved for the choice by the gateway; use another name"
                )
            )
        elif alias in policy.models:
            problems.append(loaded.problem(location, "is the name of a model; use another name"))
        elif resolved is not None:
            aliases[alias] = resolved[0]
        elif entry.target.lower() == AUTO:
            aliases[alias] = None
        elif not loaded.leaves_out(entry.target):
            problems.append(
                loaded.problem((*location, "target"), unknown_model(loaded, policy, entry.target))
            )
    return aliases, problems


def _routes(loaded: LoadedConfig, policy: Policy) -> tuple[tuple[Route, ...], list[Problem]]:
    routes: list[Route] = []
    problems: list[Problem] = []
    for index, entry in enumerate(loaded.config.routing_preferences):
        location = ("routing_preferences", index)
        if any(route.name == entry.name for route in routes):
            problems.append(
                loaded.problem((*location, "name"), f"duplicate route {entry.name!r}; keep one")
            )
        models: list[RoutedModel] = []
        for position, (name, effort) in enumerate(entry.named):
            place = (*location, *place_of_model(entry, position))
            resolved = policy.resolve(name)
            if resolved is None:
                if not loaded.leaves_out(name):
                    problems.append(loaded.problem(place, unknown_model(loaded, policy, name)))
                continue
            conflict = effort_conflict(models, resolved[0], effort)
            if conflict:
                problems.append(loaded.problem(place, conflict))
            models.append((resolved[0], effort))
        routes.append(route_of(entry, models))
    return tuple(routes), problems


RoutedModel: TypeAlias = tuple[ModelRef, Effort | None]
"""A model of a route, and the reasoning effort that the route asks of it."""


def place_of_model(entry: RoutingPreference, position: int) -> tuple[str | int, ...]:
    """Where an entry of ``routing_preferences`` names a model, below the entry."""
    is_mapping = isinstance(entry.models[position], RouteModel)
    return ("models", position, *(("model",) if is_mapping else ()))


def effort_conflict(
    models: Iterable[RoutedModel], model: ModelRef, effort: Effort | None
) -> str | None:
    """Why a route may not list a model after these; None if it may.

    A model that is listed twice is asked once, so only one of its entries could have its effort.
    """
    for other, other_effort in models:
        if other == model and (effort or other_effort):
            return f"duplicate model '{model}'; keep one entry, with one effort"
    return None


def route_of(entry: RoutingPreference, models: Iterable[RoutedModel]) -> Route:
    """The route of an entry of ``routing_preferences``; its name replaces a missing description."""
    models = list(models)
    return Route(
        entry.name,
        entry.description or entry.name,
        tuple(model for model, _ in models),
        entry.selection_policy.prefer if entry.selection_policy else Prefer.NONE,
        tuple(entry.examples),
        tuple((model, effort) for model, effort in models if effort is not None),
        entry.escalate,
    )


def unknown_model(loaded: LoadedConfig, policy: Policy, name: str) -> str:
    """``no_model`` for a configuration, with the key that its version has for the models."""
    listed = path_text(loaded.written(("model_providers",)))
    return no_model(policy, name, loaded.config.model_aliases, listed)


def no_model(
    policy: Policy, name: str, aliases: Collection[str], listed: str = "model_providers"
) -> str:
    """The message about a name that is not a model."""
    if name in aliases:
        return f"{name!r} is an alias; name the model itself"
    if name in policy.bare:
        return f"{name!r} is ambiguous; use {' or '.join(map(str, policy.bare[name]))}"
    near = did_you_mean(name, [*policy.models, *policy.bare])
    fix = near or f"; add it to {listed}"
    return f"no entry of {listed} is named {name!r}{fix}"


def _duplicates(loaded: LoadedConfig) -> list[Problem]:
    problems: list[Problem] = []
    names: set[str] = set()
    default: str | None = None
    for index, entry in enumerate(loaded.config.model_providers):
        location = ("model_providers", index)
        if entry.name is not None and entry.name in names:
            problems.append(
                loaded.problem((*location, "name"), f"duplicate name {entry.name!r}; keep one")
            )
        names.update([entry.name] if entry.name else [])
        if entry.default and default not in {None, entry.model}:
            problems.append(
                loaded.problem(
                    (*location, "default"), f"{default!r} is already the default; keep one"
                )
            )
        elif entry.default:
            default = entry.model
    return problems
