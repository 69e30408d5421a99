"""Kept answers and conversations over HTTP, by the official SDK: at the gateway and at providers."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.site import Answered, Site
from tests.stateful_provider import PREFIX, StatefulProvider, entries_of
from tests.unit.config.broken import V
from tests.wire.conftest import serve_api
from tests.wire.test_state import KEYS, MODELS, TURNS, StateBench, say

HERE = ("keeps/forgetful", "chats/chatter", "talks/talker")
"""Models whose answers the gateway keeps."""
KEEPERS = ("keeps/keeper", "hops/keeper")
"""Models whose provider alone keeps their answers, without a hop and with one."""


def write_config(folder: Path, provider: StatefulProvider, **fields: Any) -> Path:
    """A configuration with all ways of keeping answers."""
    hop = {
        "model": "hops/keeper",
        "base_url": provider.url,
        "provider_interface": "openai",
        "operations": ["responses"],
        "access_key": "key-of-hops",
    }
    config = {
        "client_keys": ["$ALICE", "$BOB"],
        "model_providers": [*entries_of(provider.url), hop],
        **fields,
    }
    file = folder / "gateway.yaml"
    file.write_text(f"{V}\n" + "\n".join(f"{k}: {json.dumps(v)}" for k, v in config.items()))
    return file


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateBench]:
    """A gateway in one process, with answers in memory."""
    with StatefulProvider() as provider:
        file = write_config(
            tmp_path_factory.mktemp("stored"),
            provider,
            routing={"session_cache": {"type": "memory", "tenant_header": "x-tenant"}},
            limits={"body_bytes": 4096},
        )
        with serve_api(file, {}, KEYS) as site, ExitStack() as stack:
            clients = {
                name: stack.enter_context(
                    openai.OpenAI(base_url=f"{site.url}/v1", api_key=key, max_retries=0)
                )
                for name, key in KEYS.items()
            }
            yield StateBench(site, provider, clients)


def send(site: Site, method: str, path: str, body: bytes | None = None) -> Answered:
    """One raw request of Alice's."""
    headers = {"authorization": f"Bearer {KEYS['ALICE']}"}
    return site.send(body, method=method, path=path, headers=headers)


def text_in(item: Any) -> str:
    """The text of a listed message."""
    return str(item.content[0].text)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", [*HERE, *KEEPERS, "keeps/keeper-quiet"])
def test_answer_is_retrieved_as_it_was_given(bench: StateBench, model: str, stream: bool) -> None:
    """From the gateway or from its provider, and after its deletion from neither."""
    client = bench.client()
    name, heard = say(client, stream=stream, model=model, input="once")
    kept = client.responses.retrieve(name)
    assert (kept.id, kept.output_text) == (name, heard)
    client.responses.delete(name)
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.retrieve(name)
    assert caught.value.code == "response_not_found"
    assert caught.value.type == "invalid_request_error"
    if model.startswith(("keeps/keeper", "hops")):
        assert not any(key.endswith(f" {name}") for key in bench.provider.accounts.kept)


def test_deletion_is_answered_with_an_object(bench: StateBench) -> None:
    """As OpenAI's API answers, although its SDK shows nothing of it."""
    for model in ("chats/chatter", "keeps/keeper", "keeps/keeper-quiet"):
        name, _ = say(bench.client(), stream=False, model=model, input="once")
        answer = send(bench.site, "DELETE", f"/v1/responses/{name}")
        assert answer.json == {"id": name, "object": "response", "deleted": True}
        assert send(bench.site, "DELETE", f"/v1/responses/{name}").status == 404


def test_deleted_answer_cannot_be_continued(bench: StateBench) -> None:
    """Neither by itself nor as part of a conversation."""
    client = bench.client()
    first, _ = say(client, stream=False, model="chats/chatter", input="one")
    second, _ = say(
        client, stream=False, model="chats/chatter", input="two", previous_response_id=first
    )
    client.responses.delete(first)
    for name in (first, second):
        with pytest.raises(openai.BadRequestError, match="not found"):
            say(client, stream=False, model="chats/chatter", input="x", previous_response_id=name)


