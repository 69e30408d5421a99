"""Keys that clients show: those of their own for a provider, and ours that are in files."""

from pathlib import Path

import pytest

from serve_app.access.keys import Access
from serve_app.api.headers import read_headers
from serve_app.config.references import REFRESH_S
from serve_app.errors import InvalidClientKey
from tests.unit.config.broken import V
from tests.unit.fakes import FakeClock, setup_of


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ([], None),
        ([(b"authorization", b"Bearer  sk-1 ")], "sk-1"),
        ([(b"x-api-key", b" sk-2 ")], "sk-2"),
        ([(b"x-api-key", b"sk-2"), (b"authorization", b"bearer sk-1")], "sk-1"),
        ([(b"authorization", b"Basic abc"), (b"x-api-key", b"sk-2")], "sk-2"),
        ([(b"authorization", b"Basic abc")], None),
        ([(b"authorization", b"Bearer "), (b"x-api-key", b"sk-2")], "sk-2"),
        ([(b"x-api-key", b"")], None),
        ([(b"x-api-key", "clé".encode())], "clé"),
        ([(b"x-api-key", b"\xff")], "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_clients_own_key_is_its_bearer_token(
    headers: list[tuple[bytes, bytes]], credential: str | None
) -> None:
    """Else its ``x-api-key``; what is empty is none."""
    assert read_headers(headers, 1000).credential == credential


def test_what_was_read_hides_the_keys() -> None:
    """A repr of a request's headers can be logged."""
    facts = read_headers([(b"authorization", b"Bearer sk-1"), (b"x-api-key", b"sk-2")], 1000)
    assert "sk-" not in repr(facts)


def admits(access: Access, key: bytes) -> bool:
    try:
        access.check({}, read_headers([(b"x-api-key", key)], 1000))
    except InvalidClientKey:
        return False
    return True


def test_a_client_key_in_a_file_can_be_changed(tmp_path: Path) -> None:
    """It is looked for beside the configuration, and read again after a while."""
    clock = FakeClock()
    (tmp_path / "one").write_text("sk-old\n")
    config = setup_of(tmp_path, f"{V}client_keys: ['file:one', sk-fixed]\n").config
    access = Access(config, {}, clock)
    assert access.warnings == []
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
    """A warning names the file; it is no open door."""
    config = setup_of(tmp_path, f"{V}client_keys: ['file:one']\nallow_anonymous: true\n").config
    access = Access(config, {}, FakeClock())
    (warning,) = access.warnings
    assert warning == (
        f"client_keys: the file {tmp_path}/one is missing, unreadable or empty; "
        "nobody can use this key"
    )
    assert not admits(access, b"")
    assert not admits(access, b"file:one")
