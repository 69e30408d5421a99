"""The contract on sessions, against a graph whose bindings are in Redis."""

import pytest

from tests.contract.sessions import *  # noqa: F403 - the tests of that module run here
from tests.serve.conftest import SessionSite
from tests.site import Site


@pytest.fixture
def site(redis_sessions: SessionSite) -> Site:
    """Two ingresses, and Redis."""
    return redis_sessions.site
