"""The hop between replicas where the environment names a proxy."""

from tests.serve.conftest import Cluster
from tests.site import Site


def test_hop_does_not_go_to_the_proxy(cluster: Cluster, site: Site) -> None:
    """The cluster runs with http_proxy and https_proxy, which gRPC would use for the hop.

    Only what looks for a cloud's metadata, at addresses outside, may ask it.
    """
    for stream in (False, True):
        assert site.ask("dedicated/parrot", stream=stream).status == 200
    addresses = {line.split(" ")[1] for line in cluster.proxy.requests}
    assert not [address for address in addresses if not address.startswith("http://")]
    hosts = {address.split("/")[2] for address in addresses}
    assert hosts <= {"169.254.169.254", "metadata.google.internal"}


def test_provider_clients_have_answered_before_the_gateway_is_healthy(site: Site) -> None:
    """The first 200 of /healthz means that no provider client is missing."""
    health = site.send(method="GET", path="/healthz")
    assert health.status == 200
    assert (health.json["status"], health.json["missing_clients"]) == ("ok", [])
