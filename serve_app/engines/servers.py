"""The server that an engine asks: one with an address of its own, or a row of ``model_providers``.

Keys stay references here; only the process that asks expands them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self
from urllib.parse import urlsplit

from serve_app.config.load import LoadedConfig
from serve_app.config.locations import Location, Problem
from serve_app.config.references import references
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.schema.orchestrator import EngineSection, OrchestratorSection
from serve_app.dialects.registry import client_dialect, is_served
from serve_app.domain import DataPath, ModelRef
from serve_app.engines.faults import EngineFaultError
from serve_app.exchange import PATHS, Operation
from serve_app.providers.address import url_fault
from serve_app.providers.checks import check_url
from serve_app.providers.endpoints import Endpoint, ProviderTable
from serve_app.routing.policy import Policy, unknown_model

FIRST: Final = "orchestrator"
SECOND: Final = "orchestrator.when_unsure"
"""The keys of both engines in a configuration."""

_OPERATIONS: Final[Mapping[str, Operation]] = {
    "http": Operation.CHAT,
    "embeddings": Operation.EMBEDDINGS,
    "decision": Operation.DECISIONS,
}
"""What an engine asks of its server."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and the model that it is asked for."""

    endpoint: Endpoint
    model: ModelRef
    """As the server is called in messages, and its own name of the model."""
    priced_as: ModelRef
    """The model whose price applies."""
    key_at: str = FIRST
    """Where its key is configured, for messages."""
    path: str | None = None
    """The address below its base URL; None for that of the operation."""


@dataclass(frozen=True, slots=True)
class Servers:
    """What a configuration says of servers beside the section of an engine."""

    providers: ProviderTable = field(default_factory=lambda: ProviderTable({}, {}))
    tls_ca: str | None = None
    """A file with certificates that are trusted in addition to the system's."""

    @classmethod
    def of(cls, config: GatewayConfig, providers: ProviderTable) -> Self:
        """Those of a configuration and its table of providers."""
        return cls(providers, config.overrides.upstream_tls_ca_path)

    def named_by(
        self, section: EngineSection, operation: Operation = Operation.CHAT, key: str = FIRST
    ) -> Server:
        """The server that a section names; ``key`` is that of the section.

        Raises EngineFaultError for a model that is not in the table.
        """
        name = section.model or ""
        if section.base_url is not None:
            return own_server(section.base_url, name, section.access_key, operation, key)
        row = _row(self.providers, name)
        if row is None:
            raise EngineFaultError(
                f"{key}.model: no entry of model_providers is named {name!r}; name a gateway.yaml "
                "that has it, or set base_url"
            )
        model, endpoint = row
        if _has_unlisted_api(section):  # so that its own operations do not matter
            endpoint = replace(endpoint, operations=endpoint.operations | {operation})
        own = ModelRef(endpoint.slug, model.name)
        return Server(endpoint, own, model, f"the entry {name!r} of model_providers")


def own_server(
    base_url: str,
    model: str,
    access_key: str | None,
    operation: Operation = Operation.CHAT,
    key: str = FIRST,
) -> Server:
    """A server beside the providers of the configuration."""
    name = _display_name(base_url)
    endpoint = Endpoint(
        slug=name,
        interface="vllm",
        base_url=base_url,
        data_path=DataPath.INLINE,
        access_key=access_key,
        key_needed=False,
        operations=frozenset({operation}),
    )
    ref = ModelRef(name, model)
    return Server(endpoint, ref, ref, key)


def _display_name(base_url: str) -> str:
    """The server in messages: neither a password nor the value of a reference."""
    names = references(base_url)
    if names:
        return f"the server at {' and '.join(f'${name}' for name in names)}"
    return "the server" if url_fault(base_url) else urlsplit(base_url).netloc


def _has_unlisted_api(section: EngineSection) -> bool:
    """True for an API that is not among the operations of providers."""
    return section.engine == "decision" and section.api == "systemone"


def _row(providers: ProviderTable, name: str) -> tuple[ModelRef, Endpoint] | None:
    """The model of this full name and its first endpoint; None if there is none."""
    provider, _, bare = name.partition("/")
    if not provider or not bare:
        return None
    model = ModelRef(provider, bare)
    endpoint = providers.endpoint(model)
    return None if endpoint is None else (model, endpoint)


def check_engines(
    loaded: LoadedConfig, providers: ProviderTable, policy: Policy
) -> Iterator[Problem]:
    """The problems of the section ``orchestrator`` that need more than the section."""
    first = loaded.config.orchestrator
    yield from _check_server(loaded, ("orchestrator",), first, providers, policy)
    if first.when_unsure is not None:
        location = ("orchestrator", "when_unsure")
        yield from _check_server(loaded, location, first.when_unsure, providers, policy)
        yield from _check_both(loaded, location, first)


def _check_server(
    loaded: LoadedConfig,
    location: Location,
    section: EngineSection,
    providers: ProviderTable,
    policy: Policy,
) -> Iterator[Problem]:
    if not section.asks_server:
        return
    if section.base_url is not None:
        place = (*location, "base_url")
        if place in loaded.lines:  # else the address is that of another section
            yield from check_url(loaded, place, section.base_url)
        return
    operation = None if _has_unlisted_api(section) else _OPERATIONS[section.engine]
    why = _why_unusable(loaded, section.model or "", operation, providers, policy)
    if why is not None:
        yield loaded.problem((*location, "model"), why)


def _why_unusable(
    loaded: LoadedConfig,
    name: str,
    operation: Operation | None,
    providers: ProviderTable,
    policy: Policy,
) -> str | None:
    """Why a name does not say which model of ``model_providers`` an engine asks.

    ``operation`` is what its provider must have, None if the rows of providers do not tell.
    """
    if name.endswith("/*"):
        return f"{name!r} is a wildcard; name one of its models"
    row = _row(providers, name)
    if row is None:
        if loaded.leaves_out(name):
            return None  # its entry has a problem of its own
        unknown = unknown_model(loaded, policy, name)
        return unknown if unknown.endswith("?") else f"{unknown}, or set base_url"
    endpoint = row[1]
    if endpoint.passthrough_auth:
        key = "its entry has passthrough_auth, and the Orchestrator has no client's key"
        return f"{name!r} cannot be asked: {key}; name a model whose entry has an access_key"
    if operation is not None and not is_served(client_dialect(operation), endpoint.operations):
        other = "; name a model whose provider does"
        return f"{name!r} cannot be asked: its provider does not support {PATHS[operation]}{other}"
    return None


def _check_both(
    loaded: LoadedConfig, location: Location, first: OrchestratorSection
) -> Iterator[Problem]:
    """The problems of ``when_unsure`` beside the first engine."""
    better = first.when_unsure
    if better is None:
        return
    same = (better.engine, better.model, better.base_url)
    if same == (first.engine, first.model, first.base_url):
        message = f"is the engine and the model of {FIRST}; name a better model, or remove {SECOND}"
        yield loaded.problem((*location, "model"), message)
    elif better.engine == first.engine == "vllm":
        message = "a replica runs one vLLM; serve one of the models by a server of its own"
        yield loaded.problem((*location, "engine"), f"{message}, and ask it by engine http")
    whole_ms, own_ms = first.deadline_ms, better.deadline_ms
    if whole_ms is not None and own_ms is not None and own_ms >= whole_ms:
        message = f"{own_ms} does not fit into {FIRST}.deadline_ms ({whole_ms}), which limits both"
        yield loaded.problem(
            (*location, "deadline_ms"), f"{message} engines; lower it, or raise that"
        )
