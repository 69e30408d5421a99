"""The contract on bad_input, against the whole graph."""

from tests.contract.bad_input import *  # noqa: F403 - the tests of that module run here
