"""Earlier answers: found before a decision, kept at an answer's end."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from serve_app.conversations.shared import SharedConversations
from serve_app.conversations.turns import (
    StoredConversation,
    StoredTurn,
    key_of,
    write_conversation,
    write_turn,
)
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.protocol import ErrorInfo
from serve_app.dialects.registry import client_dialect
from serve_app.domain import ModelRef, Reason, RouteDecision
from serve_app.errors import InvalidRequest, ResponseNotFound, StateUnavailable
from serve_app.requests.call import ClientRequest
from serve_app.requests.failures import Failure
from serve_app.requests.intent import read_intent
from serve_app.requests.progress import RequestProgress
from serve_app.requests.state import EarlierAnswers, document_at, heal, preferred_endpoints
from serve_app.requests.verdict import FINAL
from serve_app.snapshot import Snapshot
from tests.unit.config.broken import V
from tests.unit.fakes import FakeClock, snapshot_of

TEXT = f"""{V}
model_providers:
  - {{model: openai/a, access_key: one}}
  - {{model: openai/a, access_key: two}}
  - {{model: groq/b, access_key: k}}
"""
A, B = ModelRef("openai", "a"), ModelRef("groq", "b")
SAID = {"role": "user", "content": "one"}
ANSWER: dict[str, Any] = {
    "id": "r1",
    "output": [{"type": "message", "role": "assistant", "content": "1"}],
}


class Values:
    """A store in a dictionary, which may be away."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.is_away = False

    async def load(self, keys: Sequence[str]) -> list[bytes | None]:
        if self.is_away:
            raise ConnectionError
        return [self.values.get(key) for key in keys]

    async def save(self, key: str, value: bytes) -> None:
        self.values[key] = value

    async def delete(self, keys: Sequence[str]) -> int:
        return sum(self.values.pop(key, None) is not None for key in keys)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """A model with two endpoints that keep answers, and one with an endpoint that does not."""
    return snapshot_of(tmp_path, TEXT)


@pytest.fixture
def values() -> Values:
    """Where answers are kept."""
    return Values()


@pytest.fixture
def answers(values: Values) -> EarlierAnswers:
    """What is tested."""
    return EarlierAnswers(SharedConversations(values, clock=FakeClock()))


def request_of(snapshot: Snapshot, surface: str = "responses", **fields: Any) -> ClientRequest:
    """A request of a client, by default of the responses API."""
    dialect = client_dialect(surface)
    body = {"model": "a", "input": "two", **fields}
    document = read_document(json.dumps(body).encode(), unique=dialect.fields.read)
    return ClientRequest(snapshot, surface, dialect, document, (), None, 0.0)


def progress_of(request: ClientRequest, model: ModelRef = A, endpoint: int = 0) -> RequestProgress:
    """The request after an endpoint was asked, in the client's dialect."""
    decision = RouteDecision((model,), Reason.EXPLICIT)
    progress = RequestProgress(request, read_intent(request), decision)
    progress.endpoint = request.snapshot.providers.endpoint(model, endpoint)
    progress.is_native = True
    return progress


def put(values: Values, request: ClientRequest, name: str, value: bytes) -> None:
    """Keeps a value for the client of a request."""
    values.values[key_of(request.scope, name)] = value


async def test_request_of_another_dialect_is_left_alone(
    answers: EarlierAnswers, snapshot: Snapshot
) -> None:
    """Chat has no references; a request that wants nothing is passed on as it is."""
    chat = request_of(snapshot, "chat", messages=[])
    assert await answers.resume(chat) is chat
    alone = request_of(snapshot, store=False)
    assert await answers.resume(alone) is alone
    assert answers.tap(progress_of(chat)) is None
    assert answers.tap(progress_of(alone)) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("r1", b""),
        ("r1", write_conversation(StoredConversation())),
        ("c1", write_turn(StoredTurn(A))),
    ],
)
async def test_unreadable_value_is_an_unknown_reference(
    name: str, value: bytes, answers: EarlierAnswers, values: Values, snapshot: Snapshot
) -> None:
    """A value of another version or kind counts as absent."""
    key = "previous_response_id" if name == "r1" else "conversation"
    request = request_of(snapshot, **{key: name})
    put(values, request, name, value)
    earlier = (await answers.resume(request)).earlier
    assert earlier is not None
    assert not earlier.is_known
    assert not earlier.is_unavailable


