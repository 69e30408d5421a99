"""Checks of the entries of ``model_providers``."""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from serve_app.config.load import LoadedConfig
from serve_app.config.locations import Location, Problem
from serve_app.config.placeholders import url_fault_of_example
from serve_app.config.pydantic_errors import did_you_mean
from serve_app.config.references import (
    CONTROL_CHARACTER,
    is_file,
    reference_fault,
    references,
)
from serve_app.config.schema.providers import NO_PROXY, ModelProvider
from serve_app.domain import OWN_MODEL
from serve_app.providers.address import url_fault
from serve_app.providers.proxies import proxy_fault
from serve_app.providers.table import AUTH_HEADERS, INTERFACES, PROVIDERS

EntryIdentity: TypeAlias = tuple[str, str, str | None]
"""Model, base URL and key of an entry: entries that are equal in all three are duplicates."""

_RESERVED_HEADERS: Final = frozenset({"connection", "content-length", "host", "transfer-encoding"})
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST: Final = re.compile(r"[^\s/?#@\\]+")


def interface_of(entry: ModelProvider) -> str:
    """The row of ``PROVIDERS`` for an entry: its ``provider_interface``, else its provider.

    Some providers have a row here but none in Plano, whose files must set ``openai`` for them:
    there the row is more precise.
    """
    provider, interface = entry.model.partition("/")[0], entry.provider_interface
    if interface is None or (interface == "openai" and provider in PROVIDERS):
        return provider
    return interface


def check_entry(
    loaded: LoadedConfig, location: Location, entry: ModelProvider, earlier: set[EntryIdentity]
) -> Iterator[Problem]:
    """The problems of an entry, which is added to the ``earlier`` ones."""
    provider, slash, name = entry.model.partition("/")
    if not (provider and slash and name):
        yield loaded.problem(
            (*location, "model"),
            f"{entry.model!r} has no provider; write provider/name, or provider/* for all models",
        )
        return
    if provider == OWN_MODEL.provider:
        yield loaded.problem(
            (*location, "model"),
            f"the provider name {provider!r} is reserved for the gateway itself; use another name",
        )
        return
    spec = PROVIDERS.get(provider)
    usual = None if spec is None else spec.base_url
    identity = (entry.model, (entry.base_url or usual or "").rstrip("/"), entry.access_key)
    if identity in earlier:
        fix = "set another base_url or access_key, or remove it"
        yield loaded.problem((*location, "model"), f"duplicate entry {entry.model!r}; {fix}")
    earlier.add(identity)
    yield from _check_interface(loaded, location, entry, provider)
    if entry.name is not None and name == "*":
        yield loaded.problem((*location, "name"), "a wildcard cannot have a name; remove it")
    if entry.display_name is not None and name == "*":
        yield loaded.problem(
            (*location, "display_name"), "a wildcard cannot have a display name; remove it"
        )
    if entry.default and name == "*":
        yield loaded.problem(
            (*location, "default"), "a wildcard cannot be the default; name one model"
        )
    if entry.base_url is not None:
        yield from check_url(loaded, (*location, "base_url"), entry.base_url)
    if entry.http_host is not None and not _HOST.fullmatch(entry.http_host):
        yield loaded.problem(
            (*location, "http_host"),
            f"must be a host, such as api.example.com, not {entry.http_host!r}",
        )
    yield from _check_proxy(loaded, (*location, "proxy"), entry.proxy)
    yield from _check_headers(loaded, (*location, "headers"), entry)
    if entry.passthrough_auth:
        yield from _check_passthrough(loaded, (*location, "passthrough_auth"), entry)


