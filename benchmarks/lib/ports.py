"""Free ports on loopback."""

import secrets
import socket
import time
from contextlib import suppress


def free_ports(count: int) -> list[int]:
    """Returns ports on which no process listens now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def free_range(count: int) -> int:
    """Returns the first of ``count`` free ports below the kernel's ephemeral range."""
    for _ in range(50):
        first = 20_000 + secrets.randbelow(80) * count
        if all(_is_free(port) for port in range(first, first + count + 1)):
            return first
    raise RuntimeError("no range of free ports between 20000 and 28000")


def wait_for_port(port: int, within_s: float = 20.0) -> None:
    """Waits until a process listens. Raises RuntimeError if none does in time."""
    ends_at = time.monotonic() + within_s
    while time.monotonic() < ends_at:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"no process listens on port {port} after {within_s:g} s")


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True
