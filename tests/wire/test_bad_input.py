"""The contract on bad_input, against the API alone."""

from tests.contract.bad_input import *  # noqa: F403 - the tests of that module run here