@pytest.mark.parametrize("model", [*HERE, *KEEPERS])
def test_foreign_key_and_tenant_see_nothing(bench: StateBench, model: str) -> None:
    """The answer of one client does not exist for another key, nor for another tenant."""
    name, _ = say(bench.client(), stream=False, model=model, input="a secret")
    sent = len(bench.provider.ledger.exchanges)
    tenant = bench.client().with_options(default_headers={"x-tenant": "other"})
    for client in (bench.client("BOB"), tenant):
        for call in (
            client.responses.retrieve,
            client.responses.delete,
            client.responses.cancel,
            client.responses.input_items.list,
        ):
            with pytest.raises(openai.NotFoundError, match=f"Response with id '{name}' not found"):
                call(name)
    assert len(bench.provider.ledger.exchanges) == sent
    assert bench.client().responses.retrieve(name).id == name


def test_request_without_key_is_refused(bench: StateBench) -> None:
    """As on every other path."""
    for path in ("/v1/responses/resp_1", "/v1/conversations/conv_1"):
        assert bench.site.send(method="GET", path=path).status == 401


@pytest.mark.parametrize("model", HERE)
def test_input_items_are_the_whole_history(bench: StateBench, model: str) -> None:
    """The newest first by default, page by page, each with an id that stays the same."""
    client = bench.client()
    before: str | None = None
    for turn in range(3):
        extra = {} if before is None else {"previous_response_id": before}
        before, _ = say(client, stream=False, model=model, input=f"turn {turn}", **extra)
    assert before is not None
    texts = [
        "turn 0", f"{PREFIX}turn 0", "turn 1", f"{PREFIX}turn 0 | turn 1", "turn 2"
    ]  # fmt: skip
    rising = list(client.responses.input_items.list(before, order="asc", limit=2))
    assert [text_in(item) for item in rising] == texts
    falling = list(client.responses.input_items.list(before))
    assert [item.id for item in falling] == [item.id for item in reversed(rising)]
    assert len({item.id for item in rising}) == 5
    assert rising[0].id is not None
    assert rising[0].id.startswith("msg_")
    page = client.responses.input_items.list(before, after=rising[3].id, order="asc")
    assert [item.id for item in page.data] == [rising[4].id]
    assert page.has_more is False


@pytest.mark.parametrize("model", KEEPERS)
def test_provider_is_asked_for_what_it_keeps(bench: StateBench, model: str) -> None:
    """With the same method, path and query, and the key of the endpoint."""
    client = bench.client()
    name, _ = say(client, stream=False, model=model, input="once")
    assert [item.id for item in client.responses.input_items.list(name, order="asc")] == ["item_0"]
    last = bench.provider.ledger.last()
    assert (last.method, last.path) == ("GET", f"/v1/responses/{name}/input_items?order=asc")
    assert last.headers["authorization"] == f"Bearer key-of-{model.partition('/')[0]}"
    assert client.responses.cancel(name).status == "cancelled"
    last = bench.provider.ledger.last()
    assert (last.method, last.path) == ("POST", f"/v1/responses/{name}/cancel")
    with client.responses.retrieve(name, stream=True) as events:
        assert [event.type for event in events] == ["response.completed"]


def test_provider_error_goes_back_as_it_is(bench: StateBench) -> None:
    """Status and body are the provider's own, and it is counted as lost there when deleted."""
    name, _ = say(bench.client(), stream=False, model="keeps/keeper", input="once")
    bench.provider.accounts.answers.clear()
    answer = send(bench.site, "GET", f"/v1/responses/{name}")
    assert answer.status == 404
    assert answer.error["message"] == "Previous response not found."
    assert answer.headers["x-fingerpost-upstream-request-id"] == "req_scripted"


