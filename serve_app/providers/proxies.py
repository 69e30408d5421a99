"""Which proxy a provider is reached through: the configured one, or the environment's.

The variables are those that curl and the SDKs read: ``https_proxy``, ``http_proxy``,
``all_proxy`` and ``no_proxy``, in lower or in upper case. Source: curl(1), "ENVIRONMENT". Only the
texts of this module may go into messages: the URL of a proxy may contain a password.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import chain
from typing import Final
from urllib.parse import unquote, urlsplit

from yarl import URL

_PORTS: Final = {"http": 80, "https": 443}


class UnusableProxyError(Exception):
    """A proxy that cannot be used; the text names where it is set, but not its value."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy and the credentials for it."""

    url: URL
    """Without the credentials."""
    authorization: str | None = field(default=None, repr=False)
    """The value of ``Proxy-Authorization`` (RFC 9110, section 11.7.2); None without credentials."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What must not appear in answers: the password, alone and as the proxy is sent it."""


def proxy_fault(url: str) -> str | None:
    """Why the URL of a proxy is unusable, without the URL. Returns None if it is usable."""
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "is not a URL; write it as http://host:port"
    if parts.scheme not in _PORTS:
        return f"has the scheme {parts.scheme!r}; only HTTP proxies are supported, such as http://host:port"
    if not parts.hostname or port == 0 or any(sign.isspace() for sign in text):
        return "is not a URL with a host; write it as http://host:port"
    return None


def proxy_at(url: str, name: str) -> Proxy:
    """The proxy of a URL, which may lack its scheme; ``name`` says where the URL is set.

    Raises UnusableProxyError.
    """
    fault = proxy_fault(url)
    if fault is not None:
        raise UnusableProxyError(f"{name} {fault}")
    text = url if "://" in url else f"http://{url}"
    parts = urlsplit(text)
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    address = URL(f"{parts.scheme}://{host}:{parts.port or _PORTS[parts.scheme]}")
    if parts.username is None and parts.password is None:
        return Proxy(address)
    password = unquote(parts.password or "")
    credentials = b64encode(f"{unquote(parts.username or '')}:{password}".encode()).decode()
    return Proxy(address, f"Basic {credentials}", (credentials, password))


def proxy_of_environment(base_url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that the environment names for an address. Returns None if there is none.

    Raises UnusableProxyError that names the variable.
    """
    parts = urlsplit(base_url)
    name, url = _first(environ, f"{parts.scheme}_proxy", "all_proxy")
    if not url:
        return None
    _, exceptions = _first(environ, "no_proxy")
    port = parts.port or _PORTS[parts.scheme]
    if is_exempt(str(parts.hostname), port, exceptions):
        return None
    return proxy_at(url, f"the environment variable {name}")


def is_exempt(host: str, port: int, exceptions: str) -> bool:
    """True for a host that ``exceptions`` in the form of ``no_proxy`` names.

    Entries are separated by commas or white space: names, which match their subdomains, too, with
    or without ``.`` or ``*.`` before them; addresses; networks such as ``10.0.0.0/8``; each name
    or IPv4 address with a port, if only that is meant; ``*`` for everything.

    >>> is_exempt("api.example.com", 443, "localhost, .example.com")
    True
    >>> is_exempt("10.1.2.3", 80, "10.0.0.0/8"), is_exempt("notexample.com", 80, "example.com")
    (True, False)
    """
    entries = exceptions.lower().replace(",", " ").split()
    return any(_matches(entry, host.lower().rstrip("."), port) for entry in entries)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    network = _network(entry)
    if network is not None:
        address = _network(host)
        return address is not None and address[0] in network
    name, colon, only = entry.rpartition(":")
    if colon and only != str(port):
        return False
    name = (name if colon else entry).removeprefix("*").removeprefix(".").strip("[]")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """The network or the single address in a text; None if it is a name."""
    try:
        return ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first of these variables that is set, and its value; lower case counts first.

    An empty one counts: it takes back what a later one says.
    """
    for spelled in chain.from_iterable((name, name.upper()) for name in names):
        value = environ.get(spelled)
        if value is not None:
            return spelled, value.strip()
    return "", ""
