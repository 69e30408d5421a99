"""The contract on failures, against the whole graph."""

from tests.contract.failing import *  # noqa: F403 - the tests of that module run here