@pytest.mark.parametrize("model", ["keeps/keeper", "keeps/keeper-quiet"])
def test_answer_in_background_is_read_at_its_provider(bench: StateBench, model: str) -> None:
    """What the gateway has seen of it is not its end."""
    client = bench.client()
    name = client.responses.create(model=model, input="long", background=True).id
    account = next(key for key in bench.provider.accounts.answers if key.endswith(f" {name}"))
    bench.provider.accounts.answers[account]["status"] = "completed"
    assert client.responses.retrieve(name).status == "completed"
    assert client.responses.cancel(name).status == "cancelled"


def test_kept_answer_is_neither_cancelled_nor_streamed(bench: StateBench) -> None:
    """It is complete; the error says what can be done."""
    client = bench.client()
    name, _ = say(client, stream=False, model="chats/chatter", input="once")
    with pytest.raises(openai.BadRequestError, match="is complete"):
        client.responses.cancel(name)
    with pytest.raises(openai.BadRequestError, match="without `stream`"):
        client.responses.retrieve(name, stream=True)


def test_answer_that_was_not_kept_is_not_found(bench: StateBench) -> None:
    """With ``store: false``, and of other surfaces."""
    client = bench.client()
    name, _ = say(client, stream=False, model="chats/chatter", input="once", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(name)
    headers = {"authorization": f"Bearer {KEYS['ALICE']}", "anthropic-version": "2026-10-21"}
    body = {
        "model": "talks/talker",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "one"}],
        "thread": {"type": "create"},
    }
    message = bench.site.send(json.dumps(body).encode(), path="/v1/messages", headers=headers)
    assert send(bench.site, "GET", f"/v1/responses/{message.json['id']}").status == 404


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", [*MODELS, "hops/keeper"])
def test_conversation_goes_on_for_ten_turns(bench: StateBench, model: str, stream: bool) -> None:
    """Each turn names the conversation alone, and the model hears all that was said in it."""
    client = bench.client()
    items: Any = [{"role": "user", "content": "before"}]
    conversation = client.conversations.create(items=items, metadata={"of": "test"})
    last = ""
    for turn in range(TURNS):
        last, heard = say(
            client, stream=stream, model=model, input=f"turn {turn}", conversation=conversation.id
        )
        turns = " | ".join(f"turn {number}" for number in range(turn + 1))
        assert heard == f"{PREFIX}before | {turns}"
    listed = list(client.conversations.items.list(conversation.id, order="asc", limit=3))
    assert len(listed) == 1 + 2 * TURNS
    assert text_in(listed[0]) == "before"
    assert len({item.id for item in listed}) == len(listed)
    _, heard = say(
        client, stream=stream, model="chats/chatter", input="on", previous_response_id=last
    )
    assert heard.startswith(f"{PREFIX}before | turn 0 | ")
    assert heard.endswith("turn 9 | on")


def test_conversation_moves_between_all_providers(bench: StateBench) -> None:
    """Also to one that keeps state itself, and away from it."""
    client = bench.client()
    conversation = client.conversations.create()
    heard = ""
    for number, model in enumerate((*MODELS, *reversed(MODELS))):
        _, heard = say(
            client, stream=False, model=model, input=f"{number}", conversation=conversation.id
        )
    assert heard == PREFIX + " | ".join(map(str, range(2 * len(MODELS))))


