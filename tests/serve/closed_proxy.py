"""A proxy on loopback that closes every connection, and records what it was asked."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class ClosedProxy:
    """Each request that is sent to it fails at once."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """Request lines."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def environ(self) -> dict[str, str]:
        """The variables that name it, in both cases; providers on loopback are exempt."""
        url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
        return {**dict.fromkeys(names, url), "NO_PROXY": "127.0.0.1,localhost"}

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    connection.settimeout(2)
                    line = connection.recv(4096).partition(b"\r\n")[0]
                    self.requests.append(line.decode("latin-1"))

    @contextmanager
    def running(self) -> Iterator["ClosedProxy"]:
        """Serves in a thread."""
        self._thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._thread.join(5)
