"""Downloads: complete and verified, or not there at all."""

import hashlib
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.cli import download
from serve_app.cli.download import MAX_REDIRECTS, TRIES, Downloader, DownloadError, RemoteFile
from tests.unit.cli.hub import Hub, Scripted, running_hub

BODY: Final = bytes(range(256)) * 40
SHA256: Final = hashlib.sha256(BODY).hexdigest()
BROKEN: Final = Scripted(BODY, breaks_after=4000)
DOWN: Final = Scripted(status=503)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as running:
        yield running


def fetch(hub: Hub, target: Path, **options: Any) -> list[float]:
    """Downloads ``/file``; the pauses between the attempts."""
    pauses: list[float] = []
    remote = RemoteFile(
        f"{hub.url}/file",
        options.pop("sha256", SHA256),
        options.pop("max_bytes", len(BODY)),
    )
    progress = options.pop("progress", lambda _: None)
    Downloader(hub.url, pause=pauses.append, **options).fetch(remote, target, progress)
    return pauses


def fault(hub: Hub, folder: Path, **options: Any) -> str:
    """Why the download fails; it leaves nothing in the folder."""
    with pytest.raises(DownloadError) as caught:
        fetch(hub, folder / "deep" / "file", **options)
    assert [path for path in folder.rglob("*") if not path.is_dir()] == []
    return str(caught.value)


def test_file_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    """Folders are made, the mode is the usual one, and nothing else is left."""
    hub.script("/file", Scripted(BODY))
    done: list[int] = []
    assert fetch(hub, tmp_path / "a/b/file", progress=done.append) == []
    assert (tmp_path / "a/b/file").read_bytes() == BODY
    assert done[-1] == len(BODY)
    assert list((tmp_path / "a/b").iterdir()) == [tmp_path / "a/b/file"]
    plain = tmp_path / "plain"
    plain.touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (plain, tmp_path / "a/b/file")}
    assert len(modes) == 1


def test_file_without_a_length_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    """Its end is that of the connection."""
    hub.script("/file", Scripted(BODY, has_length=False))
    fetch(hub, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


def test_broken_download_is_continued(hub: Hub, tmp_path: Path) -> None:
    """Only the rest is requested, after a pause that grows."""
    hub.script("/file", BROKEN, DOWN, BROKEN, Scripted(BODY))
    assert fetch(hub, tmp_path / "file") == [1.0, 2.0, 3.0]
    assert (tmp_path / "file").read_bytes() == BODY
    assert hub.ranges() == [None, "bytes=4000-", "bytes=4000-", "bytes=8000-"]


def test_server_without_ranges_starts_anew(hub: Hub, tmp_path: Path) -> None:
    """What was there is thrown away."""
    hub.script("/file", BROKEN, Scripted(BODY, ignores_range=True))
    fetch(hub, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Scripted(BODY, breaks_after=0), "the connection broke off"),
        (DOWN, "status 503"),
        (Scripted(status=429), "status 429"),
    ],
)
def test_number_of_attempts_is_limited(
    answer: Scripted, reason: str, hub: Hub, tmp_path: Path
) -> None:
    """The message has the last reason."""
    hub.script("/file", answer)
    assert fault(hub, tmp_path) == f"{hub.url}/file: {reason}, 5 times; try again later"
    assert len(hub.requests) == TRIES == 5


def test_broken_chunks_are_an_interruption(hub: Hub, tmp_path: Path) -> None:
    """A body in chunks has no length, so its end must be marked."""
    chunked = {"Transfer-Encoding": "chunked"}
    cut = Scripted(b"400\r\n" + BODY[:1024] + b"\r\n400\r\nabc", headers=chunked, has_length=False)
    hub.script("/file", cut, Scripted(BODY))
    assert len(fetch(hub, tmp_path / "file")) == 1
    assert (tmp_path / "file").read_bytes() == BODY


