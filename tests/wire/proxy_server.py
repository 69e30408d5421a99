"""An HTTP proxy on loopback: CONNECT for https, whole addresses for http. For tests."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class ProxyServer:
    """What a proxy was asked, and how it answers."""

    port: int = 0
    refuses: bytes = b""
    """The status line in place of every answer; empty to do as asked."""
    is_silent: bool = False
    requests: list[bytes] = field(default_factory=list)
    """Request lines."""
    credentials: list[bytes] = field(default_factory=list)
    """Values of Proxy-Authorization."""
    addresses: dict[str, int] = field(default_factory=dict)
    """The ports on loopback of hosts that only the proxy can resolve."""
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        self.requests.append(line)
        name = b"proxy-authorization: "
        found = [header[len(name) :] for header in headers if header.lower().startswith(name)]
        self.credentials += found
        if self.is_silent:
            await asyncio.sleep(30)
        if self.refuses:
            body = b"<html>" + b"".join(found)
            writer.write(
                b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (self.refuses, len(body), body)
            )
            await writer.drain()
            return
        method, target, _ = line.decode().split(" ")
        address = urlsplit(f"//{target}" if method == "CONNECT" else target)
        port = self.addresses.get(str(address.hostname), address.port)
        there, back = await asyncio.open_connection("127.0.0.1", port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            origin = f"{address.scheme}://{address.netloc}".encode()
            back.write(_forwarded(head, origin))
        try:
            to_provider = _copy(reader, back, b"" if method == "CONNECT" else origin)
            await asyncio.gather(to_provider, _copy(there, writer))
        finally:
            back.close()


def _forwarded(data: bytes, origin: bytes) -> bytes:
    """A request as the provider gets it: with its path alone, without what is for the proxy."""
    data = re.sub(rb"(?i)proxy-authorization: .*\r\n", b"", data)
    return data.replace(b" " + origin, b" ", 1)


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, origin: bytes = b""
) -> None:
    while data := await reader.read(65536):
        writer.write(_forwarded(data, origin) if origin else data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def running_proxy() -> AsyncIterator[ProxyServer]:
    """A proxy on a free port."""
    proxy = ProxyServer()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        tasks = list(proxy.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
