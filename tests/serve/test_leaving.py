"""The contract on clients that disconnect, against the whole graph."""

from tests.contract.leaving import *  # noqa: F403 - the tests of that module run here
