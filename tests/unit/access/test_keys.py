"""Who may ask: holders of client keys, or programs on this machine."""

from pathlib import Path

import pytest

from serve_app.access.exposure import exposure_problem
from serve_app.access.keys import Access, Caller
from serve_app.config.references import REFRESH_S
from serve_app.errors import AnonymousRefused, InvalidClientKey
from tests.unit.config.broken import V
from tests.unit.fakes import FakeClock, setup_of


def access_of(directory: Path, more: str, **environ: str) -> Access:
    return Access(setup_of(directory, V + more).config, environ)


def caller(*keys: bytes, near: bool = True, origin: str | None = None) -> Caller:
    """A client on this machine, or on another one."""
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
def test_a_client_key_is_asked_for(
    keys: list[bytes], known: bool, near: bool, tmp_path: Path
) -> None:
    """With client keys one of them has to be shown, from this machine too."""
    access = access_of(tmp_path, "client_keys: [$ONE, two]\n", ONE="one")
    if known:
        access.check(caller(*keys, near=near))
        return
    with pytest.raises(InvalidClientKey):
        access.check(caller(*keys, near=near))


def test_an_unset_client_key_is_nobodys(tmp_path: Path) -> None:
    """A key whose variable is not set admits no client; config/warnings.py names it."""
    access = access_of(tmp_path, "client_keys: [$NO, sk-1]\n")
    access.check(caller(b"sk-1", near=False))
    for key in (b"", b"$NO"):
        with pytest.raises(InvalidClientKey):
            access.check(caller(key))


def test_without_any_set_key_nobody_gets_in(tmp_path: Path) -> None:
    """Configured keys of which none is set do not open the door."""
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
def test_without_keys_this_machine_alone_is_served(
    client: str | None, server: str | None, local: bool, tmp_path: Path
) -> None:
    """Loopback, or our own address on both ends; all others are refused."""
    access = access_of(tmp_path, "")
    if local:
        access.check(Caller(client, server, None))
        return
    with pytest.raises(AnonymousRefused):
        access.check(Caller(client, server, None, (b"a key",)))


@pytest.mark.parametrize("near", [False, True])
def test_anonymous_clients_may_be_allowed(near: bool, tmp_path: Path) -> None:
    """Who says so serves everybody."""
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
def test_a_page_from_elsewhere_is_not_this_machine(
    origin: str | None, own: bool, tmp_path: Path
) -> None:
    """A browser here that runs a foreign page is not its user."""
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
def test_an_open_door_is_a_problem(
    host: str, open_: bool, more: str, guarded: bool, tmp_path: Path
) -> None:
    """Listening where others reach it takes keys, or a word that it is meant so."""
    problem = exposure_problem(host, setup_of(tmp_path, V + more).config)
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


def test_a_client_key_in_a_file_can_be_changed(tmp_path: Path) -> None:
    """It is looked for beside the configuration, and read again after a while."""
    clock = FakeClock()
    (tmp_path / "one").write_text("sk-old\n")
    config = setup_of(tmp_path, f"{V}client_keys: ['file:one', sk-fixed]\n").config
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


def test_a_client_key_whose_file_is_missing_is_nobodys(tmp_path: Path) -> None:
    """A key whose file is missing admits no client; config/warnings.py names it."""
    config = setup_of(tmp_path, f"{V}client_keys: ['file:one']\nallow_anonymous: true\n").config
    access = Access(config, {}, FakeClock())
    assert not admits(access, b"")
    assert not admits(access, b"file:one")
