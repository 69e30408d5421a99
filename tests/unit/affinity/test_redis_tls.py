"""Redis over TLS, with certificates that only the configuration trusts."""

import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from serve_app.access.redis_counters import RedisCounters
from serve_app.affinity.guarded import StoreError
from serve_app.affinity.redis import RedisStore
from serve_app.affinity.redis_rests import RedisRests
from serve_app.config.warnings import config_warnings
from serve_app.conversations.redis import RedisConversations
from serve_app.domain import Binding, ModelRef
from tests.unit.affinity.redis_server import Server, certificate, relay, running
from tests.unit.config_texts import VERSION as V
from tests.unit.fakes import snapshot_of

BOUND: Final = Binding(ModelRef("a", "b"), "code")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis."""
    with running(tmp_path_factory.mktemp("redis-tls")) as started:
        yield started


@pytest.fixture
async def tls_port(server: Server, tmp_path: Path) -> AsyncIterator[int]:
    """The same Redis behind TLS, with a certificate of 127.0.0.1 in ``mine.pem``."""
    mine = certificate(tmp_path)
    mine.rename(tmp_path / "mine.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "mine.pem")
    async with relay(server.port, tls=context) as port:
        yield port


def files_of(
    folder: Path, cache: str = "", state: str = "", overrides: str = ""
) -> list[str | None]:
    """The files by which the stores of sessions and of answers verify their servers."""
    text = (
        f"{V}routing: {{session_cache: {{type: redis, url: 'rediss://h'{cache}}}}}\n"
        f"state_storage: {{type: redis{state}}}\noverrides: {{{overrides}}}\n"
    )
    config = snapshot_of(folder, text).config
    files = [config.sessions_tls_ca, config.state_tls_ca]
    return [None if file is None else str(Path(file).relative_to(folder)) for file in files]


GENERAL: Final = "upstream_tls_ca_path: all.pem"


@pytest.mark.parametrize(
    ("cache", "state", "overrides", "expected"),
    [
        ("", "", "", [None, None]),
        ("", "", GENERAL, ["all.pem", "all.pem"]),
        (", tls_ca_path: a.pem", "", GENERAL, ["a.pem", "a.pem"]),
        (", tls_ca_path: a.pem", ", tls_ca_path: ca/b.pem", "", ["a.pem", "ca/b.pem"]),
        ("", ", tls_ca_path: ca/b.pem", GENERAL, ["all.pem", "ca/b.pem"]),
    ],
)
def test_certificates_follow_the_nearest_key(
    cache: str, state: str, overrides: str, expected: list[str | None], tmp_path: Path
) -> None:
    """A store's own file, else that of the store before it, beside the configuration."""
    assert files_of(tmp_path, cache, state, overrides) == expected


def test_missing_certificates_are_a_warning(tmp_path: Path) -> None:
    """Each file is named once, by the key that others follow."""
    text = f"{V}routing: {{session_cache: {{tls_ca_path: a.pem}}}}\nstate_storage: {{tls_ca_path: b.pem}}\n"
    warnings = config_warnings(snapshot_of(tmp_path, text).config, {})
    fix = "on this machine; correct the path"
    assert [line for line in warnings if "no file" in line] == [
        f"state_storage.tls_ca_path: no file {tmp_path / 'b.pem'} {fix}",
        f"routing.session_cache.tls_ca_path: no file {tmp_path / 'a.pem'} {fix}",
    ]
    (tmp_path / "a.pem").write_text("")
    text = f"{V}routing: {{session_cache: {{tls_ca_path: a.pem}}}}\n"
    assert not [
        line
        for line in config_warnings(snapshot_of(tmp_path, text).config, {})
        if "no file" in line
    ]


async def test_every_store_trusts_the_configured_certificates(
    tls_port: int, tmp_path: Path
) -> None:
    """Bindings, answers and resting endpoints are read and written over TLS."""
    url, ca = f"rediss://127.0.0.1:{tls_port}", str(tmp_path / "mine.pem")
    store = RedisStore(url, ttl_s=60, tls_ca=ca)
    answers = RedisConversations(url, ttl_s=60, tls_ca=ca)
    rests = RedisRests(url, tls_ca=ca)
    counters = RedisCounters(url, tls_ca=ca)
    try:
        assert await store.bind("tls", BOUND, instead_of=None)
        await answers.save("k", b"v")
        assert await answers.load(["k"]) == [b"v"]
        assert await rests.share([]) == []
        assert await counters.reserve([], "holder") == []
    finally:
        for opened in (store, answers, rests, counters):
            await opened.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_other_certificate_or_name_opens_nothing(
    host: str, tls_port: int, tmp_path: Path
) -> None:
    """Neither a server with an unknown certificate is used, nor one with that of another host."""
    (tmp_path / "foreign").mkdir()
    foreign = str(certificate(tmp_path / "foreign"))
    mine = str(tmp_path / "mine.pem")
    for ca in (None, foreign, *([mine] if host == "localhost" else [])):
        store = RedisStore(f"rediss://{host}:{tls_port}", ttl_s=60, tls_ca=ca)
        with pytest.raises(StoreError, match=f"ConnectionError at {host}"):
            await store.bind("k", BOUND, instead_of=None)
        await store.aclose()


async def test_address_names_its_certificates_itself(tls_port: int, tmp_path: Path) -> None:
    """`ssl_ca_certs` in the address, as redis-py has it, wins over the configuration."""
    (tmp_path / "foreign").mkdir()
    foreign = str(certificate(tmp_path / "foreign"))
    url = f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs={tmp_path / 'mine.pem'}"
    store = RedisStore(url, ttl_s=60, tls_ca=foreign)
    assert await store.bind("own", BOUND, instead_of=None)
    await store.aclose()


def test_certificates_do_not_matter_without_tls(server: Server) -> None:
    """An address without TLS stays valid where a general bundle is configured."""
    assert RedisStore(server.url, ttl_s=60, tls_ca="/nowhere.pem").address


def test_unusable_certificates_make_the_address_unusable() -> None:
    """The store is not used without them."""
    with pytest.raises(ValueError, match="certificates that are readable"):
        RedisStore("rediss://h", ttl_s=60, tls_ca="/nowhere.pem")
