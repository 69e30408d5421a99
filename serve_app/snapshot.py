"""One configuration, compiled: immutable, versioned."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.access.clients import compile_clients
from serve_app.access.keys import Access
from serve_app.access.origins import origin_problem
from serve_app.access.terms import NO_TERMS, ModelTerms, compile_model_terms
from serve_app.affinity.identify import (
    wanted_headers,
)
from serve_app.config.load import LoadedConfig, load, raise_problems
from serve_app.config.locations import Problem
from serve_app.config.reference_checks import reference_problems
from serve_app.config.references import absolute
from serve_app.config.schema.access import ClientKey
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import FALLBACK_HEADER, ModelRef
from serve_app.engines.servers import check_engines
from serve_app.engines.threshold import ThresholdInForce, threshold_in_force
from serve_app.providers.endpoints import ProviderTable, build_table
from serve_app.routing.compiled_rules import with_rules
from serve_app.routing.policy import Policy, compile_policy, unknown_model
from serve_app.routing.rules import read_headers_of


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One configuration, compiled: immutable, versioned, passed on by reference."""

    config: GatewayConfig
    policy: Policy
    providers: ProviderTable
    threshold: ThresholdInForce
    """How an engine's probabilities become a decision."""
    access: Access = field(compare=False)
    """Who may ask."""
    deciding_headers: frozenset[bytes] = frozenset()
    """Names of the headers that decide about sessions or match rules, in lower case."""
    model_terms: ModelTerms = NO_TERMS
    """The limits of models."""
    baseline: ModelRef | None = None
    """The model whose price savings are compared with."""

    @property
    def version(self) -> str:
        """That of the policy, and of the file."""
        return self.policy.version


def compile_snapshot(file: str | Path | None, environ: Mapping[str, str] | None = None) -> Snapshot:
    """Compiles a configuration file. Raises ConfigError with all its problems.

    Without a file, every provider is served that ``environ`` has a key for. ``environ`` is this
    process's own by default.
    """
    loaded = load(file, environ)
    providers, problems = build_table(loaded)
    policy, more = compile_policy(loaded)
    policy, problems_of_rules = with_rules(loaded, policy)
    more += problems_of_rules
    routing = loaded.config.routing
    if routing.session_cache.type == "redis" and routing.session_cache.url is None:
        place = ("routing", "session_cache")
        more.append(loaded.problem(place, "type redis needs `url: redis://host:6379`"))
    if loaded.config.state_storage.type == "redis" and loaded.config.state_url is None:
        text = "type redis needs `url: redis://host:6379`, or routing.session_cache.url"
        more.append(loaded.problem(("state_storage",), text))
    more += reference_problems(loaded)
    everyone = origin_problem(loaded.config)
    if everyone is not None:
        more.append(loaded.problem(*everyone))
    more += _unknown_prices(loaded, policy)
    clients, problems_of_keys = compile_clients(loaded, policy)
    terms, problems_of_limits = compile_model_terms(loaded, policy)
    more += [*problems_of_keys, *problems_of_limits, *_limit_storage(loaded)]
    baseline = _baseline(loaded, policy, more)
    more += check_engines(loaded, providers, policy)
    threshold, faults = threshold_in_force(loaded.config.orchestrator)
    more += (loaded.problem(*fault) for fault in faults)
    raise_problems(loaded, [*problems, *more])
    wanted = wanted_headers(routing.session_headers, routing.session_cache.tenant_header)
    wanted |= read_headers_of(policy.rules) | {FALLBACK_HEADER.encode()} | terms.headers
    config = _with_threshold(_with_key_files(loaded), threshold)
    access = Access(config, os.environ if environ is None else environ, clients=clients)
    return Snapshot(config, policy, providers, threshold, access, wanted, terms, baseline)


def _with_threshold(config: GatewayConfig, threshold: ThresholdInForce) -> GatewayConfig:
    """The configuration with the ``min_confidence`` that was picked for ``max_error``, if any."""
    if threshold.max_error is None:
        return config
    update = {"min_confidence": threshold.min_confidence}
    section = config.orchestrator.model_copy(update=update)
    return config.model_copy(update={"orchestrator": section})


def _with_key_files(loaded: LoadedConfig) -> GatewayConfig:
    """The configuration with absolute paths of the files that hold client keys."""
    config = loaded.config
    if config.client_keys is None:
        return config
    folder = Path(loaded.file).absolute().parent
    keys = [_placed(key, folder) for key in config.client_keys]
    secret = absolute(config.key_secret, folder)
    return config.model_copy(update={"client_keys": keys, "key_secret": secret})


def _placed(entry: str | ClientKey, folder: Path) -> str | ClientKey:
    """A client key with an absolute path of its file."""
    if not isinstance(entry, ClientKey):
        return absolute(entry, folder)
    previous = entry.previous
    if previous is not None:
        previous = previous.model_copy(update={"key": absolute(previous.key, folder)})
    return entry.model_copy(update={"key": absolute(entry.key, folder), "previous": previous})


def _limit_storage(loaded: LoadedConfig) -> Iterator[Problem]:
    config = loaded.config
    if config.has_shared_limits and config.counts_in == "redis" and config.counts_url is None:
        text = "type redis needs `url: redis://host:6379`, or routing.session_cache.url"
        yield loaded.problem(("limit_storage",), text)


def _baseline(loaded: LoadedConfig, policy: Policy, problems: list[Problem]) -> ModelRef | None:
    """The model of ``savings.baseline``, which the gateway need not serve."""
    if loaded.config.savings is None:
        return None
    name = loaded.config.savings.baseline
    resolved = policy.resolve(name)
    if resolved is not None:
        return resolved[0]
    provider, _, rest = name.partition("/")
    if provider and rest:
        return ModelRef(provider, rest)
    text = f"{name!r} must be written provider/name; correct it"
    problems.append(loaded.problem(("savings", "baseline"), text))
    return None


def _unknown_prices(loaded: LoadedConfig, policy: Policy) -> Iterator[Problem]:
    for name in loaded.config.prices:
        found = policy.resolve(name)
        if found is None and not loaded.leaves_out(name):
            yield loaded.problem(("prices", name), unknown_model(loaded, policy, name))
        elif found is not None and str(found[0]) != name:
            yield loaded.problem(("prices", name), f"write the model in full: {found[0]}")
