"""Conversations by ``previous_response_id`` and ``conversation``, over providers that keep state and
providers that do not.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from tests.site import PROMPTS, Site
from tests.stateful_provider import PREFIX, StatefulProvider, entries_of
from tests.unit.config.broken import V
from tests.wire.conftest import serve_api

MODELS = ("keeps/keeper", "keeps/keeper-quiet", "keeps/forgetful", "chats/chatter", "talks/talker")
TURNS = 10
KEYS = {"ALICE": "key-of-alice-0123", "BOB": "key-of-bob-0123"}


@dataclass
class StateBench:
    """A gateway before the stateful provider, with a client for each of two keys."""

    site: Site
    provider: StatefulProvider
    clients: dict[str, openai.OpenAI]

    def client(self, name: str = "ALICE") -> openai.OpenAI:
        return self.clients[name]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateBench]:
    """A gateway in one process, with answers in memory."""
    with StatefulProvider() as provider:
        two = [
            {**entries_of(provider.url)[0], "model": "pair/keeper", "access_key": f"key-{number}"}
            for number in range(2)
        ]
        config = {
            "client_keys": ["$ALICE", "$BOB"],
            "model_providers": [*entries_of(provider.url), *two],
            "routing_preferences": [
                {"name": "code", "description": PROMPTS["code"], "models": ["pair/keeper"]},
                {
                    "name": "verse",
                    "description": PROMPTS["poems and songs"],
                    "models": ["chats/chatter", "talks/talker"],
                },
            ],
        }
        file = tmp_path_factory.mktemp("state") / "gateway.yaml"
        file.write_text(f"{V}\n" + "\n".join(f"{k}: {json.dumps(v)}" for k, v in config.items()))
        with serve_api(file, {}, KEYS) as site, ExitStack() as stack:
            clients = {
                name: stack.enter_context(
                    openai.OpenAI(base_url=f"{site.url}/v1", api_key=key, max_retries=0)
                )
                for name, key in KEYS.items()
            }
            yield StateBench(site, provider, clients)


def after(before: str | None) -> dict[str, Any]:
    """The field of a turn that continues the one before."""
    return {} if before is None else {"previous_response_id": before}


def say(client: openai.OpenAI, *, stream: bool, **fields: Any) -> tuple[str, str]:
    """One turn: the id of its answer, and what the model has heard so far."""
    if not stream:
        answer = client.responses.create(**fields)
        return answer.id, answer.output_text
    with client.responses.stream(**fields) as events:
        for _ in events:
            pass
        final = events.get_final_response()
        return final.id, final.output_text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_previous_response_continues_ten_turns(bench: StateBench, model: str, stream: bool) -> None:
    """Each turn names the one before, and the model hears all of them."""
    client = bench.client()
    before: str | None = None
    for turn in range(TURNS):
        extra = after(before)
        before, heard = say(client, stream=stream, model=model, input=f"turn {turn}", **extra)
        assert heard == PREFIX + " | ".join(f"turn {number}" for number in range(turn + 1))
    sent = bench.provider.ledger.last().json
    assert (sent.get("previous_response_id") is not None) == model.startswith("keeps/keeper")


@pytest.mark.parametrize("model", MODELS)
def test_foreign_key_cannot_continue_conversation(bench: StateBench, model: str) -> None:
    """The answer of one client does not exist for another client's key."""
    before, _ = say(bench.client(), stream=False, model=model, input="a secret")
    if model.startswith("keeps/keeper"):
        bench.provider.accounts.kept.clear()  # its account is the gateway's, not the client's
    with pytest.raises(openai.BadRequestError) as caught:
        say(
            bench.client("BOB"),
            stream=False,
            model=model if not model.endswith("forgetful") else "chats/chatter",
            input="tell me",
            previous_response_id=before,
        )
    assert caught.value.code == "previous_response_not_found"


def test_answer_without_store_cannot_be_continued(bench: StateBench) -> None:
    """With ``store: false`` nothing is kept."""
    client = bench.client()
    before, _ = say(client, stream=False, model="chats/chatter", input="once", store=False)
    with pytest.raises(openai.BadRequestError, match="not found"):
        say(client, stream=False, model="chats/chatter", input="again", previous_response_id=before)


def test_translated_answer_names_what_it_continues(bench: StateBench) -> None:
    """The answer repeats the id before it and says that it is kept, as the API does."""
    client = bench.client()
    first = client.responses.create(model="chats/chatter", input="one")
    second = client.responses.create(
        model="chats/chatter", input="two", previous_response_id=first.id
    )
    assert second.previous_response_id == first.id
    assert second.model_dump()["store"] is True


def test_conversation_moves_between_providers(bench: StateBench) -> None:
    """What the gateway keeps can go on at any provider, also one that keeps state itself."""
    client, heard = bench.client(), ""
    before: str | None = None
    for turn, model in enumerate(
        ("chats/chatter", "talks/talker", "keeps/forgetful", "chats/chatter")
    ):
        extra = after(before)
        before, heard = say(client, stream=False, model=model, input=f"turn {turn}", **extra)
    assert heard == PREFIX + "turn 0 | turn 1 | turn 2 | turn 3"


