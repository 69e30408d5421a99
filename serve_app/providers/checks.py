"""What can be wrong with an entry of ``model_providers``, each with a way out."""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from serve_app.config.load import LoadedConfig
from serve_app.config.locations import Location, Problem
from serve_app.config.pydantic_errors import did_you_mean
from serve_app.config.references import CONTROL_CHARACTER, references
from serve_app.config.schema.gateway import ModelProvider
from serve_app.providers.address import url_fault
from serve_app.providers.table import AUTH_HEADERS, INTERFACES, PROVIDERS

Seen: TypeAlias = set[tuple[str, str | None, str | None]]
"""Entries so far: their models, base URLs and keys."""

_OURS: Final = frozenset({"connection", "content-length", "host", "transfer-encoding"})
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST: Final = re.compile(r"[^\s/?#@\\]+")


def interface_of(entry: ModelProvider) -> str:
    """Whose row holds for an entry: its ``provider_interface``'s, else the provider's own.

    Some providers have a row here and none in Plano, whose files must say an interface for
    them: ``openai``, which the row knows better.
    """
    provider, interface = entry.model.partition("/")[0], entry.provider_interface
    if interface is None or (interface == "openai" and provider in PROVIDERS):
        return provider
    return interface


def entry_problems(
    loaded: LoadedConfig, place: Location, entry: ModelProvider, seen: Seen
) -> Iterator[Problem]:
    """Everything that is wrong with an entry; it is added to those ``seen``."""
    provider, slash, name = entry.model.partition("/")
    if not (provider and slash and name):
        yield loaded.problem(
            (*place, "model"),
            f"{entry.model!r} names no provider; write provider/name, or provider/* for all names",
        )
        return
    spec = PROVIDERS.get(provider)
    usual = None if spec is None else spec.base_url
    same = (entry.model, (entry.base_url or usual or "").rstrip("/"), entry.access_key)
    if same in seen:
        way_out = "give it another base_url or access_key, or take it out"
        yield loaded.problem((*place, "model"), f"{entry.model!r} stands there twice; {way_out}")
    seen.add(same)
    yield from _interface_problems(loaded, place, entry, provider)
    if entry.name is not None and name == "*":
        yield loaded.problem((*place, "name"), "a wildcard can't have a name; hints name one model")
    if entry.default and name == "*":
        yield loaded.problem((*place, "default"), "a wildcard can't be the default; name one model")
    if entry.base_url is not None:
        yield from url_problems(loaded, (*place, "base_url"), entry.base_url)
    if entry.http_host is not None and not _HOST.fullmatch(entry.http_host):
        yield loaded.problem(
            (*place, "http_host"),
            f"must be a host, such as api.example.com, not {entry.http_host!r}",
        )
    yield from _header_problems(loaded, (*place, "headers"), entry)
    if entry.passthrough_auth:
        yield from _passthrough_problems(loaded, (*place, "passthrough_auth"), entry)


def _interface_problems(
    loaded: LoadedConfig, place: Location, entry: ModelProvider, provider: str
) -> Iterator[Problem]:
    spec, interface = PROVIDERS.get(provider), entry.provider_interface
    refused = PROVIDERS[interface_of(entry)].refused if interface_of(entry) in PROVIDERS else None
    if refused is not None:
        key = "model" if interface is None else "provider_interface"
        yield loaded.problem((*place, key), f"{interface_of(entry)!r} {refused}")
        return
    if spec is None:
        yield from _unknown_provider(loaded, place, entry, provider)
    elif interface is not None and not spec.any_interface:
        yield loaded.problem(
            (*place, "provider_interface"),
            f"{provider!r} is a provider that we know; take provider_interface out",
        )
    elif spec.base_url is None and entry.base_url is None:
        yield loaded.problem(
            place, f"{provider!r} has no public address; add base_url, such as {spec.example}"
        )
    if interface is not None and interface not in INTERFACES:
        yield loaded.problem(
            (*place, "provider_interface"),
            f"must be one of {', '.join(INTERFACES)}, not {interface!r}",
        )


def _unknown_provider(
    loaded: LoadedConfig, place: Location, entry: ModelProvider, provider: str
) -> Iterator[Problem]:
    words = {"base_url": "base_url", "provider_interface": "provider_interface, such as openai"}
    lacking = [text for key, text in words.items() if getattr(entry, key) is None]
    if lacking:
        yield loaded.problem(
            (*place, "model"),
            f"{provider!r} is no provider that we know; "
            f"add {' and '.join(lacking)}{did_you_mean(provider, INTERFACES)}",
        )


def url_problems(loaded: LoadedConfig, place: Location, url: str) -> Iterator[Problem]:
    """Everything that is wrong with a base URL; one with references is checked where it is used."""
    fault = _syntax_fault(url) if references(url) else url_fault(url)
    if fault:
        yield loaded.problem(place, fault)


def _syntax_fault(url: str) -> str | None:
    """What is wrong with a URL whatever its references stand for; the rest is for the replica."""
    try:
        urlsplit(url)
    except ValueError as error:
        return f"is no URL: {error}"
    return None


def _header_problems(
    loaded: LoadedConfig, place: Location, entry: ModelProvider
) -> Iterator[Problem]:
    seen: set[str] = set()
    for written, value in entry.headers.items():
        name = written.lower()
        if not _TOKEN.fullmatch(written):
            yield loaded.problem((*place, written), "is no name of a header")
        elif name in _OURS:
            yield loaded.problem(
                (*place, written), _WAY_OUT.get(name, "is ours to set; take it out")
            )
        elif name in seen:
            yield loaded.problem(
                (*place, written), "stands there twice, in other letters; keep one"
            )
        elif CONTROL_CHARACTER.search(value):
            yield loaded.problem((*place, written), "holds a line break or another control sign")
        seen.add(name)


_WAY_OUT: Final = {"host": "is ours to set; write http_host in place of it"}


def _passthrough_problems(
    loaded: LoadedConfig, place: Location, entry: ModelProvider
) -> Iterator[Problem]:
    if entry.access_key is not None:
        yield loaded.problem(
            place, "the client's key or access_key goes to the provider; take one of them out"
        )
    if any(name.lower() in AUTH_HEADERS for name in entry.headers):
        yield loaded.problem(
            place, "the client's key or that in headers goes to the provider; take one of them out"
        )
    if loaded.config.client_keys is not None:
        yield loaded.problem(
            place,
            "a client can show one key, and client_keys asks for one of the gateway's; "
            "take one of the two out",
        )
