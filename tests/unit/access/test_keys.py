"""Access control: client keys, and the rule for programs on the same machine."""

from pathlib import Path

import pytest

from serve_app.access.exposure import exposure_problem
from serve_app.access.keys import Access, Caller
from serve_app.access_errors import AnonymousRefused, InvalidClientKey
from serve_app.config.references import REFRESH_S
from tests.unit.config.broken import V
from tests.unit.fakes import FakeClock, snapshot_of


def access_of(directory: Path, more: str, **environ: str) -> Access:
    return Access(snapshot_of(directory, V + more).config, environ)


def caller(*keys: bytes, near: bool = True, origin: str | None = None) -> Caller:
    """A caller on this machine, or on another one."""
    peer, server = ("127.0.0.1", "127.0.0.1") if near else ("203.0.113.9", "10.0.0.1")
    return Caller(peer, server, origin, keys)


@pytest.mark.parametrize(
    ("keys", "known"),
    [
        ([b"one"], True),
        ([b"two"], True),
        ([b"wrong", b"two"], True),
        ([b"two", b"wrong"], True),
        ([], False),
        ([b""], False),
        ([b"One"], False),
        ([b"on e"], False),
        ([b"$ONE"], False),
        ([b"onetwo"], False),
    ],
)
@pytest.mark.parametrize("near", [False, True])
def test_access_requires_client_key(
    keys: list[bytes], known: bool, near: bool, tmp_path: Path
) -> None:
    """With client keys configured, every caller must send one of them, on the same machine too."""
    access = access_of(tmp_path, "client_keys: [$ONE, two]\n", ONE="one")
    if known:
        access.check(caller(*keys, near=near))
        return
    with pytest.raises(InvalidClientKey):
        access.check(caller(*keys, near=near))


def test_access_knows_its_client_keys(tmp_path: Path) -> None:
    """A key that the gateway knows is not a client's key for a provider."""
    access = access_of(tmp_path, "client_keys: [$ONE, two]\n", ONE="one")
    known = [access.knows(key) for key in (b"one", b"two", b"", b"three", b"$ONE")]
    assert known == [True, True, False, False, False]
    assert not access_of(tmp_path, "allow_anonymous: true\n").knows(b"one")


def test_unset_client_key_fails_closed(tmp_path: Path) -> None:
    """A key whose variable is not set admits no client; config/warnings.py names it."""
    access = access_of(tmp_path, "client_keys: [$NO, sk-1]\n")
    access.check(caller(b"sk-1", near=False))
    for key in (b"", b"$NO"):
        with pytest.raises(InvalidClientKey):
            access.check(caller(key))


@pytest.mark.parametrize("echoed", ["sk-1\n", " sk-1", "sk-1\r\n", "\tsk-1 \n\n"])
def test_white_space_around_client_key_does_not_count(echoed: str, tmp_path: Path) -> None:
    """A variable that was set by `echo`, or a Secret made with it, ends in a line break."""
    access = access_of(tmp_path, "client_keys: [$ONE]\n", ONE=echoed)
    access.check(caller(b"sk-1"))
    with pytest.raises(InvalidClientKey):
        access.check(caller(echoed.encode()))


def test_client_key_may_be_any_bytes(tmp_path: Path) -> None:
    """A variable that is not UTF-8 is compared byte by byte, and does not stop the gateway."""
    access = access_of(
        tmp_path, "client_keys: [$ONE]\n", ONE=b"k\xff".decode(errors="surrogateescape")
    )
    access.check(caller(b"k\xff"))
    with pytest.raises(InvalidClientKey):
        access.check(caller("kÿ".encode()))


def test_access_without_set_keys_rejects_all(tmp_path: Path) -> None:
    """If none of the configured keys is set, every caller is rejected."""
    access = access_of(tmp_path, "client_keys: [$NO]\nallow_anonymous: true\n")
    with pytest.raises(InvalidClientKey):
        access.check(caller())


