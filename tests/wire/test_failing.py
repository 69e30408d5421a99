"""The contract on failing, against the API alone."""

from tests.contract.failing import *  # noqa: F403 - the tests of that module run here
