"""The rules of a configuration, compiled, and the problems of their entries."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from serve_app.config.load import LoadedConfig
from serve_app.config.locations import Location, Problem
from serve_app.config.pydantic_errors import did_you_mean
from serve_app.config.schema.rules import RoutingRule, RuleMatch
from serve_app.domain import AUTO, ModelRef, Reason
from serve_app.routing.policy import Policy, unknown_model
from serve_app.routing.rules import (
    Condition,
    HeaderCondition,
    NameCondition,
    Pattern,
    Rule,
    SizeCondition,
)

CLASS_HEADER: Final = "x-claude-code-request-class"
AGENT_HEADER: Final = "x-claude-code-agent-type"
"""Source: Claude Code 2.1, sent with ``CLAUDE_CODE_GATEWAY_HINT_HEADERS=1``."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CREDENTIALS: Final = frozenset(
    {
        "api-key",
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-api-key",
        "x-fingerpost-key",
        "x-goog-api-key",
    }
)
"""Headers whose values must not decide, because ``/v1/route`` shows what decided."""

_RULES: Final = "routing_rules"


def with_rules(loaded: LoadedConfig, policy: Policy) -> tuple[Policy, list[Problem]]:
    """The policy with the rules of its configuration, and the problems of their entries."""
    rules: list[Rule] = []
    problems: list[Problem] = []
    for index, entry in enumerate(loaded.config.routing_rules):
        rule = Rule(entry.name, _conditions(entry.match), _model(policy, entry.model), entry.route)
        found = [
            *_target_problems(loaded, policy, entry),
            *_match_problems(loaded, policy, entry.match),
            *_conflicts(rule, rules),
        ]
        problems += (loaded.problem((_RULES, index, *place), text) for place, text in found)
        rules.append(rule)
    return replace(policy, rules=tuple(rules)), problems


def _conditions(match: RuleMatch) -> tuple[Condition, ...]:
    headers = {
        **({} if match.request_class is None else {CLASS_HEADER: match.request_class}),
        **({} if match.agent_type is None else {AGENT_HEADER: match.agent_type}),
    }
    pairs = [*headers.items(), *(match.headers or {}).items()]
    conditions: list[Condition] = [
        HeaderCondition(name.lower(), _patterns(texts)) for name, texts in pairs
    ]
    if match.alias is not None:
        conditions.append(NameCondition(frozenset(match.alias)))
    if match.body_bytes is not None:
        conditions.append(SizeCondition(match.body_bytes.at_least, match.body_bytes.at_most))
    return tuple(conditions)


def _patterns(texts: Iterable[str]) -> tuple[Pattern, ...]:
    """Sorted, so that the order of a list does not make two conditions differ."""
    unique = {text.strip().casefold(): Pattern.of(text) for text in texts}
    return tuple(unique[key] for key in sorted(unique))


def _model(policy: Policy, name: str | None) -> ModelRef | None:
    resolved = None if name is None else policy.resolve(name)
    return None if resolved is None or resolved[1] is Reason.ALIAS else resolved[0]


_Found = Iterator[tuple[Location, str]]
"""Locations within a rule, each with what is wrong there."""


def _target_problems(loaded: LoadedConfig, policy: Policy, entry: RoutingRule) -> _Found:
    if entry.model is None and entry.route is None:
        yield (), "names neither a model nor a route; add `model:` or `route:`"
    if entry.model is not None and entry.route is not None:
        yield ("route",), "conflicts with model; keep one of them"
    name = entry.model
    if name is not None and _model(policy, name) is None and not loaded.leaves_out(name):
        yield ("model",), unknown_model(loaded, policy, name)
    name, routes = entry.route, [route.name for route in policy.routes]
    if name is not None and name not in routes and name not in _written_routes(loaded):
        fix = did_you_mean(name, routes) or "; add it to routing_preferences"
        yield ("route",), f"no entry of routing_preferences is named {name!r}{fix}"


def _written_routes(loaded: LoadedConfig) -> Iterable[object]:
    """The names of all routes of a file, also of those that were left out for other problems."""
    entries = loaded.form.values.get("routing_preferences")
    if isinstance(entries, list):
        return [entry.get("name") for entry in entries if isinstance(entry, dict)]
    return ()


def _written_aliases(loaded: LoadedConfig) -> Iterable[str]:
    """As ``_written_routes``, of all aliases."""
    entries = loaded.form.values.get("model_aliases")
    return entries if isinstance(entries, dict) else ()


def _match_problems(loaded: LoadedConfig, policy: Policy, match: RuleMatch) -> _Found:
    if not _conditions(match):
        yield ("match",), "must not be empty; add a condition, such as `request_class: compaction`"
    for name in match.headers or ():
        place = ("match", "headers", name)
        if not _HEADER_NAME.fullmatch(name):
            yield place, "is not a valid header name"
        elif name.lower() in _CREDENTIALS:
            yield place, "holds a credential, which rules do not read; match another header"
    for position, name in enumerate(match.alias or ()):
        fault = _name_fault(loaded, policy, name)
        if fault is not None:
            yield ("match", "alias", position), fault
    size = match.body_bytes
    if size is None:
        return
    if size.at_least is None and size.at_most is None:
        yield ("match", "body_bytes"), "must not be empty; add `at_least:` or `at_most:`"
    elif size.at_least is not None and size.at_most is not None and size.at_least > size.at_most:
        yield ("match", "body_bytes", "at_most"), f"must be at least at_least, {size.at_least}"


def _name_fault(loaded: LoadedConfig, policy: Policy, name: str) -> str | None:
    """Why no request that rules decide asks for a name; None if one may."""
    if name == AUTO or name in policy.aliases:
        is_open = name == AUTO or policy.aliases[name] is None
    elif name in _written_aliases(loaded):  # left out for another problem
        return None
    elif policy.resolve(name) is not None:
        is_open = False
    else:
        near = did_you_mean(name, [AUTO, *policy.aliases])
        return f"no entry of model_aliases is named {name!r}{near or '; add it with target auto'}"
    if is_open or policy.always_route:
        return None
    return (
        f"{name!r} names a model, so requests for it are not decided by rules; name an alias "
        "whose target is auto, or set `overrides.always_route: true`"
    )


def _conflicts(rule: Rule, earlier: Iterable[Rule]) -> _Found:
    """Problems of a rule with those before it, which are asked first."""
    conditions = frozenset(rule.conditions)
    for other in earlier:
        if other.name == rule.name:
            yield ("name",), f"duplicate rule {rule.name!r}; keep one"
        # a request with routes of its own may skip a rule that names a route
        may_reach = other.route is not None and rule.route is None
        if conditions and frozenset(other.conditions) == conditions and not may_reach:
            yield (
                ("match",),
                f"same conditions as rule {other.name!r}, which is asked first; change or remove one",
            )