def test_conversation_is_read_changed_and_deleted(bench: StateBench) -> None:
    """Its metadata can be replaced; its answers outlive it."""
    client = bench.client()
    made = client.conversations.create(metadata={"a": "1"})
    assert made.id.startswith("conv_")
    assert len(made.id) == len("conv_") + 32
    name, _ = say(client, stream=False, model="chats/chatter", input="one", conversation=made.id)
    assert client.conversations.update(made.id, metadata={"b": "2"}).metadata == {"b": "2"}
    read = client.conversations.retrieve(made.id)
    assert read.metadata == {"b": "2"}
    assert read.created_at == made.created_at > 1_700_000_000
    assert len(client.conversations.items.list(made.id).data) == 2
    gone = client.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    for call in (
        client.conversations.retrieve,
        client.conversations.delete,
        client.conversations.items.list,
        lambda name: client.conversations.update(name, metadata={}),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            call(made.id)
        assert caught.value.code == "conversation_not_found"
    assert client.responses.retrieve(name).id == name


def test_foreign_key_does_not_see_conversation(bench: StateBench) -> None:
    """It can neither be read nor continued."""
    made = bench.client().conversations.create()
    foreign = bench.client("BOB")
    with pytest.raises(openai.NotFoundError, match=f"Conversation with id '{made.id}' not found"):
        foreign.conversations.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="not found"):
        say(foreign, stream=False, model="chats/chatter", input="x", conversation=made.id)


def test_conversation_of_a_provider_is_not_read(bench: StateBench) -> None:
    """The gateway knows only who has it."""
    bench.provider.accounts.kept["Bearer key-of-keeps conv_theirs"] = []
    client = bench.client()
    say(client, stream=False, model="keeps/keeper", input="x", conversation="conv_theirs")
    for path in ("/v1/conversations/conv_theirs", "/v1/responses/conv_theirs"):
        assert send(bench.site, "GET", path).status == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/conversations", b'{"items": 1}', 400, "invalid_request"),
        ("POST", "/v1/conversations", b"{", 400, "invalid_json"),
        ("POST", "/v1/conversations", b"[" * 5000, 413, "body_too_large"),
        ("PUT", "/v1/conversations/conv_1", b"{}", 405, "method_not_allowed"),
        ("GET", "/v1/conversations", None, 405, "method_not_allowed"),
        ("GET", "/v1/conversations/conv_1/items/msg_1", None, 404, "unknown_path"),
        ("DELETE", "/v1/conversations/conv_1/items/msg_1", None, 404, "unknown_path"),
        ("GET", "/v1/responses/..%2fmodels", None, 404, "unknown_path"),
        ("POST", "/v1/responses/resp_1/cancel", b"{}", 404, "response_not_found"),
    ],
)
def test_faulty_requests_are_refused(
    bench: StateBench, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    """In the shape of all other errors."""
    answer = send(bench.site, method, path, body)
    assert (answer.status, answer.error["code"]) == (status, code)


def test_answers_belong_to_the_clients_own_key(tmp_path: Path) -> None:
    """Without client keys, where the provider gets the key of the client."""
    with StatefulProvider() as provider:
        models = [
            {**entry, "access_key": None, "passthrough_auth": True}
            for entry in entries_of(provider.url)[:1]
        ]
        file = write_config(tmp_path, provider, client_keys=None, model_providers=models)
        with serve_api(file, {}, {}) as site, ExitStack() as stack:
            url = f"{site.url}/v1"
            own, other = (
                stack.enter_context(openai.OpenAI(base_url=url, api_key=key, max_retries=0))
                for key in KEYS.values()
            )
            name, heard = say(own, stream=False, model="keeps/keeper", input="mine")
            assert own.responses.retrieve(name).output_text == heard
            sent = provider.ledger.last()
            assert sent.headers["authorization"] == f"Bearer {KEYS['ALICE']}"
            with pytest.raises(openai.NotFoundError):
                other.responses.retrieve(name)
            assert provider.ledger.last() is sent


def test_gateway_that_keeps_nothing_says_so(tmp_path: Path) -> None:
    """A conversation can't be created, and no answer is found."""
    with StatefulProvider() as provider:
        file = write_config(tmp_path, provider, state_storage={"type": "none"})
        with serve_api(file, {}, KEYS) as site:
            refused = send(site, "POST", "/v1/conversations")
            assert (refused.status, refused.error["code"]) == (501, "not_supported")
            assert "state_storage" in refused.error["message"]
            assert send(site, "GET", "/v1/responses/resp_1").status == 404
            assert send(site, "GET", "/v1/conversations/conv_1").status == 404
