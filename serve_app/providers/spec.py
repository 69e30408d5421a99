"""Providers as rows of a table, and the table of endpoints that a configuration makes of them.

Adding a provider is one row here and one transcript in the tests; see CONTRIBUTING.md.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

from serve_app.config.load import LoadedConfig, Place, did_you_mean
from serve_app.config.references import references
from serve_app.config.schema import ModelProvider
from serve_app.domain import DataPath, Dialect, ModelRef
from serve_app.errors import Problem

SHARED_SLUG = "shared"
"""The provider client that carries wildcards, and whatever has no deployment of its own."""


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """What we know of a vendor or server."""

    base_url: str | None
    """None: there is no public address, ``base_url`` must be configured."""
    default_path: str = "/v1"
    """Goes before a dialect's path when the base URL has no path of its own."""
    dialects: frozenset[Dialect] = frozenset({Dialect.OPENAI_CHAT})
    key_needed: bool = False
    """True where a request without a key can't succeed."""
    any_interface: bool = False
    """True where ``provider_interface`` may say another dialect than the row's."""


PROVIDERS: Mapping[str, ProviderSpec] = MappingProxyType(
    {
        "openai": ProviderSpec("https://api.openai.com/v1", key_needed=True),
        "ollama": ProviderSpec(None),
        "vllm": ProviderSpec(None, any_interface=True),
    }
)
_PORTS = {"http": 80, "https": 443}
_SIMPLE_HOST = re.compile(r"[a-z0-9.-]+")
_BEFORE_PATH = re.compile(r"(?:\w+://)?[^/]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the requests of one configured model, or wildcard, go.

    ``base_url`` and ``access_key`` are as configured: references are not expanded.
    """

    slug: str
    interface: str
    base_url: str
    data_path: DataPath
    access_key: str | None = field(repr=False)
    key_needed: bool

    def missing(self, environ: Mapping[str, str]) -> list[str]:
        """The variables that it refers to and that are not set, or access_key where it lacks one."""
        names = (*references(self.base_url), *references(self.access_key or ""))
        missing = sorted({name for name in names if not environ.get(name)})
        return [*missing, "access_key"] if self.key_needed and not self.access_key else missing


@dataclass(frozen=True, slots=True)
class ProviderTable:
    """All endpoints of a configuration."""

    models: Mapping[ModelRef, Endpoint]
    wildcards: Mapping[str, Endpoint]
    """By the prefix of the model's name."""

    def endpoint(self, model: ModelRef) -> Endpoint | None:
        """Where a model's requests go; None for a model that the configuration doesn't have."""
        return self.models.get(model) or self.wildcards.get(model.provider)

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint once, in the configuration's order."""
        return list(dict.fromkeys([*self.models.values(), *self.wildcards.values()]))

    def data_paths(self) -> dict[str, DataPath]:
        """Every slug with its data path, in the configuration's order."""
        return {endpoint.slug: endpoint.data_path for endpoint in self.endpoints()}


def build_table(loaded: LoadedConfig) -> tuple[ProviderTable, list[Problem]]:
    """The endpoints of a configuration, and what is wrong with its ``model_providers``."""
    problems: list[Problem] = []
    good: list[tuple[int, ModelProvider]] = []
    seen: set[str] = set()
    for index, entry in enumerate(loaded.config.model_providers):
        found = list(_problems(loaded, ("model_providers", index), entry, seen))
        problems += found
        seen.add(entry.model)
        if not found:
            good.append((index, entry))
    data_paths, conflicts = _data_paths(loaded, good)
    models: dict[ModelRef, Endpoint] = {}
    wildcards: dict[str, Endpoint] = {}
    for _, entry in good:
        provider, _, name = entry.model.partition("/")
        endpoint = _endpoint(entry, data_paths)
        if name == "*":
            wildcards[provider] = endpoint
        else:
            models[ModelRef(provider, name)] = endpoint
    table = ProviderTable(MappingProxyType(models), MappingProxyType(wildcards))
    return table, problems + conflicts


def _data_paths(
    loaded: LoadedConfig, entries: list[tuple[int, ModelProvider]]
) -> tuple[dict[str, DataPath], list[Problem]]:
    """One data path per slug: what an entry says, else dedicated, or shared for wildcards alone."""
    said: dict[str, DataPath] = {}
    usual: dict[str, DataPath] = {}
    problems: list[Problem] = []
    for index, entry in entries:
        name = _slug_of(entry)
        if not entry.model.endswith("/*"):
            usual[name] = DataPath.DEDICATED
        if entry.data_path is None:
            continue
        if said.setdefault(name, entry.data_path) is not entry.data_path:
            problems.append(
                loaded.problem(
                    ("model_providers", index, "data_path"),
                    f"another model of provider {name!r} says {said[name].value}; "
                    "one provider has one data path",
                )
            )
    names = {_slug_of(entry) for _, entry in entries}
    return {
        name: said.get(name, usual.get(name, DataPath.SHARED)) for name in sorted(names)
    }, problems


def _problems(
    loaded: LoadedConfig, place: Place, entry: ModelProvider, seen: set[str]
) -> Iterator[Problem]:
    provider, slash, name = entry.model.partition("/")
    if not (provider and slash and name):
        yield loaded.problem(
            (*place, "model"),
            f"{entry.model!r} names no provider; write provider/name, or provider/* for all names",
        )
        return
    if entry.model in seen:
        yield loaded.problem((*place, "model"), f"{entry.model!r} stands there twice")
    spec = PROVIDERS.get(provider)
    interface = entry.provider_interface
    if spec is None:
        yield from _unknown_provider(loaded, place, entry, provider)
    elif interface is not None and not spec.any_interface:
        yield loaded.problem(
            (*place, "provider_interface"),
            f"{provider!r} is a provider that we know; take provider_interface out",
        )
    elif spec.base_url is None and entry.base_url is None:
        yield loaded.problem(
            place, f"{provider!r} has no public address; add base_url, such as http://host:8000/v1"
        )
    if interface is not None and interface not in PROVIDERS:
        yield loaded.problem(
            (*place, "provider_interface"),
            f"must be one of {', '.join(PROVIDERS)}, not {interface!r}",
        )
    if entry.name is not None and name == "*":
        yield loaded.problem((*place, "name"), "a wildcard can't have a name; hints name one model")
    if entry.default and name == "*":
        yield loaded.problem((*place, "default"), "a wildcard can't be the default; name one model")
    if entry.base_url is not None:
        yield from _url_problems(loaded, (*place, "base_url"), entry.base_url)


def _unknown_provider(
    loaded: LoadedConfig, place: Place, entry: ModelProvider, provider: str
) -> Iterator[Problem]:
    lacking = [key for key in ("base_url", "provider_interface") if getattr(entry, key) is None]
    if lacking:
        yield loaded.problem(
            (*place, "model"),
            f"{provider!r} is no provider that we know ({', '.join(PROVIDERS)}); "
            f"add {' and '.join(lacking)}{did_you_mean(provider, PROVIDERS)}",
        )


def _url_problems(loaded: LoadedConfig, place: Place, url: str) -> Iterator[Problem]:
    if references(url):
        return  # the replica that expands it checks it
    fault = url_fault(url)
    if fault:
        yield loaded.problem(place, fault)


def url_fault(url: str) -> str | None:
    """What makes a base URL unusable, or None."""
    if "@" in url.partition("://")[2].partition("/")[0] or ("@" in url and "://" not in url):
        return "holds a password; put keys into access_key"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        return f"must be a URL with scheme and host, such as http://host:8000/v1, not {url!r}"
    if parts.query or parts.fragment:
        return "must end with its path; take out what follows '?' or '#'"
    return None


def target_url(base_url: str, interface: str, path: str) -> str:
    """The address of a dialect's path: a path in the base URL replaces the provider's own.

    >>> target_url("http://host:8000", "vllm", "/chat/completions")
    'http://host:8000/v1/chat/completions'
    >>> target_url("https://host/openai/v1/", "openai", "/chat/completions")
    'https://host/openai/v1/chat/completions'
    """
    parts = urlsplit(base_url)
    prefix = parts.path.rstrip("/") or PROVIDERS[interface].default_path
    return f"{parts.scheme}://{parts.netloc}{prefix}{path}"


def _endpoint(entry: ModelProvider, data_paths: Mapping[str, DataPath]) -> Endpoint:
    interface = _interface(entry)
    spec = PROVIDERS[interface]
    name = _slug_of(entry)
    return Endpoint(
        slug=name,
        interface=interface,
        base_url=entry.base_url or spec.base_url or "",
        data_path=data_paths[name],
        access_key=entry.access_key,
        key_needed=spec.key_needed and entry.base_url is None,
    )


def _interface(entry: ModelProvider) -> str:
    return entry.provider_interface or entry.model.partition("/")[0]


def _slug_of(entry: ModelProvider) -> str:
    return slug(_interface(entry), entry.base_url)


def slug(interface: str, base_url: str | None) -> str:
    """The name of a provider's client: the interface, and where it is when that is not usual.

    Scheme, host and port are part of it, so two servers on one host are two providers. A base
    URL that refers to the environment keeps the variables' names, which are the same in every
    process, while their values need not be. A dot is written as a hyphen, a hyphen as two; what
    else could be mistaken for another place gets four hex digits of a hash.

    >>> slug("openai", None), slug("vllm", "http://gpu:8000/v1"), slug("vllm", "$GPU")
    ('openai', 'vllm-gpu-8000', 'vllm-gpu')
    """
    usual = PROVIDERS[interface].base_url
    if base_url is None or (usual is not None and _origin(base_url) == _origin(usual)):
        return interface
    origin = _origin(base_url)
    names = references(base_url)
    parts = urlsplit(base_url)
    host = "-".join(names) if names else str(parts.hostname)
    place = f"{interface}-{host.replace('-', '--')}"
    if not names and (parts.scheme == "http" or parts.port not in {None, _PORTS["https"]}):
        place += f"-{parts.port or _PORTS['http']}"
        place += "-https" if parts.scheme == "https" else ""
    if not _SIMPLE_HOST.fullmatch(host) and origin not in {f"${host}", f"${{{host}}}"}:
        place += f"-{hashlib.sha256(origin.encode()).hexdigest()[:4]}"
    return "".join(sign if sign.isalnum() else "-" for sign in place.lower())


def _origin(base_url: str) -> str:
    """Scheme, host and port; with references, what is written before the path."""
    if references(base_url):
        return _BEFORE_PATH.match(base_url)[0]  # type: ignore[index]  # matches anything
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
