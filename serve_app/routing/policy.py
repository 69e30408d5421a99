"""The policy: names, aliases and routes of one configuration, compiled, immutable, versioned.

A request takes the policy once, when it arrives, and keeps that one to its end.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import MappingProxyType

from serve_app.config.load import LoadedConfig
from serve_app.config.locations import Problem, path_text
from serve_app.config.pydantic_errors import did_you_mean
from serve_app.config.schema.gateway import GatewayConfig, RoutingPreference
from serve_app.domain import AUTO, AUTO_NAMES, ModelRef, Prefer, Reason, Route

_NEAREST = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """What the names that clients use stand for."""

    version: str
    models: Mapping[str, ModelRef]
    """By full name."""
    wildcards: frozenset[str]
    """Providers of which every model may be named."""
    bare: Mapping[str, tuple[ModelRef, ...]]
    """Models by their name without the provider; several where it is ambiguous."""
    hints: Mapping[str, ModelRef]
    """Models by the ``name`` of their configuration entry."""
    aliases: Mapping[str, ModelRef | None]
    """None where the alias leaves the choice to the gateway."""
    routes: tuple[Route, ...]
    default: ModelRef | None
    always_route: bool = False
    """Also requests that name a model are decided by content, where a route matches."""

    def resolve(self, name: str) -> tuple[ModelRef, Reason] | None:
        """The model that a name stands for, and whether it is explicit or an alias.

        In this order: a configured model, an alias, a bare name that only one model has, and a
        wildcard. None when it is none of them.
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
        """True for a name that a request may have."""
        return self.leaves_open(name) or self.resolve(name) is not None

    def resolve_hint(self, name: str) -> ModelRef | None:
        """The model that a provider hint stands for: an entry's name, or any model's name."""
        if name in self.hints:
            return self.hints[name]
        found = self.resolve(name)
        return None if found is None else found[0]

    def names(self) -> list[str]:
        """Every name that a client can be shown: models, then aliases, in configuration order.

        Where there are routes, ``auto`` comes last.
        """
        return [*self.models, *self.aliases, *([AUTO] if self.routes else [])]

    def nearest(self, name: str) -> tuple[str, ...]:
        """Known names that a client may have meant; empty when none is near."""
        if name in self.bare:
            return tuple(str(model) for model in self.bare[name])
        guesses = [f"{provider}/{name}" for provider in sorted(self.wildcards) if "/" not in name]
        near = get_close_matches(name, [*self.names(), *self.bare], n=_NEAREST, cutoff=0.5)
        return tuple(dict.fromkeys([*near, *guesses]))[:_NEAREST]


def compile_policy(loaded: LoadedConfig) -> tuple[Policy, list[Problem]]:
    """The policy of a configuration, and what is wrong with its names."""
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
    )
    aliases, problems = _aliases(loaded, policy)
    routes, more = _routes(loaded, policy)
    problems += more + _duplicates(loaded)
    return replace(policy, aliases=MappingProxyType(aliases), routes=routes), problems


def _models(config: GatewayConfig) -> tuple[list[ModelRef], list[str]]:
    """Each model once, however many endpoints it has."""
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
        place = ("model_aliases", alias)
        found = policy.resolve(entry.target)
        if alias.lower() in AUTO_NAMES:
            problems.append(
                loaded.problem(place, "this name leaves the choice to the gateway; take another")
            )
        elif alias in policy.models:
            problems.append(loaded.problem(place, "a model has this name; take another"))
        elif found is not None:
            aliases[alias] = found[0]
        elif entry.target.lower() == AUTO:
            aliases[alias] = None
        elif not loaded.leaves_out(entry.target):
            problems.append(
                loaded.problem((*place, "target"), unknown_model(loaded, policy, entry.target))
            )
    return aliases, problems


def _routes(loaded: LoadedConfig, policy: Policy) -> tuple[tuple[Route, ...], list[Problem]]:
    routes: list[Route] = []
    problems: list[Problem] = []
    for index, entry in enumerate(loaded.config.routing_preferences):
        place = ("routing_preferences", index)
        if any(route.name == entry.name for route in routes):
            problems.append(
                loaded.problem((*place, "name"), f"another route is named {entry.name!r}")
            )
        models = []
        for position, name in enumerate(entry.models):
            found = policy.resolve(name)
            if found is not None:
                models.append(found[0])
            elif not loaded.leaves_out(name):
                problems.append(
                    loaded.problem(
                        (*place, "models", position), unknown_model(loaded, policy, name)
                    )
                )
        routes.append(route_of(entry, tuple(models)))
    return tuple(routes), problems


def route_of(entry: RoutingPreference, models: tuple[ModelRef, ...]) -> Route:
    """The route that an entry of ``routing_preferences`` describes, if only by its name."""
    prefer = entry.selection_policy.prefer if entry.selection_policy else Prefer.NONE
    description = entry.description or entry.name
    return Route(entry.name, description, models, prefer, tuple(entry.examples))


def unknown_model(loaded: LoadedConfig, policy: Policy, name: str) -> str:
    """``no_model`` for a name in a configuration: with its own name for the list of models."""
    listed = path_text(loaded.written(("model_providers",)))
    return no_model(policy, name, loaded.config.model_aliases, listed)


def no_model(
    policy: Policy, name: str, aliases: Collection[str], listed: str = "model_providers"
) -> str:
    """What is wrong with a model's name that stands for no model, and the way out."""
    if name in aliases:
        return f"{name!r} is an alias; name the model itself"
    if name in policy.bare:
        return f"{name!r} could be {' or '.join(map(str, policy.bare[name]))}; name one of them"
    near = did_you_mean(name, [*policy.models, *policy.bare])
    way_out = near or f"; add it to {listed}"
    return f"no entry of {listed} is named {name!r}{way_out}"


def _duplicates(loaded: LoadedConfig) -> list[Problem]:
    problems: list[Problem] = []
    names: set[str] = set()
    default: str | None = None
    for index, entry in enumerate(loaded.config.model_providers):
        place = ("model_providers", index)
        if entry.name is not None and entry.name in names:
            problems.append(
                loaded.problem((*place, "name"), f"another entry is named {entry.name!r}")
            )
        names.update([entry.name] if entry.name else [])
        if entry.default and default not in {None, entry.model}:
            problems.append(
                loaded.problem((*place, "default"), f"{default!r} is the default already")
            )
        elif entry.default:
            default = entry.model
    return problems
