"""The API over kept answers and conversations, between fakes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.affinity.guarded import StoreError
from serve_app.conversations.memory import MemoryConversations
from serve_app.conversations.shared import SharedConversations
from serve_app.conversations.turns import StoredTurn, key_of, write_turn
from serve_app.domain import ModelRef
from serve_app.errors import (
    AnswerNotFound,
    InvalidRequest,
    KeyMissing,
    StateUnavailable,
)
from serve_app.exchange import FaultKind
from serve_app.requests.stored import ClientConversations, StoredAnswers, StoredCall
from tests.unit.config.broken import V
from tests.unit.fakes import FakeClock, FakeUpstream, Scripted, fault, reply, snapshot_of

TEXT = f"""{V}
model_providers:
  - {{model: openai/a, access_key: k1}}
  - {{model: openai/a, access_key: k2, data_path: inline}}
  - {{model: openai/own, passthrough_auth: true}}
  - {{model: anthropic/m, access_key: k}}
"""
OTHERS = TEXT.replace("k2", "k3")


class OneStore:
    """A store in memory that a test takes away."""

    def __init__(self) -> None:
        self.values = MemoryConversations(max_bytes=1 << 20, ttl_s=60, clock=FakeClock())
        self.is_away = False

    def _pass(self) -> None:
        if self.is_away:
            message = "gone"
            raise StoreError(message)

    async def load(self, keys: Sequence[str]) -> list[bytes | None]:
        self._pass()
        return self.values.load(keys)

    async def save(self, key: str, value: bytes) -> None:
        self._pass()
        self.values.save(key, value)

    async def delete(self, keys: Sequence[str]) -> int:
        self._pass()
        return self.values.delete(keys)


class Bench:
    """Both use cases over one store, with a provider that answers as scripted."""

    def __init__(self, folder: Path, *script: Scripted, model: str = "openai/a") -> None:
        self.snapshot = snapshot_of(folder, TEXT)
        self.inner = OneStore()
        self.upstream = FakeUpstream({model: script})
        store = SharedConversations(self.inner, clock=FakeClock())
        self.answers = StoredAnswers(store, self.upstream)
        self.conversations = ClientConversations(store, lambda: 1234.5)

    def call(self, name: str = "resp_1", method: str = "GET", **fields: Any) -> StoredCall:
        return StoredCall(self.snapshot, "scope", method, name, **fields)

    def keep(self, turn: StoredTurn, name: str = "resp_1") -> None:
        self.inner.values.save(key_of("scope", name), write_turn(turn))

    def turn(self, model: str = "openai/a", place: int = 1, **fields: Any) -> StoredTurn:
        ref = ModelRef.parse(model)
        endpoint = self.snapshot.providers.endpoints_of(ref)[place]
        return StoredTurn(ref, endpoint=endpoint.fingerprint, **fields)


async def test_provider_gets_the_same_request(tmp_path: Path) -> None:
    """At the endpoint that gave the answer, with a path that its id cannot leave."""
    bench = Bench(
        tmp_path, reply(body=b'{"id": "x"}', headers=(("x-request-id", "r"), ("set-cookie", "c")))
    )
    name = "../é?x"
    bench.keep(bench.turn(is_at_provider=True), name)
    call = bench.call(
        name, query='include[]=a&stream=tru"e é'.encode(), headers=(("a", "b"),), credential="own"
    )
    answer = await bench.answers.retrieve(call)
    assert answer.body == b'{"id": "x"}'
    assert dict(answer.headers) == {
        "x-fingerpost-upstream-request-id": "r",
        "content-type": "application/json",
    }
    (sent,) = bench.upstream.requests
    assert sent.path == "/responses/..%2F%C3%A9%3Fx?include[]=a&stream=tru%22e%20%C3%A9"
    assert (sent.method, sent.endpoint, sent.inline, sent.stream) == ("GET", 1, True, False)
    assert (sent.headers, sent.credential) == ((("a", "b"),), None)
    assert sent.policy == bench.snapshot.version


async def test_provider_gets_the_clients_own_key_where_it_takes_it(tmp_path: Path) -> None:
    """And the body of a request that cancels."""
    bench = Bench(tmp_path, reply(body=b"{}"), model="openai/own")
    bench.keep(bench.turn("openai/own", 0, is_at_provider=True))
    await bench.answers.cancel(bench.call(method="POST", body=b"{}", credential="own"))
    (sent,) = bench.upstream.requests
    assert (sent.credential, sent.method, sent.body) == ("own", "POST", b"{}")
    assert sent.path == "/responses/resp_1/cancel"


async def test_answer_of_another_configuration_is_not_found(tmp_path: Path) -> None:
    """No other account is asked, and no API that does not have responses."""
    bench = Bench(tmp_path)
    bench.keep(bench.turn(is_at_provider=True))
    bench.keep(bench.turn("anthropic/m", 0, is_at_provider=True), "msg_1")
    snapshot = snapshot_of(tmp_path, OTHERS)
    for call in (replace(bench.call(), snapshot=snapshot), bench.call("msg_1")):
        with pytest.raises(AnswerNotFound):
            await bench.answers.retrieve(call)
    assert bench.upstream.requests == []


async def test_fault_of_the_provider_names_its_model(tmp_path: Path) -> None:
    """The error is that of the fault."""
    bench = Bench(tmp_path, fault(FaultKind.NO_KEY, "lacks a key"))
    bench.keep(bench.turn(is_at_provider=True))
    with pytest.raises(KeyMissing, match="openai/a: lacks a key"):
        await bench.answers.retrieve(bench.call())


@pytest.mark.parametrize(("status", "is_left"), [(200, False), (404, False), (500, True)])
@pytest.mark.parametrize("is_here", [False, True])
async def test_deletion_waits_for_the_provider(
    tmp_path: Path, status: int, is_left: bool, is_here: bool
) -> None:
    """An answer stays until its provider has deleted it, so that the client can try again."""
    bench = Bench(tmp_path, reply(status, b'{"of": "provider"}'))
    kept: Any = {"items": (), "answer": {"id": "resp_1"}} if is_here else {}
    bench.keep(bench.turn(is_at_provider=True, **kept))
    answer = await bench.answers.delete(bench.call(method="DELETE"))
    assert isinstance(answer.body, bytes)
    if is_here and not is_left:
        assert json.loads(answer.body)["deleted"] is True
    else:
        assert (answer.status, answer.body) == (status, b'{"of": "provider"}')
    assert bool(len(bench.inner.values)) == is_left


async def test_kept_answer_of_a_removed_endpoint_can_be_deleted(tmp_path: Path) -> None:
    """The provider can't be asked any more; what is kept here goes."""
    bench = Bench(tmp_path)
    bench.keep(bench.turn(is_at_provider=True, items=(), answer={"id": "resp_1"}))
    call = replace(bench.call(method="DELETE"), snapshot=snapshot_of(tmp_path, OTHERS))
    assert (await bench.answers.delete(call)).status == 200
    assert len(bench.inner.values) == 0


