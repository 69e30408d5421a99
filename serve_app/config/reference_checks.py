"""Checks of the values that references stand in: their form, and placeholders of examples.

Each such value is used as it is written where it contains no reference, so a reference in an unknown
form, or a placeholder, would be a key that opens the gateway or that a provider gets.
"""

from collections.abc import Iterator

from serve_app.config.load import LoadedConfig
from serve_app.config.locations import Location, Problem
from serve_app.config.placeholders import key_fault, url_fault_of_example
from serve_app.config.references import reference_fault
from serve_app.config.schema.access import ClientKey
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.schema.orchestrator import EngineSection
from serve_app.config.schema.telemetry import CollectorSection


def reference_problems(loaded: LoadedConfig) -> Iterator[Problem]:
    """Values with a reference that is not expanded, and placeholders.

    Those of base URLs and proxies are found with their other faults, in providers/checks.py.
    """
    config = loaded.config
    for location, text in _keys(config):
        fault = reference_fault(text) or key_fault(text)
        if fault is not None:
            yield loaded.problem(location, fault)
    for location, text in _addresses(config):
        fault = reference_fault(text) or url_fault_of_example(text)
        if fault is not None:
            yield loaded.problem(location, fault)


def _keys(config: GatewayConfig) -> Iterator[tuple[Location, str]]:
    """Values that are secret, with their locations."""
    yield from _client_keys(config)
    yield ("key_secret",), config.key_secret
    for index, entry in enumerate(config.model_providers):
        place: Location = ("model_providers", index)
        if entry.access_key is not None:
            yield (*place, "access_key"), entry.access_key
        for name, value in entry.headers.items():
            yield (*place, "headers", name), value
    for place, section in _engines(config):
        if section.access_key is not None:
            yield (*place, "access_key"), section.access_key
    for place, collector in _collectors(config):
        for name, value in collector.headers.items():
            yield (*place, "headers", name), value


def _client_keys(config: GatewayConfig) -> Iterator[tuple[Location, str]]:
    for index, holder in enumerate(config.client_keys or ()):
        place: Location = ("client_keys", index)
        if not isinstance(holder, ClientKey):
            yield place, holder
            continue
        yield (*place, "key"), holder.key
        if holder.previous is not None:
            yield (*place, "previous", "key"), holder.previous.key


def _addresses(config: GatewayConfig) -> Iterator[tuple[Location, str]]:
    """Addresses of Redis and of collectors, with their locations."""
    for place, collector in _collectors(config):
        if collector.endpoint is not None:
            yield (*place, "endpoint"), collector.endpoint
    if config.routing.session_cache.url is not None:
        yield ("routing", "session_cache", "url"), config.routing.session_cache.url
    if config.state_storage.url is not None:
        yield ("state_storage", "url"), config.state_storage.url
    if config.limit_storage.url is not None:
        yield ("limit_storage", "url"), config.limit_storage.url


def _engines(config: GatewayConfig) -> Iterator[tuple[Location, EngineSection]]:
    yield ("orchestrator",), config.orchestrator
    if config.orchestrator.when_unsure is not None:
        yield ("orchestrator", "when_unsure"), config.orchestrator.when_unsure


def _collectors(config: GatewayConfig) -> Iterator[tuple[Location, CollectorSection]]:
    if config.telemetry.traces is not None:
        yield ("telemetry", "traces"), config.telemetry.traces
    if config.telemetry.metrics is not None:
        yield ("telemetry", "metrics"), config.telemetry.metrics