def test_unreachable_server_is_named(tmp_path: Path) -> None:
    """The message has the reason of the system."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        hub = Hub(f"http://127.0.0.1:{taken.getsockname()[1]}")
        text = fault(hub, tmp_path)
    assert text.startswith(f"{hub.url}/file: cannot connect (")
    assert text.endswith("), 5 times; try again later")


def test_server_without_tls_is_not_retried(hub: Hub, tmp_path: Path) -> None:
    """The same would happen again."""
    secure = Hub(hub.url.replace("http://", "https://"))
    text = fault(secure, tmp_path)
    assert text.startswith(f"{secure.url}/file: TLS failed (")
    assert text.endswith("); check certificates and endpoint")


def test_wrong_hash_is_deleted(hub: Hub, tmp_path: Path) -> None:
    """The message has both hashes."""
    hub.script("/file", Scripted(BODY[:-1] + b"x"))
    found = hashlib.sha256(BODY[:-1] + b"x").hexdigest()
    assert fault(hub, tmp_path) == (
        f"{hub.url}/file is another file: its SHA-256 is {found}, not {SHA256}; it was deleted. "
        "Check the hash and the endpoint"
    )


@pytest.mark.parametrize("has_length", [True, False])
def test_large_file_is_refused(hub: Hub, tmp_path: Path, *, has_length: bool) -> None:
    """With a length at once, else as soon as it is too large."""
    hub.script("/file", Scripted(BODY, has_length=has_length))
    assert fault(hub, tmp_path, max_bytes=len(BODY) - 1) == (
        f"{hub.url}/file is larger than {len(BODY) - 1} bytes; check the file and the endpoint"
    )


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "status 404; check repository, revision and file"),
        (
            401,
            (
                "status 401; check the name of the repository, and if it is not public, set "
                "HF_TOKEN to a token that may read it and accept its terms on the hub"
            ),
        ),
        (400, "status 400; check the endpoint"),
    ],
)
def test_refusal_is_final(status: int, message: str, hub: Hub, tmp_path: Path) -> None:
    """It is not repeated, and the message says what to do."""
    hub.script("/file", Scripted(status=status))
    assert fault(hub, tmp_path) == f"{hub.url}/file: {message}"
    assert len(hub.requests) == 1


def test_redirects_of_the_endpoint_are_followed(hub: Hub, tmp_path: Path) -> None:
    """They may be relative, and the rest of a file is requested from where they lead."""
    hub.script("/file", Scripted(status=307, headers={"Location": "/deep/cached"}))
    hub.script("/deep/cached", Scripted(status=302, headers={"Location": "last"}))
    hub.script("/deep/last", BROKEN, Scripted(BODY))
    fetch(hub, tmp_path / "file")
    paths = [path for path, _ in hub.requests]
    assert paths == ["/file", "/deep/cached", "/deep/last"] * 2
    assert (tmp_path / "file").read_bytes() == BODY


def test_number_of_redirects_is_limited(hub: Hub, tmp_path: Path) -> None:
    """A circle ends."""
    hub.script("/file", Scripted(status=302, headers={"Location": "/file"}))
    assert fault(hub, tmp_path) == (f"{hub.url}/file: more than 5 redirects; check the endpoint")
    assert len(hub.requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("http://127.0.0.1:1/file", "http://127.0.0.1"),
        ("file:///etc/passwd", "file://"),
        ("ftp://h/file", "ftp://h"),
        ("http://h:bad/", "nothing://"),
    ],
)
def test_redirect_elsewhere_without_tls_is_not_followed(
    location: str, shown: str, hub: Hub, tmp_path: Path
) -> None:
    """Only https, or the origin of an endpoint that has no TLS itself."""
    hub.script("/file", Scripted(status=302, headers={"Location": location}))
    assert fault(hub, tmp_path) == (
        f"{hub.url}/file redirects to {shown}, which is not followed; check the endpoint"
    )
    assert len(hub.requests) == 1


def test_redirect_to_https_is_followed(hub: Hub, tmp_path: Path) -> None:
    """From https never back to http."""
    other = hub.url.replace("http://", "https://")
    hub.script("/file", Scripted(status=302, headers={"Location": f"{other}/file"}))
    assert fault(hub, tmp_path).startswith(f"{hub.url}/file: TLS failed (")
    with pytest.raises(DownloadError, match="which is not followed"):
        Downloader(other)._checked(f"{other}/file", f"{hub.url}/file")


def test_token_is_sent_to_the_endpoint_alone(hub: Hub, tmp_path: Path) -> None:
    """A server that it redirects to does not get it."""
    with running_hub() as other:
        hub.script("/file", Scripted(BODY))
        fetch(hub, tmp_path / "one", token="secret")
        assert hub.requests[0][1]["authorization"] == "Bearer secret"
        remote = RemoteFile(f"{other.url}/file", SHA256, len(BODY))
        other.script("/file", Scripted(BODY))
        Downloader(hub.url, token="secret").fetch(remote, tmp_path / "two")
        assert "authorization" not in other.requests[0][1]


@pytest.mark.parametrize(
    ("endpoint", "is_kept"),
    [
        ("https://hub.example", True),
        ("http://localhost:80", True),
        ("http://[::1]", True),
        ("http://hub.example", False),
    ],
)
def test_token_is_not_sent_in_the_clear(endpoint: str, *, is_kept: bool) -> None:
    """Only over https, or on this machine."""
    assert (Downloader(endpoint, token="secret")._token is not None) is is_kept


def test_file_that_is_there_is_not_downloaded_again(hub: Hub, tmp_path: Path) -> None:
    """It has the hash."""
    (tmp_path / "file").write_bytes(BODY)
    fetch(hub, tmp_path / "file")
    assert hub.requests == []


@pytest.mark.parametrize("kind", ["other", "folder", "link"])
def test_other_file_is_not_replaced(kind: str, hub: Hub, tmp_path: Path) -> None:
    """It may be the user's own."""
    target = tmp_path / "file"
    if kind == "other":
        target.write_bytes(b"mine")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "none")
    with pytest.raises(DownloadError) as caught:
        fetch(hub, target)
    assert str(caught.value) == (
        f"{target} exists and is another file; remove it, or choose another folder with --to"
    )
    assert hub.requests == []


def test_folder_that_cannot_be_made_is_a_fault(hub: Hub, tmp_path: Path) -> None:
    """The message has the reason of the system."""
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError) as caught:
        fetch(hub, tmp_path / "file" / "x")
    assert str(caught.value).startswith(f"cannot write {tmp_path}/file/x: ")


def test_interruption_by_the_user_leaves_nothing(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C is passed on."""
    monkeypatch.setattr(download, "_CHUNK", 100)
    hub.script("/file", Scripted(BODY))

    def stop(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path / "file", progress=stop)
    assert list(tmp_path.iterdir()) == []
