"""The table of endpoints, compiled from a configuration and the rows of providers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar
from urllib.parse import urlsplit

from serve_app.config.load import LoadedConfig
from serve_app.config.locations import Problem
from serve_app.config.references import FILE, absolute, missing, references
from serve_app.config.schema.entry_limits import EntryLimits
from serve_app.config.schema.providers import ModelProvider
from serve_app.config.schema.timeouts import ProviderTimeouts
from serve_app.dialects.json_edits import Quirk
from serve_app.domain import DataPath, Headers, ModelRef
from serve_app.exchange import Operation
from serve_app.providers.address import operations_at, slug
from serve_app.providers.checks import EntryIdentity, check_entry, interface_of
from serve_app.providers.table import (
    AUTH_HEADERS,
    CACHE_KEY_OPERATIONS,
    PROVIDERS,
    ProviderSpec,
    host_headers,
    quirk_of,
)

SHARED_SLUG: Final = "shared"
"""The provider client for wildcards and for every provider without its own deployment."""

_Name = TypeVar("_Name", ModelRef, str)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address and authentication of one entry, a model or a wildcard.

    ``base_url``, ``access_key`` and the values of ``headers`` are as configured: references are
    not expanded, but paths of files are absolute.
    """

    slug: str
    interface: str
    base_url: str
    data_path: DataPath
    access_key: str | None = field(repr=False)
    key_needed: bool
    passthrough_auth: bool = False
    """The client's own key is sent in place of the gateway's."""
    headers: Headers = field(default=(), repr=False)
    http_host: str | None = None
    proxy: str | None = field(default=None, repr=False)
    """The URL of its proxy as configured, NO_PROXY for none, None for the environment's."""
    tls_ca: str | None = None
    """A file of certificates of its own; None for the general one."""
    timeouts: ProviderTimeouts = field(default=ProviderTimeouts(), repr=False)
    operations: frozenset[Operation] = frozenset()
    """The operations of its API."""
    cache_key_in: frozenset[Operation] = frozenset()
    """Those that get a ``prompt_cache_key`` of the session."""
    entry: str = field(default="", compare=False)
    """What its entry calls the model: ``provider/name``, or ``provider/*`` for a wildcard."""
    weight: float = field(default=1.0, compare=False)
    """Its share of the requests for a model that has several; 0 for a spare."""
    limits: EntryLimits | None = field(default=None, compare=False)
    """How much it gets of each replica; None for any amount."""
    fingerprint: str = field(init=False, compare=False)
    """Hash of address and authentication as configured, the same in every process: 16 hex digits."""

    def __post_init__(self) -> None:
        parts = (self.slug, self.base_url, self.access_key or "", *chain(*self.headers))
        digest = blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=8)
        object.__setattr__(self, "fingerprint", digest.hexdigest())

    def __hash__(self) -> int:
        """That of the fingerprint: equal endpoints have equal ones, and it is there already."""
        return hash(self.fingerprint)

    @property
    def has_key_header(self) -> bool:
        """True if ``headers`` contain a key, which replaces ``access_key``."""
        return any(name in AUTH_HEADERS for name, _ in self.headers)

    def quirk(self, name: str, operation: Operation) -> Quirk:
        """The changes that a model of the endpoint needs in the body of an operation."""
        return quirk_of(self.interface, name, operation)

    @property
    def own_fields(self) -> frozenset[str]:
        """Top-level fields of its API that may have the name of one of the gateway's."""
        return PROVIDERS[self.interface].own_fields

    @property
    def keeps_answers(self) -> bool:
        """True if its API keeps responses unless a request says otherwise."""
        return PROVIDERS[self.interface].keeps_answers

    def missing(self, environ: Mapping[str, str]) -> list[str]:
        """Unset variables, unusable files as ``file:PATH``, and ``access_key`` if it lacks a key."""
        texts = [
            *(self.base_url, self.access_key or "", self.proxy or ""),
            *(value for _, value in self.headers),
        ]
        names = sorted({name for text in texts for name in missing(text, environ)})
        return [*names, "access_key"] if self.lacks_key else names

    @property
    def lacks_key(self) -> bool:
        """True if a key is needed, but neither configured nor passed through."""
        has_key = self.access_key is not None or self.passthrough_auth or self.has_key_header
        return self.key_needed and not has_key