async def test_without_a_store_every_reference_is_unknown(snapshot: Snapshot) -> None:
    """A gateway that keeps nothing passes references on to providers that may know them."""
    answers = EarlierAnswers(None)
    request = await answers.resume(request_of(snapshot, previous_response_id="r1"))
    progress = progress_of(request)
    assert not answers.keeps
    assert answers.tap(progress) is None
    assert progress.endpoint is not None
    assert document_at(progress, progress.endpoint, is_native=True) is request.document
    with pytest.raises(ResponseNotFound, match="not kept here, or no longer"):
        document_at(progress, progress.endpoint, is_native=False)


@pytest.mark.parametrize("name", ["previous_response_id", "conversation"])
async def test_store_that_is_away_is_not_an_unknown_reference(
    name: str, answers: EarlierAnswers, values: Values, snapshot: Snapshot
) -> None:
    """Where the reference has to be followed here, the client may try again."""
    values.is_away = True
    request = await answers.resume(request_of(snapshot, **{name: "x1"}))
    progress = progress_of(request)
    assert progress.endpoint is not None
    with pytest.raises(StateUnavailable):
        document_at(progress, progress.endpoint, is_native=False)
    assert document_at(progress, progress.endpoint, is_native=True) is request.document


async def test_chain_with_a_hole_cannot_be_continued(
    answers: EarlierAnswers, values: Values, snapshot: Snapshot
) -> None:
    """If one of its turns was dropped, the conversation is not there as a whole."""
    request = request_of(snapshot, previous_response_id="r2")
    put(
        values,
        request,
        "r2",
        write_turn(StoredTurn(B, chain=("r1",), items=(SAID,), answer=ANSWER)),
    )
    resumed = await answers.resume(request)
    progress = progress_of(resumed, B)
    assert progress.endpoint is not None
    with pytest.raises(ResponseNotFound, match="not kept here as a whole"):
        document_at(progress, progress.endpoint, is_native=False)
    put(values, request, "r1", write_turn(StoredTurn(B, items=(SAID,), answer=ANSWER)))
    progress = progress_of(await answers.resume(request), B)
    assert progress.endpoint is not None
    history = document_at(progress, progress.endpoint, is_native=False).get("input")
    assert [item["content"] for item in history] == ["one", "1", "one", "1", "two"]


async def test_locked_answer_goes_to_its_endpoint_alone(
    answers: EarlierAnswers, values: Values, snapshot: Snapshot
) -> None:
    """Its provider alone has it; another endpoint, or another model's, could only refuse."""
    endpoints = snapshot.providers.endpoints_of(A)
    request = request_of(snapshot, previous_response_id="r1")
    stored = StoredTurn(A, endpoint=endpoints[1].fingerprint, is_at_provider=True)
    put(values, request, "r1", write_turn(stored))
    resumed = await answers.resume(request)
    assert list(preferred_endpoints(resumed, A, (0, 1))) == [1]
    assert list(preferred_endpoints(resumed, B, (0,))) == [0]
    assert list(preferred_endpoints(request, A, (0, 1))) == [0, 1]
    progress = progress_of(resumed)
    assert document_at(progress, endpoints[1], is_native=True) is request.document
    with pytest.raises(InvalidRequest, match="only the provider of openai/a has it"):
        document_at(progress, endpoints[0], is_native=True)


