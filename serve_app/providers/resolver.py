"""The lookup of providers' host names, without the addresses of a cloud's metadata.

A name in other hands may mean such an address, which gives the machine's credentials to every program
that asks from it. An address that ``base_url`` has itself is not looked up.
"""

import ipaddress
import socket
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"))
)
"""Those of Alibaba, Azure, Oracle and AWS that are not link-local."""


class ForbiddenAddressError(OSError):
    """A host name that means only addresses that no provider has."""


class SafeResolver(AbstractResolver):
    """Leaves out link-local addresses, and others at which a cloud has its metadata."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The other addresses of a host. Raises ForbiddenAddressError if there are none."""
        found = await self._inner.resolve(host, port, family)
        kept = [result for result in found if not _is_forbidden(result["host"])]
        if found and not kept:
            raise ForbiddenAddressError
        return kept

    async def close(self) -> None:
        """Releases what the lookup uses."""
        await self._inner.close()


def _is_forbidden(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_link_local or address in _METADATA
