"""Which models a client key may use."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from serve_app.domain import AUTO, OWN_MODEL, ModelRef
from serve_app.routing.policy import Policy


@dataclass(frozen=True, slots=True)
class Allowance:
    """The models of ``allow``, and whether the key may leave the model open.

    An alias stands for its model, a route for its models and for leaving the model open.
    """

    names: tuple[str, ...]
    """What is allowed, as configured."""
    models: frozenset[ModelRef]
    providers: frozenset[str]
    """Providers all of whose models are allowed."""
    is_open: bool
    """True if requests may leave the model open."""

    def permits(self, model: ModelRef) -> bool:
        """True for a model that the key may use.

        Where nothing but ``auto`` is allowed, that is every model that the gateway chooses.
        """
        if model in self.models or model.provider in self.providers:
            return True
        return self.is_any or (self.is_open and model == OWN_MODEL)

    @property
    def is_any(self) -> bool:
        """True if the key leaves the choice to the gateway, and no model is named."""
        return self.is_open and not self.models and not self.providers

    def permits_name(self, policy: Policy, name: str) -> bool:
        """True for a name of the policy that a request of the key may use."""
        if policy.leaves_open(name):
            return self.is_open
        model = policy.resolve_hint(name)
        return model is not None and not self.is_any and self.permits(model)


def allowance_of(policy: Policy, allowed: Sequence[str]) -> tuple[Allowance, list[tuple[int, str]]]:
    """The allowance of these names, and what is wrong with each by its index."""
    models: set[ModelRef] = set()
    providers: set[str] = set()
    problems: list[tuple[int, str]] = []
    is_open = False
    routes = {route.name: route for route in policy.routes}
    for index, name in enumerate(allowed):
        provider, _, rest = name.partition("/")
        resolved = policy.resolve(name)
        if rest == "*":
            if provider not in policy.wildcards and not _models_of(policy, provider):
                text = f"no entry of model_providers is of the provider {provider!r}; correct it"
                problems.append((index, text))
            providers.add(provider)
        elif resolved is not None:
            models.add(resolved[0])
        elif policy.leaves_open(name) or name == str(OWN_MODEL):
            is_open = is_open or name != str(OWN_MODEL)
            models.update([OWN_MODEL] if name == str(OWN_MODEL) else [])
        elif name in routes:
            is_open = True
            models.update(routes[name].models)
        else:
            problems.append((index, _unknown(policy, name)))
    allowance = Allowance(tuple(allowed), frozenset(models), frozenset(providers), is_open)
    return allowance, problems


def _models_of(policy: Policy, provider: str) -> bool:
    return any(model.provider == provider for model in policy.models.values())


def _unknown(policy: Policy, name: str) -> str:
    routes = [route.name for route in policy.routes]
    near = get_close_matches(name, [*policy.names(), *routes, AUTO], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; correct it, or remove it"
    return f"{name!r} is neither a model, an alias nor a route{hint}"