async def test_input_items_leave_deleted_turns_out(tmp_path: Path) -> None:
    """Those that are kept remain in their order."""
    bench = Bench(tmp_path)
    bench.keep(
        bench.turn(items=({"role": "user", "content": "1"},), answer={"output": [{"id": "a"}]})
    )
    bench.keep(
        bench.turn(
            chain=("resp_0", "resp_1"),
            items=({"role": "user", "content": "2"},),
            answer={"id": "x"},
        ),
        "resp_2",
    )
    answer = await bench.answers.list_input(bench.call("resp_2", query=b"order=asc"))
    assert isinstance(answer.body, bytes)
    data = json.loads(answer.body)["data"]
    assert [item.get("content", item["id"]) for item in data] == [
        [{"type": "input_text", "text": "1"}], "a", [{"type": "input_text", "text": "2"}]
    ]  # fmt: skip


async def test_unavailable_store_is_an_error_of_its_own(tmp_path: Path) -> None:
    """It is not known whether there is such an answer."""
    bench = Bench(tmp_path)
    bench.keep(bench.turn(items=(), answer={"id": "resp_1"}))
    made = await bench.conversations.create(bench.call("", "POST"))
    assert isinstance(made.body, bytes)
    name = json.loads(made.body)["id"]
    bench.inner.is_away = True
    for action, called in (
        (bench.answers.retrieve, "resp_1"),
        (bench.answers.delete, "resp_1"),
        (bench.conversations.create, ""),
        (bench.conversations.list_items, name),
    ):
        with pytest.raises(StateUnavailable):
            await action(bench.call(called))


async def test_store_that_fails_later_deletes_nothing(tmp_path: Path) -> None:
    """The client is told, and can try again."""
    bench = Bench(tmp_path)
    bench.keep(bench.turn(items=(), answer={"id": "resp_1"}))

    async def fail(keys: Sequence[str]) -> int:
        bench.inner.is_away = True
        raise StoreError(str(keys))

    bench.inner.delete = fail  # type: ignore[method-assign]
    with pytest.raises(StateUnavailable):
        await bench.answers.delete(bench.call())


async def test_created_conversation_has_defaults(tmp_path: Path) -> None:
    """Its metadata is an object, also where the client sends none or null."""
    bench = Bench(tmp_path)
    for body in (b"", b"{}", b'{"items": null, "metadata": null}'):
        made = await bench.conversations.create(bench.call("", "POST", body=body))
        assert isinstance(made.body, bytes)
        shown = json.loads(made.body)
        name = shown.pop("id")
        assert shown == {"object": "conversation", "created_at": 1234, "metadata": {}}
        read = await bench.conversations.retrieve(bench.call(name))
        assert read.body == made.body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"items": {}}, "items"),
        ({"items": [{}] * 21}, "items"),
        ({"items": [{}, "x"]}, "items[1]"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"metadata": {"x" * 65: ""}}, "metadata"),
        ({"metadata": {"x": "y" * 513}}, "metadata"),
        ({"metadata": {"x": 1}}, "metadata"),
    ],
)
async def test_faulty_conversation_is_refused(tmp_path: Path, fields: Any, param: str) -> None:
    """The error names the field."""
    bench = Bench(tmp_path)
    with pytest.raises(InvalidRequest) as caught:
        await bench.conversations.create(bench.call("", "POST", body=json.dumps(fields).encode()))
    assert caught.value.param == param


async def test_update_needs_metadata(tmp_path: Path) -> None:
    """Null removes them; a body without them is a mistake."""
    bench = Bench(tmp_path)
    made = await bench.conversations.create(
        bench.call("", "POST", body=b'{"metadata": {"a": "1"}}')
    )
    assert isinstance(made.body, bytes)
    name = json.loads(made.body)["id"]
    with pytest.raises(InvalidRequest, match="metadata is missing"):
        await bench.conversations.update(bench.call(name, "POST"))
    changed = await bench.conversations.update(bench.call(name, "POST", body=b'{"metadata": null}'))
    assert isinstance(changed.body, bytes)
    assert json.loads(changed.body)["metadata"] == {}
