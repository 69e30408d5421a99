"""Fixtures of all tests; connections to addresses other than loopback fail."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.site import DATA_PATHS

_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, as the gateway does."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> Iterator[None]:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(_LOCAL):
            message = f"a test tried to reach {address}"
            raise AssertionError(message)
        connect(self, address)

    socket.socket.connect = guarded  # type: ignore[method-assign, assignment]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def providers() -> Iterator[dict[str, ScriptedProvider]]:
    """One scripted provider for each data path."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(ScriptedProvider()) for name in DATA_PATHS}
