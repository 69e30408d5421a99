"""A command that runs beside the gateway."""

import os
import sys
import time

import pytest

from serve_app.cli.errors import LaunchError
from serve_app.cli.serve_process import beside
from tests.site import eventually

FAILS = [sys.executable, "-c", "raise SystemExit(3)"]
RUNS = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_beside_reports_a_command_that_ended() -> None:
    """The gateway must not go on without the provider that it was started with."""
    with beside(FAILS, os.environ) as check:

        def ended() -> bool:
            try:
                check()
            except LaunchError as error:
                return "--beside: the command ended with status 3" in str(error)
            return False

        eventually(ended, 20)


def test_beside_stops_its_command() -> None:
    """With the end of the gateway the command ends, too."""
    started = time.monotonic()
    with beside(RUNS, os.environ) as check:
        check()
    assert time.monotonic() - started < 10


def test_beside_without_a_command_checks_nothing() -> None:
    """An empty command starts nothing."""
    with beside([], os.environ) as check:
        check()


def test_beside_raises_out_of_its_body() -> None:
    """An error of the gateway passes through, and the command is stopped."""
    with pytest.raises(LaunchError, match="gone"), beside(RUNS, os.environ):
        raise LaunchError("gone")