@pytest.mark.parametrize(
    ("client", "server", "local"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.9.9.9", "10.0.0.1", True),
        ("::1", "::1", True),
        ("10.0.0.1", "10.0.0.1", True),
        (None, None, True),
        ("", None, True),
        ("10.0.0.2", "10.0.0.1", False),
        ("10.0.0.2", None, False),
        ("fe80::1%eth0", "10.0.0.1", False),
        ("example.com", "10.0.0.1", False),
        ("2001:db8::1", "::", False),
    ],
)
def test_access_without_keys_admits_same_machine_only(
    client: str | None, server: str | None, local: bool, tmp_path: Path
) -> None:
    """Without client keys, callers on loopback or with the server's own address are admitted, and
    all others are rejected.
    """
    access = access_of(tmp_path, "")
    if local:
        access.check(Caller(client, server, None))
        return
    with pytest.raises(AnonymousRefused):
        access.check(Caller(client, server, None, (b"a key",)))


@pytest.mark.parametrize("near", [False, True])
def test_allow_anonymous_admits_every_caller(near: bool, tmp_path: Path) -> None:
    """With `allow_anonymous`, every caller is admitted."""
    access = access_of(tmp_path, "allow_anonymous: true\n")
    access.check(caller(near=near, origin="http://evil.test"))


@pytest.mark.parametrize(
    ("origin", "own"),
    [
        (None, True),
        ("http://localhost:3000", True),
        ("http://127.0.0.1:3000", True),
        ("https://[::1]", True),
        ("vscode-webview://x", True),
        ("http://evil.test", False),
        ("https://localhost.evil.test", False),
        ("http://[", False),
        ("null", False),
        ("", False),
    ],
)
def test_access_rejects_foreign_origin(origin: str | None, own: bool, tmp_path: Path) -> None:
    """A request that a browser on this machine sends for a foreign page is rejected."""
    access = access_of(tmp_path, "")
    if own:
        access.check(caller(origin=origin))
        return
    with pytest.raises(AnonymousRefused):
        access.check(caller(origin=origin))


@pytest.mark.parametrize(
    ("host", "open_"),
    [
        ("localhost", False),
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("::1", False),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.1", True),
        ("example.com", True),
        ("", True),
        ("localhost.evil.test", True),
    ],
)
@pytest.mark.parametrize(
    ("more", "guarded"),
    [("", False), ("client_keys: [$K]\n", True), ("allow_anonymous: true\n", True)],
)
def test_exposure_requires_keys_or_allow_anonymous(
    host: str, open_: bool, more: str, guarded: bool, tmp_path: Path
) -> None:
    """Listening on an address that other machines reach requires client keys or `allow_anonymous`."""
    problem = exposure_problem(host, snapshot_of(tmp_path, V + more).config)
    assert (problem is not None) is (open_ and not guarded)
    if problem is not None:
        assert host in problem
        assert "client_keys" in problem


def admits(access: Access, key: bytes) -> bool:
    try:
        access.check(Caller(None, None, None, (key,)))
    except InvalidClientKey:
        return False
    return True


def test_client_key_file_is_reread(tmp_path: Path) -> None:
    """A client key file is found beside the configuration and read again after the refresh
    interval.
    """
    clock = FakeClock()
    (tmp_path / "one").write_text("sk-old\n")
    config = snapshot_of(tmp_path, f"{V}client_keys: ['file:one', sk-fixed]\n").config
    access = Access(config, {}, clock)
    (tmp_path / "one").write_text("sk-new\n")
    assert [admits(access, key) for key in (b"sk-old", b"sk-new", b"sk-fixed")] == [1, 0, 1]
    clock.now += REFRESH_S
    assert [admits(access, key) for key in (b"sk-old", b"sk-new", b"sk-fixed")] == [0, 1, 1]
    (tmp_path / "one").unlink()
    clock.now += REFRESH_S
    assert [admits(access, key) for key in (b"sk-new", b"", b"sk-fixed")] == [0, 0, 1]
    (tmp_path / "one").write_text("sk-back")
    clock.now += REFRESH_S
    assert admits(access, b"sk-back")


def test_missing_client_key_file_fails_closed(tmp_path: Path) -> None:
    """A key whose file is missing admits no client; config/warnings.py names it."""
    config = snapshot_of(tmp_path, f"{V}client_keys: ['file:one']\nallow_anonymous: true\n").config
    access = Access(config, {}, FakeClock())
    assert not admits(access, b"")
    assert not admits(access, b"file:one")
