"""Addresses of providers: validity of base URLs, addresses of operations, and slugs."""

import hashlib
import re
from urllib.parse import quote, urlsplit

from serve_app.config.placeholders import url_fault_of_example
from serve_app.config.references import references
from serve_app.exchange import PATHS, Operation
from serve_app.providers.table import PROVIDERS, whole_path

_PORTS = {"http": 80, "https": 443}
_SIMPLE_HOST = re.compile(r"[a-z0-9.-]+")
_BEFORE_PATH = re.compile(r"(?:\w+://)?[^/]*")
_DEPLOYMENTS = "/deployments"


def url_fault(url: str) -> str | None:
    """Why a base URL is unusable. Returns None if it is usable."""
    placeholder = url_fault_of_example(url)
    if placeholder is not None:
        return placeholder
    if "@" in url.partition("://")[2].partition("/")[0] or ("@" in url and "://" not in url):
        return "contains a password; move it to access_key"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is not a URL: {error}"
    if parts.scheme not in _PORTS or not parts.hostname or port == 0 or " " in url:
        return f"must be a URL with scheme and host, such as http://host:8000/v1, not {url!r}"
    if parts.query or parts.fragment:
        return "must end with its path; remove everything from '?' or '#'"
    chat = PATHS[Operation.CHAT]
    if parts.path.rstrip("/").endswith(chat):
        return f"must end before {chat}, which the gateway adds; remove that part"
    return None


def target_url(
    base_url: str, interface: str, operation: Operation, model: str = "", path: str | None = None
) -> str:
    """The address of an operation: a path in the base URL replaces the provider's default path.

    ``path`` is appended to it, and may have a query; by default it is the path of the operation.

    >>> target_url("http://host:8000", "vllm", Operation.CHAT)
    'http://host:8000/v1/chat/completions'
    >>> target_url("https://host/openai/v1/", "openai", Operation.CHAT)
    'https://host/openai/v1/chat/completions'
    >>> target_url("https://api.deepseek.com", "deepseek", Operation.MESSAGES)
    'https://api.deepseek.com/anthropic/v1/messages'
    """
    parts, spec = urlsplit(base_url), PROVIDERS[interface]
    prefix = whole_path(str(parts.hostname), parts.path, spec)
    if prefix == spec.default_path:
        prefix = spec.elsewhere.get(operation, prefix)
    path = path or PATHS[operation]
    query = ""
    if spec.api_version is not None and not _is_versioned(prefix):
        prefix, query = _deployment(prefix, model), f"api-version={spec.api_version}"
        query = f"{'&' if '?' in path else '?'}{query}"
    return f"{parts.scheme}://{parts.netloc}{prefix}{path}{query}"


def _deployment(prefix: str, model: str) -> str:
    """The path of a model's deployment; the base URL may contain all or the beginning of it.

    Raises ValueError for a name that is not one segment of a path.
    """
    if _DEPLOYMENTS not in prefix:
        prefix += _DEPLOYMENTS
    if not prefix.endswith(_DEPLOYMENTS):
        return prefix
    if not model.strip("."):
        raise ValueError("is not a name of a deployment")
    return f"{prefix}/{quote(model, safe='')}"


def _is_versioned(prefix: str) -> bool:
    """True for Azure's newer API, which has one address for all models and no ``api-version``."""
    return prefix.endswith("/v1")


def operations_at(base_url: str, interface: str) -> frozenset[Operation]:
    """The operations of a provider at a base URL as configured.

    If a reference hides the path, operations that depend on the path are left out.
    """
    parts, spec = urlsplit(base_url), PROVIDERS[interface]
    prefix = whole_path(str(parts.hostname), parts.path, spec)
    unknown = {
        operation
        for operation, own in spec.elsewhere.items()
        if prefix not in {spec.default_path, own}
    }
    if spec.api_version is not None and not _is_versioned(prefix):
        unknown.add(Operation.RESPONSES)  # its address has no deployment
    return spec.operations - unknown


def slug(interface: str, base_url: str | None) -> str:
    """The name of a provider client: the interface, and the origin if it is not the default one.

    Scheme, host and port are part of it, so two servers on one host are two providers. A base
    URL with references is named by the variables, whose names are the same in every process,
    while their values may differ. A dot becomes a hyphen, a hyphen becomes two; other hosts,
    which could be ambiguous, get four hex digits of a hash.

    >>> slug("openai", None), slug("vllm", "http://gpu:8000/v1"), slug("vllm", "$GPU")
    ('openai', 'vllm-gpu-8000', 'vllm-gpu')
    """
    usual = PROVIDERS[interface].base_url
    if base_url is None or (usual is not None and _origin(base_url) == _origin(usual)):
        return _plain(interface)
    origin = _origin(base_url)
    names = references(base_url)
    parts = urlsplit(base_url)
    host = "-".join(names) if names else str(parts.hostname)
    name = f"{interface}-{host.replace('-', '--')}"
    if not names and (parts.scheme == "http" or parts.port not in {None, _PORTS["https"]}):
        name += f"-{parts.port or _PORTS['http']}"
        name += "-https" if parts.scheme == "https" else ""
    if not _SIMPLE_HOST.fullmatch(host) and origin not in {f"${host}", f"${{{host}}}"}:
        name += f"-{hashlib.sha256(origin.encode()).hexdigest()[:4]}"
    return _plain(name)


def _plain(name: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in name.lower())


def _origin(base_url: str) -> str:
    """Scheme, host and port; with references, everything before the path."""
    if references(base_url):
        return _BEFORE_PATH.match(base_url)[0]  # type: ignore[index]  # matches anything
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
