"""Downloads a file from a hub: verified by its hash, and either complete or not there at all."""

import hashlib
import http.client
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from tempfile import mkstemp
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from serve_app.cli.errors import LaunchError

TRIES: Final = 5
"""Attempts for a file; each continues where the one before broke off."""

MAX_REDIRECTS: Final = 5
_TIMEOUT_S: Final = 30.0
_PAUSE_S: Final = 1.0
_CHUNK: Final = 1 << 20
_PARTIAL: Final = 206
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REFUSED: Final = frozenset({401, 403})
_MISSING: Final = 404
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

Progress = Callable[[int], object]
"""Called with the number of bytes that are there."""


class DownloadError(LaunchError):
    """A file that could not be downloaded; the message gives the reason and the fix."""


class _InterruptedError(Exception):
    """The connection broke; the next attempt may continue."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on a hub."""

    url: str
    sha256: str
    max_bytes: int


class Downloader:
    """Downloads files from one endpoint, and from where it redirects to."""

    def __init__(
        self,
        endpoint: str,
        *,
        token: str | None = None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """``token`` is sent to the endpoint alone, and only over https or on this machine."""
        self._origin = _origin(endpoint)
        scheme, host, _ = self._origin
        self._is_plain = scheme == "http"
        self._token = token if scheme == "https" or host in _LOOPBACK else None
        self._pause = pause
        self._opener = build_opener(_NoRedirects)

    def fetch(self, remote: RemoteFile, target: Path, progress: Progress = lambda _: None) -> None:
        """Makes ``target`` the file, atomically. Raises DownloadError; ``target`` is then unchanged.

        A file that is there already stays if it has the hash, and is a fault otherwise.
        """
        if target.is_symlink() or target.exists():
            if not target.is_file() or _hash_of(target) != remote.sha256:
                raise DownloadError(
                    f"{target} exists and is another file; remove it, or choose another folder "
                    "with --to"
                )
            return
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _temporary(target) as (file, path):
                self._download(remote, file, progress)
                found = _digest(file)
                if found != remote.sha256:
                    raise DownloadError(
                        f"{remote.url} is another file: its SHA-256 is {found}, not "
                        f"{remote.sha256}; it was deleted. Check the hash and the endpoint"
                    )
                _publish(path, target)
        except OSError as error:
            raise DownloadError(f"cannot write {target}: {error.strerror or error}") from error

    def _download(self, remote: RemoteFile, file: BufferedRandom, progress: Progress) -> None:
        for left in reversed(range(TRIES)):
            try:
                self._attempt(remote, file, progress)
            except _InterruptedError as error:
                if not left:
                    message = f"{remote.url}: {error}, {TRIES} times; try again later"
                    raise DownloadError(message) from error
                self._pause(_PAUSE_S * (TRIES - left))
            else:
                return

    def _attempt(self, remote: RemoteFile, file: BufferedRandom, progress: Progress) -> None:
        done = file.tell()
        response = self._open(remote.url, done)
        with response:
            if done and not _continues_at(response, done):
                file.seek(0)
                file.truncate()
                done = 0
            length = response.headers.get("Content-Length")
            total = None if length is None or not length.isdecimal() else done + int(length)
            if total is not None and total > remote.max_bytes:
                raise _too_large(remote)
            for chunk in _chunks(response):
                done += len(chunk)
                if done > remote.max_bytes:
                    raise _too_large(remote)
                file.write(chunk)
                progress(done)
        if total is not None and done < total:
            raise _InterruptedError("the connection broke off")

    def _open(self, url: str, done: int) -> http.client.HTTPResponse:
        """The response with the content, after redirects. Raises _InterruptedError for a retry."""
        at = url
        for _ in range(MAX_REDIRECTS + 1):
            headers = {"User-Agent": "fingerpost", "Accept-Encoding": "identity"}
            if done:
                headers["Range"] = f"bytes={done}-"
            if self._token is not None and _origin(at) == self._origin:
                headers["Authorization"] = f"Bearer {self._token}"
            request = Request(at, headers=headers)  # noqa: S310 - _checked allows http and https
            try:
                response: http.client.HTTPResponse = self._opener.open(request, timeout=_TIMEOUT_S)
                return response
            except HTTPError as error:
                with error:
                    if error.code not in _REDIRECTS:
                        raise _refusal(url, error.code) from error
                    at = self._checked(url, urljoin(at, error.headers.get("Location", "")))
            except (URLError, OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                if isinstance(reason, ssl.SSLError):
                    message = f"{url}: TLS failed ({reason}); check certificates and endpoint"
                    raise DownloadError(message) from error
                raise _InterruptedError(f"cannot connect ({reason})") from error
        raise DownloadError(f"{url}: more than {MAX_REDIRECTS} redirects; check the endpoint")

    def _checked(self, url: str, target: str) -> str:
        """The target of a redirect: https, or the origin of an endpoint without TLS."""
        scheme, host, _ = _origin(target)
        is_allowed = scheme == "https" or (self._is_plain and _origin(target) == self._origin)
        if not is_allowed or not host:
            raise DownloadError(
                f"{url} redirects to {scheme or 'nothing'}://{host}, which is not followed; "
                "check the endpoint"
            )
        return target


class _NoRedirects(HTTPRedirectHandler):
    """Leaves redirects to the caller."""

    def redirect_request(self, *_arguments: object, **_named: object) -> None:
        """Follows nothing."""


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", "", None
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port or usual


def _refusal(url: str, status: int) -> Exception:
    if status in _REFUSED:
        return DownloadError(
            f"{url}: status {status}; check the name of the repository, and if it is not public, "
            "set HF_TOKEN to a token that may read it and accept its terms on the hub"
        )
    if status == _MISSING:
        return DownloadError(f"{url}: status 404; check repository, revision and file")
    if status == _TOO_MANY or status >= _SERVER_ERROR:
        return _InterruptedError(f"status {status}")
    return DownloadError(f"{url}: status {status}; check the endpoint")


def _continues_at(response: http.client.HTTPResponse, offset: int) -> bool:
    start = response.headers.get("Content-Range", "")
    return response.status == _PARTIAL and start.startswith(f"bytes {offset}-")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body. Raises _InterruptedError if the connection breaks."""
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError("the connection broke off") from error


@contextmanager
def _temporary(target: Path) -> Iterator[tuple[BufferedRandom, Path]]:
    """A file beside the target that is removed in the end, unless it was published."""
    handle, name = mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file, Path(name)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()


def _publish(file: Path, target: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)
    file.replace(target)


def _digest(file: BufferedRandom) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _too_large(remote: RemoteFile) -> DownloadError:
    return DownloadError(
        f"{remote.url} is larger than {remote.max_bytes} bytes; check the file and the endpoint"
    )
