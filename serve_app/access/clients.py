"""The client keys of a configuration, compiled: whose each is, and what its holder may do."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from serve_app.access.allowance import Allowance, allowance_of
from serve_app.access.client import Client
from serve_app.access.terms import client_rules
from serve_app.access_errors import LimitKind
from serve_app.config.load import LoadedConfig
from serve_app.config.locations import Location, Problem
from serve_app.config.pydantic_errors import did_you_mean
from serve_app.config.schema.access import ClientKey
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.routing.policy import Policy

_CLIENT_SALT: Final = b"fingerpost-client:"
_NAME_SALT: Final = b"fingerpost-client-name:"
_CLIENT_DIGITS: Final = 16
_SHOWN_DIGITS: Final = 8


def compile_clients(
    loaded: LoadedConfig, policy: Policy
) -> tuple[tuple[Client | None, ...], list[Problem]]:
    """The holder of each client key, None for a key without a name; and the problems of all."""
    clients: list[Client | None] = []
    problems: list[Problem] = []
    names: set[str] = set()
    for index, entry in enumerate(loaded.config.client_keys or ()):
        if not isinstance(entry, ClientKey):
            clients.append(None)
            continue
        location: Location = ("client_keys", index)
        if entry.name in names:
            text = f"duplicate name {entry.name!r}; rename one"
            problems.append(loaded.problem((*location, "name"), text))
        names.add(entry.name)
        problems += _team_problems(loaded, (*location, "team"), entry)
        allowance: Allowance | None = None
        if entry.allow is not None:
            allowance, faults = allowance_of(policy, entry.allow)
            problems += [
                loaded.problem((*location, "allow", at), text)
                for at, text in faults
                if not loaded.leaves_out(entry.allow[at])
            ]
        clients.append(client_of(loaded.config, entry, allowance))
    return tuple(clients), problems


def client_of(config: GatewayConfig, entry: ClientKey, allowance: Allowance | None) -> Client:
    """The holder of a client key that has a name, which stays the same when the key changes."""
    rules = client_rules(config, entry.name, entry.team, entry.limits, entry.budget)
    return Client(
        id=_digest(_NAME_SALT, entry.name.encode()),
        name=entry.name,
        team=entry.team or "",
        tenant=entry.tenant or entry.name,
        allowance=allowance,
        rules=rules,
        has_budget=any(rule.kind is LimitKind.USD for rule in rules),
    )


def nameless_client(key: bytes) -> Client:
    """The holder of a key without a name."""
    digest = _digest(_CLIENT_SALT, key)
    name = f"key-{digest[:_SHOWN_DIGITS]}"
    return Client(digest, name, tenant=name)


def _digest(salt: bytes, text: bytes) -> str:
    return hashlib.sha256(salt + text).hexdigest()[:_CLIENT_DIGITS]


def _team_problems(
    loaded: LoadedConfig, location: Sequence[str | int], entry: ClientKey
) -> Iterator[Problem]:
    teams = loaded.config.teams
    if entry.team is not None and entry.team not in teams and not loaded.leaves_out(entry.team):
        hint = did_you_mean(entry.team, teams) or f"; add `{entry.team}: {{}}` to teams"
        yield loaded.problem(tuple(location), f"no entry of teams is named {entry.team!r}{hint}")