def test_answer_of_other_provider_is_refused_with_its_model(bench: StateBench) -> None:
    """What only one provider keeps cannot go on at another one; the error says where it can."""
    client = bench.client()
    before, _ = say(client, stream=False, model="keeps/keeper", input="one")
    with pytest.raises(openai.BadRequestError, match="only the provider of keeps/keeper"):
        say(client, stream=False, model="chats/chatter", input="two", previous_response_id=before)


def test_state_stays_at_its_endpoint(bench: StateBench) -> None:
    """Of two accounts of one model, the one that has the answer continues it."""
    client = bench.client()
    for _ in range(4):
        before: str | None = None
        for turn in range(3):
            extra = after(before)
            before, heard = say(client, stream=False, model="pair/keeper", input=f"{turn}", **extra)
        assert heard == PREFIX + "0 | 1 | 2"


def test_lost_answer_is_healed_from_history(bench: StateBench) -> None:
    """A provider that does not say whether it keeps answers may lose them: the gateway has them."""
    client = bench.client()
    before, _ = say(client, stream=False, model="keeps/keeper-quiet", input="one")
    bench.provider.accounts.kept.clear()
    raw = client.responses.with_raw_response.create(
        model="keeps/keeper-quiet", input="two", previous_response_id=before
    )
    assert raw.headers["x-fingerpost-healed"] == "history"
    assert raw.parse().output_text == PREFIX + "one | two"


@pytest.mark.parametrize("stream", [False, True])
def test_unreadable_thoughts_are_left_out_once(bench: StateBench, stream: bool) -> None:
    """Thoughts that another account has encrypted are left out, and a header says so."""
    foreign = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "of another"}
    items: list[Any] = [foreign, {"role": "user", "content": "hello"}]
    raw = bench.client().responses.with_raw_response.create(
        model="keeps/keeper", input=items, store=False, stream=stream
    )
    assert raw.headers["x-fingerpost-healed"] == "thoughts"
    assert raw.headers["x-fingerpost-attempts"] == "2"
    assert [item["role"] for item in bench.provider.ledger.last().json["input"]] == ["user"]


def test_provider_conversation_keeps_its_endpoint(bench: StateBench) -> None:
    """A conversation that the gateway does not know is found at the account that has it, and stays
    there.
    """
    provider, client = bench.provider, bench.client()
    for number in range(2):
        name = f"conv_{number}"
        provider.accounts.kept[f"Bearer key-{number} {name}"] = []
        for turn in range(6):
            _, heard = say(
                client, stream=False, model="pair/keeper", input=f"{turn}", conversation=name
            )
            assert heard == PREFIX + " | ".join(str(each) for each in range(turn + 1))


@pytest.mark.parametrize(
    ("prompt", "model", "reason"),
    [("code", "pair/keeper", "state"), ("poems and songs", "chats/chatter", "affinity")],
)
def test_open_choice_continues_where_the_answer_came_from(
    bench: StateBench, prompt: str, model: str, reason: str
) -> None:
    """A conversation that was routed by its content stays on its model, without a session."""
    client = bench.client()
    first = client.responses.with_raw_response.create(model="auto", input=PROMPTS[prompt])
    assert first.headers["x-fingerpost-model"] == model
    other = PROMPTS["poems and songs" if prompt == "code" else "code"]
    fields: dict[str, Any] = {
        "model": "auto",
        "input": other,
        "previous_response_id": first.parse().id,
    }
    for _ in range(3):
        second = client.responses.with_raw_response.create(**fields)
        assert second.headers["x-fingerpost-model"] == model
        assert second.headers["x-fingerpost-reason"] == reason
        assert second.parse().output_text == f"{PREFIX}{PROMPTS[prompt]} | {other}"
    key = {"authorization": f"Bearer {KEYS['ALICE']}"}
    told = bench.site.send(json.dumps(fields).encode(), path="/v1/route", headers=key)
    assert told.json["reason"] == reason
    assert told.json["model"] == model


def test_unknown_answer_goes_to_a_provider_that_may_know_it(bench: StateBench) -> None:
    """A provider of the same dialect is asked: the answer may be older than the gateway."""
    bench.provider.accounts.kept["Bearer key-of-keeps resp_old"] = [
        {"role": "user", "content": "long ago"}
    ]
    _, heard = say(
        bench.client(),
        stream=False,
        model="keeps/keeper",
        input="now",
        previous_response_id="resp_old",
    )
    assert heard == PREFIX + "long ago | now"


def test_thread_of_messages_stays_at_its_account(bench: StateBench) -> None:
    """A thread that another model continues is refused as the SDKs expect it."""
    headers = {"authorization": f"Bearer {KEYS['ALICE']}", "anthropic-version": "2026-10-21"}
    body = {"max_tokens": 9, "messages": [{"role": "user", "content": "one"}]}
    first = bench.site.send(
        json.dumps({**body, "model": "talks/talker", "thread": {"type": "create"}}).encode(),
        path="/v1/messages",
        headers=headers,
    )
    thread = {"type": "continue", "previous_message_id": first.json["id"]}
    for model, status in (("talks/talker", 200), ("chats/chatter", 404)):
        second = bench.site.send(
            json.dumps({**body, "model": model, "thread": thread}).encode(),
            path="/v1/messages",
            headers=headers,
        )
        assert second.status == status, second.body
    assert second.json["error"]["details"]["error_code"] == "thread_not_found"