def _check_interface(
    loaded: LoadedConfig, location: Location, entry: ModelProvider, provider: str
) -> Iterator[Problem]:
    spec, interface = PROVIDERS.get(provider), entry.provider_interface
    refused = PROVIDERS[interface_of(entry)].refused if interface_of(entry) in PROVIDERS else None
    if refused is not None:
        key = "model" if interface is None else "provider_interface"
        yield loaded.problem((*location, key), f"{interface_of(entry)!r} {refused}")
        return
    if spec is None:
        yield from _check_unknown_provider(loaded, location, entry, provider)
    elif interface is not None and not spec.any_interface:
        yield loaded.problem(
            (*location, "provider_interface"),
            f"{provider!r} is a known provider; remove provider_interface",
        )
    elif spec.base_url is None and entry.base_url is None:
        yield loaded.problem(
            location, f"{provider!r} has no public address; add base_url, such as {spec.example}"
        )
    if interface is not None and interface not in INTERFACES:
        yield loaded.problem(
            (*location, "provider_interface"),
            f"must be one of {', '.join(INTERFACES)}, not {interface!r}",
        )


def _check_unknown_provider(
    loaded: LoadedConfig, location: Location, entry: ModelProvider, provider: str
) -> Iterator[Problem]:
    needed = {"base_url": "base_url", "provider_interface": "provider_interface, such as openai"}
    missing = [text for key, text in needed.items() if getattr(entry, key) is None]
    if missing:
        yield loaded.problem(
            (*location, "model"),
            f"unknown provider {provider!r}; "
            f"add {' and '.join(missing)}{did_you_mean(provider, INTERFACES)}",
        )


def check_url(loaded: LoadedConfig, location: Location, url: str) -> Iterator[Problem]:
    """The problems of a base URL; one with references is checked again where it is used."""
    fault = reference_fault(url)
    fault = fault or (_syntax_fault(url) if references(url) else url_fault(url))
    if fault:
        yield loaded.problem(location, fault)


def _syntax_fault(url: str) -> str | None:
    """The fault that a URL has for any values of its references; the replica finds others."""
    placeholder = url_fault_of_example(url)
    if placeholder is not None:
        return placeholder
    try:
        urlsplit(url)
    except ValueError as error:
        return f"is not a URL: {error}"
    return None


def _check_proxy(loaded: LoadedConfig, location: Location, proxy: str | None) -> Iterator[Problem]:
    """The problem of a proxy; one with references is checked where it is used."""
    if proxy is None or proxy == NO_PROXY or is_file(proxy):
        return
    fault = reference_fault(proxy) or url_fault_of_example(proxy)
    if fault is not None:
        yield loaded.problem(location, fault)
        return
    fault = None if references(proxy) else proxy_fault(proxy)
    if fault is not None:
        yield loaded.problem(location, f"{fault}, or `{NO_PROXY}` to use none")


def _check_headers(
    loaded: LoadedConfig, location: Location, entry: ModelProvider
) -> Iterator[Problem]:
    earlier: set[str] = set()
    for written, value in entry.headers.items():
        name = written.lower()
        if not _HEADER_NAME.fullmatch(written):
            yield loaded.problem((*location, written), "is not a valid header name")
        elif name in _RESERVED_HEADERS:
            fix = "use http_host instead" if name == "host" else "remove it"
            yield loaded.problem((*location, written), f"is set by the gateway; {fix}")
        elif name in earlier:
            yield loaded.problem(
                (*location, written), "duplicate header (compared case-insensitively); keep one"
            )
        elif CONTROL_CHARACTER.search(value):
            yield loaded.problem(
                (*location, written), "contains a line break or another control character"
            )
        earlier.add(name)


def _check_passthrough(
    loaded: LoadedConfig, location: Location, entry: ModelProvider
) -> Iterator[Problem]:
    if entry.access_key is not None:
        yield loaded.problem(
            location, "conflicts with access_key, because only one key is sent; remove one of them"
        )
    if any(name.lower() in AUTH_HEADERS for name in entry.headers):
        yield loaded.problem(
            location,
            "conflicts with the key in headers, because only one key is sent; remove one of them",
        )
