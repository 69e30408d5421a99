"""The contract on bad input, against the whole graph."""

from tests.contract.bad_input import *  # noqa: F403 - the tests of that module run here
