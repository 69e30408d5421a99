"""The contract on sessions, against a graph that keeps its bindings in Redis."""

import pytest

from tests.contract.sessions import *  # noqa: F403 - the tests of that module run here
from tests.serve.conftest import SessionSite
from tests.site import Site


@pytest.fixture
def site(redis_sessions: SessionSite) -> Site:
    """A gateway with two ingress replicas and Redis."""
    return redis_sessions.site
