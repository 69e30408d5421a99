"""The contract on naming, against the API alone."""

from tests.contract.naming import *  # noqa: F403 - the tests of that module run here
