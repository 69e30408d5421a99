"""The access log of a whole cluster: replicas of the ingress share a file."""

import json
from typing import Any

from tests.serve.conftest import Cluster, SessionSite
from tests.site import eventually


def test_replicas_write_one_access_log(cluster: Cluster, memory_sessions: SessionSite) -> None:
    """Each request is in it once, under the id of its answer, with the replica that served it."""
    answers = [memory_sessions.site.ask("inline/parrot") for _ in range(60)]
    assert {answer.status for answer in answers} == {200}
    ids = [answer.headers["x-request-id"] for answer in answers]
    found: list[dict[str, Any]] = []

    def all_are_written() -> bool:
        text = (cluster.home / "memory-access.jsonl").read_text("utf-8")
        found[:] = [json.loads(line) for line in text.splitlines()]
        return set(ids) <= {line["id"] for line in found}

    eventually(all_are_written, 10)
    ours = [line for line in found if line["id"] in set(ids)]
    assert sorted(line["id"] for line in ours) == sorted(ids)
    assert len({line["replica"] for line in ours}) == 2
