"""The contract on sessions, against the whole graph."""

from tests.contract.sessions import *  # noqa: F403 - the tests of that module run here
