"""The contract on exactness, against the API alone."""

from tests.contract.exactness import *  # noqa: F403 - the tests of that module run here
