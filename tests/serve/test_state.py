"""Conversations by ``previous_response_id`` on a cluster: two ingress replicas, answers in memory or Redis."""

import os
import signal
from collections.abc import Iterator

import openai
import pytest

from tests.serve.conftest import Cluster, SessionSite
from tests.site import eventually
from tests.stateful_provider import PREFIX
from tests.wire.test_state import TURNS, after, say

MODELS = ("keeps/keeper", "chats/chatter", "talks/talker")


@pytest.fixture
def client(sessions: SessionSite) -> Iterator[openai.OpenAI]:
    """A client that opens a connection for each request, so that both ingress replicas answer."""
    headers = {"connection": "close"}
    with openai.OpenAI(
        base_url=f"{sessions.site.url}/v1",
        api_key="none",
        max_retries=0,
        default_headers=headers,
    ) as client:
        yield client


def _heard(turns: int) -> str:
    return PREFIX + " | ".join(f"turn {number}" for number in range(turns))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_conversation_goes_on_over_two_ingresses(
    client: openai.OpenAI, model: str, stream: bool
) -> None:
    """Ten turns reach both ingress replicas, and the model hears all of them."""
    before: str | None = None
    for turn in range(TURNS):
        extra = after(before)
        before, heard = say(client, stream=stream, model=model, input=f"turn {turn}", **extra)
        assert heard == _heard(turn + 1)


def _replace(cluster: Cluster, app: str, deployment: str, victim: int) -> None:
    """Kills a replica, and waits for the one in its place."""
    count = len(cluster.replicas(deployment, app))
    os.kill(victim, signal.SIGKILL)

    def is_replaced() -> bool:
        replicas = cluster.replicas(deployment, app)
        return victim not in replicas and len(replicas) == count

    eventually(is_replaced, 60)


def test_conversation_survives_restart_of_every_replica(
    cluster: Cluster, sessions: SessionSite, client: openai.OpenAI
) -> None:
    """Each replica of ingress and store is killed once, between turns of one conversation."""
    before: str | None = None
    turns = 0

    def turn() -> None:
        nonlocal before, turns
        extra = after(before)
        fields = {"model": "chats/chatter", "input": f"turn {turns}", **extra}
        before, heard = say(client, stream=False, **fields)
        turns += 1
        assert heard == _heard(turns)

    for _ in range(4):
        turn()
    for deployment in ("Affinity", "Ingress"):
        for victim in list(cluster.replicas(deployment, sessions.app)):
            _replace(cluster, sessions.app, deployment, victim)
            eventually(lambda: sessions.site.explain("hello")["orchestrator"] is not None, 60)
            for _ in range(3):
                turn()


def test_other_tenant_cannot_continue_conversation(client: openai.OpenAI) -> None:
    """The answers of one tenant do not exist for another one."""
    before, _ = say(client, stream=False, model="chats/chatter", input="a secret")
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(
            model="chats/chatter",
            input="tell me",
            previous_response_id=before,
            extra_headers={"x-tenant": "other"},
        )
    assert caught.value.code == "previous_response_not_found"
