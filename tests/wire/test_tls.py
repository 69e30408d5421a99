"""Exchanges over TLS with a server whose certificate only the configuration trusts."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deployments.orchestrator import Orchestrator
from serve_app.domain import ModelRef, Question, Route, Turn, Unavailable
from serve_app.engines.http import HttpEngine
from serve_app.exchange import (
    FaultKind,
    Operation,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.providers.transport import Transport, fixed
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of


@dataclass
class Server:
    """Answers everything with 200, and records server names and Host headers."""

    certificate: Path
    port: int = 0
    names: list[str | None] = field(default_factory=list)
    """Server names in the handshakes."""
    hosts: list[bytes] = field(default_factory=list)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "ca.pem", folder / "ca.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server on loopback that speaks TLS."""
    certificate, key = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server(certificate)

    def remember(_: object, name: str | None, __: object) -> None:
        server.names.append(name)

    context.sni_callback = remember

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            server.hosts += [line for line in head.split(b"\r\n") if line.lower()[:5] == b"host:"]
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()
        finally:
            writer.close()

    running = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    server.port = running.sockets[0].getsockname()[1]
    yield server
    running.close()
    await running.wait_closed()


@asynccontextmanager
async def transport_to(
    server: Server, tls_ca: Path | None, more: str = ""
) -> AsyncIterator[Transport]:
    entry = f"{{model: vllm/*, base_url: 'https://localhost:{server.port}'{more}}}"
    snapshot = snapshot_of(server.certificate.parent, f"{V}model_providers:\n  - {entry}\n")
    file = None if tls_ca is None else str(tls_ca)
    transport = Transport(fixed(snapshot.providers, snapshot.config.timeouts), {}, file)
    try:
        yield transport
    finally:
        await transport.close()
        await asyncio.sleep(0.05)  # the connection's last callbacks


REQUEST = UpstreamRequest(
    provider="slug",
    model=ModelRef("vllm", "x"),
    operation=Operation.CHAT,
    path="/chat/completions",
    headers=(),
    body=b"{}",
    stream=False,
    deadline_s=5.0,
)


async def test_configured_certificate_is_trusted(server: Server) -> None:
    """The handshake requests the URL's host, whatever the Host header contains."""
    more = ", http_host: 'api.example.com'"
    async with transport_to(server, server.certificate, more) as transport:
        for _ in range(2):
            reply = await transport.open(REQUEST)
            assert isinstance(reply, UpstreamReply)
    assert set(server.names) == {"localhost"}
    assert set(server.hosts) == {b"host: api.example.com"}


async def test_untrusted_certificate_is_refused(server: Server) -> None:
    """The fault tells how to make it trusted."""
    async with transport_to(server, None) as transport:
        fault = await transport.open(REQUEST)
    assert isinstance(fault, UpstreamFault)
    assert fault.kind is FaultKind.CONNECT
    assert "untrusted certificate" in fault.detail
    assert "overrides.upstream_tls_ca_path" in fault.detail
    assert server.hosts == []


@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_unusable_certificate_file_is_named(
    content: str | None, server: Server, tmp_path: Path
) -> None:
    """Nothing is sent, and as soon as the file is usable exchanges succeed."""
    file = tmp_path / "own.pem"
    if content is not None:
        file.write_text(content)
    async with transport_to(server, file) as transport:
        fault = await transport.open(REQUEST)
        assert isinstance(fault, UpstreamFault)
        assert fault.kind is FaultKind.CONNECT
        text = f"overrides.upstream_tls_ca_path: {file} is missing or contains no certificates"
        assert fault.detail == text
        file.write_bytes(server.certificate.read_bytes())
        assert isinstance(await transport.open(REQUEST), UpstreamReply)


@pytest.mark.parametrize(
    ("file", "detail"),
    [
        ("ca.pem", "localhost:{port} returned an answer that is not a chat completion"),
        ("own.pem", "overrides.upstream_tls_ca_path: {file} is missing or contains no certificates"),
        (None, "localhost:{port} presents an untrusted certificate; add its CA to overrides.upstream_tls_ca_path"),
    ],
)  # fmt: skip
async def test_engine_http_trusts_the_same_certificates(
    file: str | None, detail: str, server: Server
) -> None:
    """The same file applies: the answer of the server shows that it was reached."""
    named = "" if file is None else f"overrides: {{upstream_tls_ca_path: {file}}}\n"
    section = f"{{engine: http, model: m, base_url: 'https://localhost:{server.port}'}}"
    folder = server.certificate.parent
    snapshot_of(folder, f"{V}{named}orchestrator: {section}\n")
    deployment = Orchestrator(str(folder / "gateway.yaml"))
    assert deployment._first is not None
    engine = deployment._first._inner
    assert isinstance(engine, HttpEngine)
    try:
        question = Question((Turn("user", "hi"),), (Route("code", "writing code", ()),), "v1")
        result = await engine.score(question)
    finally:
        await engine.close()
        await asyncio.sleep(0.05)  # the connection's last callbacks
        deployment.__del__()
    assert isinstance(result, Unavailable)
    assert result.detail == detail.format(port=server.port, file=folder / str(file))


ENTRY_CA = "own.pem"


@pytest.mark.parametrize(
    ("own", "general", "reached"),
    [
        (True, False, True),
        (True, None, True),
        (None, True, True),
        (False, True, False),
        (False, None, False),
    ],
)
async def test_entry_may_have_certificates_of_its_own(
    own: bool | None, general: bool | None, reached: bool, server: Server, tmp_path: Path
) -> None:
    """They take the place of the general ones, so an internal CA is trusted for its server alone.

    True is the server's own certificate, False another one, None no file.
    """
    folder = server.certificate.parent
    (tmp_path / "foreign").mkdir()
    foreign, _ = write_certificate(tmp_path / "foreign")
    files = {True: server.certificate, False: foreign, None: None}
    if own is not None:
        (folder / ENTRY_CA).write_bytes(files[own].read_bytes())  # type: ignore[union-attr]
    more = "" if own is None else f", tls_ca_path: {ENTRY_CA}"
    async with transport_to(server, files[general], more) as transport:
        reply = await transport.open(REQUEST)
    assert isinstance(reply, UpstreamReply) is reached
    if not reached:
        assert isinstance(reply, UpstreamFault)
        assert "untrusted certificate" in reply.detail


async def test_missing_certificates_of_an_entry_are_named(server: Server) -> None:
    """Nothing is sent; the file is looked up beside the configuration."""
    async with transport_to(server, server.certificate, ", tls_ca_path: none.pem") as transport:
        fault = await transport.open(REQUEST)
    assert isinstance(fault, UpstreamFault)
    place = server.certificate.parent / "none.pem"
    assert fault.detail == f"tls_ca_path: {place} is missing or contains no certificates"
    assert server.hosts == []
