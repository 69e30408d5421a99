"""The contract on exactness, against the whole graph."""

from tests.contract.exactness import *  # noqa: F403 - the tests of that module run here
