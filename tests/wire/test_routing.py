"""The contract on routing by content, against the API alone."""

from tests.contract.routing import *  # noqa: F403 - the tests of that module run here
