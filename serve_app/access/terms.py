"""The limits and budgets of a configuration, compiled: of clients, teams and models."""

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from serve_app.access_errors import LimitKind
from serve_app.config.load import LoadedConfig
from serve_app.config.locations import Problem
from serve_app.config.schema.access import RequestLimits, SpendingBudget
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import ModelRef
from serve_app.routing.policy import Policy, unknown_model

NANO: Final = 1_000_000_000
"""Budgets are counted in billionths of a US dollar, as integers, so that sums are exact."""

MINUTE_S: Final = 60.0
_UNITS: Final[Mapping[str, float]] = MappingProxyType(
    {"second": 1.0, "minute": MINUTE_S, "hour": 3600.0, "day": 86400.0}
)
_VALUE_DIGITS: Final = 16

Window = Literal["day", "week", "month"]


class LimitRule(NamedTuple):
    """One limit, and the name of what counts it."""

    counter: str
    kind: LimitKind
    limit: int
    whose: str
    """For messages: ``client key 'ide'``."""
    span_s: float = MINUTE_S
    window: Window | None = None
    """Of a budget."""


class SelectorRule(NamedTuple):
    """A limit of Plano's ``ratelimits``: of the requests for a model that have a header."""

    header: str
    value: str
    """Empty: each value of the header has a limit of its own."""
    rule: LimitRule


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """The limits of models."""

    models: Mapping[str, tuple[LimitRule, ...]]
    """By full name, or ``provider/*``."""
    selectors: Mapping[str, tuple[SelectorRule, ...]]

    def __bool__(self) -> bool:
        return bool(self.models or self.selectors)

    @property
    def headers(self) -> frozenset[bytes]:
        """The headers that selectors read."""
        rules = (one for several in self.selectors.values() for one in several)
        return frozenset(rule.header.encode() for rule in rules)

    def of(self, model: ModelRef, headers: Mapping[str, str]) -> tuple[LimitRule, ...]:
        """The limits of a request for a model; ``headers`` by their lower-case names."""
        name, wildcard = str(model), f"{model.provider}/*"
        own = self.models.get(name) or self.models.get(wildcard, ())
        selected = self.selectors.get(name) or self.selectors.get(wildcard, ())
        return (*own, *_selected(selected, headers)) if selected else own


NO_TERMS: Final = ModelTerms(MappingProxyType({}), MappingProxyType({}))


def _selected(rules: tuple[SelectorRule, ...], headers: Mapping[str, str]) -> Iterator[LimitRule]:
    for header, value, rule in rules:
        sent = headers.get(header)
        if sent is None or (value and sent != value):
            continue
        if value:
            yield rule
        else:  # a value may be of any length, and may be a secret
            digest = hashlib.sha256(sent.encode("utf-8", "replace")).hexdigest()[:_VALUE_DIGITS]
            yield rule._replace(counter=f"{rule.counter}:{digest}")


def client_rules(
    config: GatewayConfig,
    name: str,
    team: str | None,
    own: RequestLimits | None,
    budget: SpendingBudget | None,
) -> tuple[LimitRule, ...]:
    """The limits and budgets of a client key, then those of its team."""
    rules = [*_rules("key", name, own), *_budget("key", name, budget)]
    section = None if team is None else config.teams.get(team)
    if team is not None and section is not None:
        rules += [*_rules("team", team, section.limits), *_budget("team", team, section.budget)]
    return tuple(rules)


_NAMED: Final = MappingProxyType({"key": "client key", "team": "team", "model": "model"})


def _rules(scope: str, name: str, limits: RequestLimits | None) -> Iterator[LimitRule]:
    if limits is None:
        return
    whose = f"{_NAMED[scope]} {name!r}"
    for kind, limit in (
        (LimitKind.REQUESTS, limits.requests_per_minute),
        (LimitKind.TOKENS, limits.tokens_per_minute),
        (LimitKind.CONCURRENT, limits.concurrent),
    ):
        if limit is not None:
            span_s = 0.0 if kind is LimitKind.CONCURRENT else MINUTE_S
            yield LimitRule(f"{scope}:{name}:{kind.value}", kind, limit, whose, span_s)


def _budget(scope: str, name: str, budget: SpendingBudget | None) -> Iterator[LimitRule]:
    if budget is not None:
        counter, limit = f"{scope}:{name}:usd:{budget.window}", round(budget.usd * NANO)
        whose = f"{_NAMED[scope]} {name!r}"
        yield LimitRule(counter, LimitKind.USD, max(1, limit), whose, 0.0, budget.window)


def compile_model_terms(loaded: LoadedConfig, policy: Policy) -> tuple[ModelTerms, list[Problem]]:
    """The limits of models, and the problems of their names."""
    problems: list[Problem] = []
    models: dict[str, tuple[LimitRule, ...]] = {}
    selectors: dict[str, tuple[SelectorRule, ...]] = {}
    for name, limits in loaded.config.model_limits.items():
        full = _full_name(loaded, policy, name, ("model_limits", name), problems)
        if full is not None:
            models[full] = tuple(_rules("model", full, limits))
    for index, entry in enumerate(loaded.config.ratelimits):
        location = ("ratelimits", index, "model")
        full = _full_name(loaded, policy, entry.model, location, problems)
        if full is None:
            continue
        header, value, unit = entry.selector.key.lower(), entry.selector.value, entry.limit.unit
        rule = LimitRule(
            f"ratelimit:{full}:{header}:{value}:{unit}",
            LimitKind.TOKENS,
            entry.limit.tokens,
            f"model {full!r} with this {header}",
            _UNITS[unit],
        )
        selectors[full] = (*selectors.get(full, ()), SelectorRule(header, value, rule))
    return ModelTerms(MappingProxyType(models), MappingProxyType(selectors)), problems


def _full_name(
    loaded: LoadedConfig,
    policy: Policy,
    name: str,
    location: tuple[str | int, ...],
    problems: list[Problem],
) -> str | None:
    """The full name of a model, or a wildcard as it is; None with a problem."""
    provider, _, rest = name.partition("/")
    if rest == "*":
        known = provider in policy.wildcards
        if not known and all(model.provider != provider for model in policy.models.values()):
            text = f"no entry of model_providers is of the provider {provider!r}; correct it"
            problems.append(loaded.problem(location, text))
        return name
    resolved = policy.resolve(name)
    if resolved is None:
        if not loaded.leaves_out(name):
            problems.append(loaded.problem(location, unknown_model(loaded, policy, name)))
        return None
    return str(resolved[0])


def window_of(window: Window, now: float) -> tuple[str, float]:
    """The name of the calendar window of a moment, UTC, and when it ends (seconds since epoch)."""
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    begin = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if window == "week":
        begin -= dt.timedelta(days=begin.weekday())
        end = begin + dt.timedelta(days=7)
    elif window == "month":
        begin = begin.replace(day=1)
        end = (begin + dt.timedelta(days=32)).replace(day=1)
    else:
        end = begin + dt.timedelta(days=1)
    return begin.date().isoformat(), end.timestamp()