@dataclass(frozen=True, slots=True)
class ProviderTable:
    """All endpoints of a configuration, in its order."""

    of_models: Mapping[ModelRef, tuple[Endpoint, ...]]
    of_wildcards: Mapping[str, tuple[Endpoint, ...]]
    """By the prefix of the model's name."""
    use_credentials: bool = False
    """True if an endpoint gets the client's own key."""
    has_limits: bool = False
    """True if an endpoint has limits of its own."""

    @property
    def models(self) -> dict[ModelRef, Endpoint]:
        """The first endpoint of each model."""
        return {model: endpoints[0] for model, endpoints in self.of_models.items()}

    @property
    def wildcards(self) -> dict[str, Endpoint]:
        """The first endpoint of each wildcard."""
        return {prefix: endpoints[0] for prefix, endpoints in self.of_wildcards.items()}

    def endpoints_of(self, model: ModelRef) -> tuple[Endpoint, ...]:
        """Endpoints of a model: its own entries, else its wildcard's. Empty if unknown."""
        return self.of_models.get(model) or self.of_wildcards.get(model.provider, ())

    def endpoint(self, model: ModelRef, ordinal: int = 0) -> Endpoint | None:
        """One of them, the first if the ordinal is out of range. Returns None for an unknown model."""
        endpoints = self.endpoints_of(model)
        if not endpoints:
            return None
        return endpoints[ordinal if 0 <= ordinal < len(endpoints) else 0]

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint once."""
        tuples = (*self.of_models.values(), *self.of_wildcards.values())
        return list(dict.fromkeys(endpoint for endpoints in tuples for endpoint in endpoints))

    def data_paths(self) -> dict[str, DataPath]:
        """Every slug with its data path."""
        return {endpoint.slug: endpoint.data_path for endpoint in self.endpoints()}


def build_table(loaded: LoadedConfig) -> tuple[ProviderTable, list[Problem]]:
    """The endpoints of a configuration, and the problems of its ``model_providers``."""
    problems: list[Problem] = []
    valid: list[tuple[int, ModelProvider]] = []
    earlier: set[EntryIdentity] = set()
    for index, entry in enumerate(loaded.config.model_providers):
        entry_problems = list(check_entry(loaded, ("model_providers", index), entry, earlier))
        problems += entry_problems
        if not entry_problems:
            valid.append((index, entry))
    data_paths, conflicts = _data_paths(loaded, valid)
    folder = Path(loaded.file).absolute().parent
    models: dict[ModelRef, tuple[Endpoint, ...]] = {}
    wildcards: dict[str, tuple[Endpoint, ...]] = {}
    for _, entry in valid:
        provider, _, name = entry.model.partition("/")
        endpoint = _endpoint(entry, data_paths, folder)
        if name == "*":
            _add(wildcards, provider, endpoint)
        else:
            _add(models, ModelRef(provider, name), endpoint)
    table = ProviderTable(
        MappingProxyType(models),
        MappingProxyType(wildcards),
        any(entry.passthrough_auth for _, entry in valid),
        any(entry.limits is not None for _, entry in valid),
    )
    return table, problems + conflicts


def _add(table: dict[_Name, tuple[Endpoint, ...]], name: _Name, endpoint: Endpoint) -> None:
    table[name] = (*table.get(name, ()), endpoint)


def _data_paths(
    loaded: LoadedConfig, entries: list[tuple[int, ModelProvider]]
) -> tuple[dict[str, DataPath], list[Problem]]:
    """One data path per slug: as configured, else dedicated, or shared for wildcards alone."""
    configured: dict[str, DataPath] = {}
    defaults: dict[str, DataPath] = {}
    problems: list[Problem] = []
    for index, entry in entries:
        name = _slug_of(entry)
        if not entry.model.endswith("/*"):
            defaults[name] = DataPath.DEDICATED
        if entry.data_path is None:
            continue
        if configured.setdefault(name, entry.data_path) is not entry.data_path:
            problems.append(
                loaded.problem(
                    ("model_providers", index, "data_path"),
                    f"another entry of provider {name!r} sets {configured[name].value}; "
                    "set the same in both",
                )
            )
    names = {_slug_of(entry) for _, entry in entries}
    return {
        name: configured.get(name, defaults.get(name, DataPath.SHARED)) for name in sorted(names)
    }, problems


def _endpoint(entry: ModelProvider, data_paths: Mapping[str, DataPath], folder: Path) -> Endpoint:
    interface = interface_of(entry)
    spec = PROVIDERS[interface]
    name = _slug_of(entry)
    base_url = entry.base_url or spec.base_url or ""
    key = entry.access_key
    return Endpoint(
        slug=name,
        interface=interface,
        base_url=base_url,
        data_path=data_paths[name],
        access_key=None if key is None else absolute(key, folder),
        key_needed=spec.key_needed and (entry.base_url is None or _is_customer_url(entry, spec)),
        passthrough_auth=entry.passthrough_auth,
        headers=_headers(entry, base_url, folder),
        http_host=entry.http_host,
        proxy=None if entry.proxy is None else absolute(entry.proxy, folder),
        tls_ca=None if entry.tls_ca_path is None else _beside(folder, entry.tls_ca_path),
        timeouts=entry.timeouts,
        entry=entry.model,
        weight=entry.weight,
        limits=entry.limits,
        operations=frozenset(entry.operations or operations_at(base_url, interface)),
        cache_key_in=_cache_key_in(entry, spec, is_usual=name == slug(interface, None)),
    )


def _beside(folder: Path, name: str) -> str:
    """The absolute path of a file that the configuration names."""
    return absolute(f"{FILE}{name}", folder).removeprefix(FILE)


def _cache_key_in(
    entry: ModelProvider, spec: ProviderSpec, *, is_usual: bool
) -> frozenset[Operation]:
    """The operations that get a ``prompt_cache_key``; ``is_usual``: at the row's own address.

    Other servers that speak the same API may refuse a field that they do not know.
    """
    if entry.prompt_cache_key is None:
        return spec.cache_key_in if is_usual else frozenset()
    return CACHE_KEY_OPERATIONS if entry.prompt_cache_key else frozenset()


def _is_customer_url(entry: ModelProvider, spec: ProviderSpec) -> bool:
    """True for the base URL of a vendor that has a different one for each customer."""
    return spec.base_url is None and entry.provider_interface is None


def _headers(entry: ModelProvider, base_url: str, folder: Path) -> Headers:
    host = "" if references(base_url) else str(urlsplit(base_url).hostname)
    own = {name.lower(): absolute(value, folder) for name, value in entry.headers.items()}
    return tuple({**dict(host_headers(host)), **own}.items())


def _slug_of(entry: ModelProvider) -> str:
    return slug(interface_of(entry), entry.base_url)
