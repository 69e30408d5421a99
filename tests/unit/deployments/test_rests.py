"""The board of resting endpoints in the Affinity deployment, as ingress replicas ask it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from deployments.affinity import Affinity
from deployments.handles import HandleRests
from serve_app.exchange import RestReport


@dataclass
class FakeMethod:
    """A method of a handle that runs in this process."""

    method: Callable[..., Awaitable[Any]]

    def remote(self, *arguments: Any) -> Awaitable[Any]:
        return self.method(*arguments)


@dataclass
class FakeHandle:
    """A handle of the deployment."""

    share_rests: FakeMethod
    claim_probe: FakeMethod


async def test_replicas_share_rests_and_claims() -> None:
    """What one puts up the other one reads, and an endpoint is probed by one of them."""
    affinity = Affinity(None)
    handle = FakeHandle(FakeMethod(affinity.share_rests), FakeMethod(affinity.claim_probe))
    one, two = (HandleRests(cast("Any", handle)) for _ in range(2))
    await one.share([RestReport("e", "", 60.0, "bad_key")])
    (shared,) = await two.share([])
    assert (shared.endpoint, shared.model, shared.why) == ("e", "", "bad_key")
    assert await one.claim("e", 5.0)
    assert not await two.claim("e", 5.0)
    assert await two.claim("f", 5.0)