async def test_answer_in_doubt_is_kept_twice(
    answers: EarlierAnswers, values: Values, snapshot: Snapshot
) -> None:
    """A vendor that keeps answers and does not say so gets the reference; the items are here."""
    request = await answers.resume(request_of(snapshot, input=[SAID]))
    await answers.keep_body(progress_of(request), json.dumps(ANSWER).encode())
    resumed = await answers.resume(request_of(snapshot, previous_response_id="r1"))
    earlier = resumed.earlier
    assert earlier is not None
    assert (earlier.is_at_provider, earlier.is_locked) == (True, False)
    assert list(preferred_endpoints(resumed, A, (1, 0))) == [0, 1]
    assert len(values.values) == 1


async def test_provider_that_keeps_nothing_leaves_the_items_here(
    answers: EarlierAnswers, snapshot: Snapshot
) -> None:
    """Groq has the API, and no state."""
    request = await answers.resume(request_of(snapshot, model="groq/b"))
    await answers.keep_body(progress_of(request, B), json.dumps(ANSWER).encode())
    earlier = (await answers.resume(request_of(snapshot, previous_response_id="r1"))).earlier
    assert earlier is not None
    assert earlier.history is not None
    assert not earlier.is_at_provider


@pytest.mark.parametrize("is_native", [True, False])
async def test_conversation_grows_with_each_answer(
    is_native: bool, answers: EarlierAnswers, values: Values, snapshot: Snapshot
) -> None:
    """At a provider that knows it, it stays there; else its turns are here."""
    request = request_of(snapshot, conversation="c1", store=False)
    if not is_native:
        put(values, request, "c1", write_conversation(StoredConversation(items=(SAID,))))
    resumed = await answers.resume(request)
    progress = progress_of(resumed)
    progress.is_native = is_native
    stored = {**ANSWER, "store": True} if is_native else ANSWER
    await answers.keep_body(progress, json.dumps(stored).encode())
    earlier = (await answers.resume(request)).earlier
    assert earlier is not None
    assert earlier.model == A
    assert earlier.is_locked is is_native
    assert earlier.ids == (() if is_native else ("r1",))
    if not is_native:
        assert earlier.history == (
            SAID,
            {"type": "message", "role": "user", "content": "two"},
            ANSWER["output"][0],
        )


async def test_answer_that_cannot_be_kept_still_goes_out(
    answers: EarlierAnswers, snapshot: Snapshot, caplog: pytest.LogCaptureFixture
) -> None:
    """What goes wrong with keeping is logged, and fails nothing."""
    request = await answers.resume(request_of(snapshot))
    progress = progress_of(request)
    tap = answers.tap(progress)
    assert tap is not None
    progress.candidate = object()  # type: ignore[assignment]
    progress.decision = object()  # type: ignore[assignment]
    with caplog.at_level(logging.ERROR):
        await tap.take(tap.state.read_answer(json.dumps(ANSWER).encode()))
    assert "could not be kept" in caplog.text


def _refused(status: int, code: str | None) -> Failure:
    return Failure(FINAL, None, status, reported=ErrorInfo("no", status, code))


async def test_only_known_refusals_are_healed(
    answers: EarlierAnswers, values: Values, snapshot: Snapshot
) -> None:
    """Once, at a provider of the client's dialect, and only if there is something to change."""
    thought = {"type": "reasoning", "encrypted_content": "x"}
    plain, thinking = request_of(snapshot), request_of(snapshot, input=[thought, SAID])
    encrypted = _refused(400, "invalid_encrypted_content")
    assert not heal(progress_of(plain), encrypted)
    progress = progress_of(thinking)
    assert not heal(progress, _refused(400, "other"))
    assert not heal(progress, Failure(FINAL, None, 400))
    assert heal(progress, encrypted)
    assert (progress.healed, progress.document.get("input")) == ("thoughts", [SAID])
    assert not heal(progress, encrypted)
    request = request_of(snapshot, previous_response_id="r1")
    put(values, request, "r1", write_turn(StoredTurn(A, None, "gone", True, (), (SAID,), ANSWER)))  # noqa: FBT003
    for status, code in ((404, "x"), (400, "previous_response_not_found")):
        progress = progress_of(await answers.resume(request))
        assert heal(progress, _refused(status, code))
        assert (progress.healed, progress.is_lost) == ("history", True)
