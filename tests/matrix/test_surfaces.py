"""The other surfaces, fall-backs and sessions across dialects."""

from typing import Any, Final
from uuid import uuid4

import anthropic
import openai
import pytest

from tests.matrix import messages_transcripts
from tests.matrix.cases import DIALECTS, TOLD, Case
from tests.matrix.conftest import CLIENTS, PATHS, Bench, model_of
from tests.matrix.framing import check_framing
from tests.matrix.seen import Seen
from tests.matrix.vendor import BROKEN, FIRST_ERROR
from tests.site import PROMPTS

_CODE: Final = [model_of("messages", BROKEN), model_of("chat", "text")]
_VERSE: Final = [model_of("responses", "text")]


def _asking(client: str, text: str) -> dict[str, Any]:
    """A plain request with another question."""
    asked = CLIENTS[client].request(Case.TEXT)
    key = "input" if client == "responses" else "messages"
    asked[key][-1]["content"] = text
    return dict(asked)


def _sdk(bench: Bench, client: str = "chat") -> Any:
    return bench.clients[client]._sdk


def test_count_of_tokens(bench: Bench) -> None:
    """A provider of Anthropic's dialect counts; the request goes through as it is."""
    asked = CLIENTS["messages"].request(Case.ONE_TOOL)
    del asked["max_tokens"]
    count = bench.clients["messages"].count_tokens(model=model_of("messages", "count"), **asked)
    assert count == messages_transcripts.COUNT["input_tokens"]
    assert bench.last.path == "/v1/messages/count_tokens"
    assert {key: bench.last.json[key] for key in asked} == asked


@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_count_of_tokens_elsewhere(bench: Bench, upstream: str) -> None:
    """No other provider counts; SDKs must not try again, and Claude Code counts itself then."""
    asked = CLIENTS["messages"].request(Case.TEXT)
    del asked["max_tokens"]
    with pytest.raises(anthropic.APIStatusError) as raised:
        bench.clients["messages"].count_tokens(model=model_of(upstream, "count"), **asked)
    error: Any = raised.value  # the SDK's type of `type` does not list it
    assert (error.status_code, error.type) == (501, "not_supported")
    assert error.response.headers["x-should-retry"] == "false"


def test_embeddings(bench: Bench) -> None:
    """They pass, in base64 as the SDK asks for them by default, and as numbers."""
    create = _sdk(bench).embeddings.create
    model = model_of("chat", "embed")
    assert create(model=model, input="Paris").data[0].embedding == [1.0, 2.0]
    assert bench.last.json["encoding_format"] == "base64"
    found = create(model=model, input=["Paris"], encoding_format="float")
    assert found.data[0].embedding == [1.0, 2.0]
    assert bench.last.json["input"] == ["Paris"]


def test_completions(bench: Bench) -> None:
    """The older surface passes, as a whole and as a stream."""
    create = _sdk(bench).completions.create
    model = model_of("chat", "complete")
    assert create(model=model, prompt="Paris").choices[0].text == " is mild"
    chunks = list(create(model=model, prompt="Paris", stream=True))
    assert [chunk.choices[0].text for chunk in chunks] == [" is mild"]
    assert bench.last.json["prompt"] == "Paris"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/completions"])
@pytest.mark.parametrize("upstream", ["messages", "responses"])
def test_surfaces_that_are_not_translated(bench: Bench, upstream: str, path: str) -> None:
    """A provider without the operation is not asked in another one."""
    asked = {"input": "Paris"} if path == "/v1/embeddings" else {"prompt": "Paris"}
    answer = bench.site.send(bench.body(model_of(upstream, "text"), asked), path=path)
    assert answer.status == 501
    assert answer.headers["x-should-retry"] == "false"
    assert "name a model whose provider does" in answer.error["message"]


@pytest.mark.parametrize("client", DIALECTS)
def test_explanation(bench: Bench, client: str) -> None:
    """``/v1/route`` reads a body of every dialect, and sees the user's question in it."""
    for text, candidates in ((PROMPTS["code"], _CODE), (PROMPTS["poems and songs"], _VERSE)):
        answer = bench.site.send(bench.body("smart", _asking(client, text)), path="/v1/route")
        assert answer.status == 200, answer.body
        assert [each["model"] for each in answer.json["candidates"]][
            : len(candidates)
        ] == candidates
        seen = answer.json["orchestrator"]["seen"]
        assert seen[-1] == {"role": "user", "content": text}


@pytest.mark.parametrize("client", DIALECTS)
def test_decision(bench: Bench, client: str) -> None:
    """``/routing/v1`` decides for a body of every dialect."""
    for route, candidates in (("code", _CODE), ("poems and songs", _VERSE)):
        body = bench.body("smart", _asking(client, PROMPTS[route]))
        answer = bench.site.send(body, path=f"/routing{PATHS[client]}")
        assert answer.status == 200, answer.body
        assert (answer.json["route"], answer.json["models"]) == (route, candidates)


@pytest.mark.parametrize(
    ("stream", "failing"), [(False, BROKEN), (True, BROKEN), (True, FIRST_ERROR)]
)
@pytest.mark.parametrize("client", DIALECTS)
def test_fall_back_to_another_dialect(
    bench: Bench, client: str, stream: bool, failing: str
) -> None:
    """A provider that fails is followed by one of another dialect, unseen by the client."""
    asked = CLIENTS[client].request(Case.ONE_TOOL)
    asked["extra_body"] = {"fallbacks": [model_of("chat", Case.ONE_TOOL)]}
    before = len(bench.vendor.ledger.exchanges)
    fresh = f"{model_of('messages', failing)}@{client}-{stream}"  # it does not rest yet
    seen: Seen = bench.ask(client, fresh, stream=stream, **asked)
    told = TOLD[Case.ONE_TOOL]
    assert (seen.text, [call.arguments for call in seen.calls]) == (told.text, list(told.calls))
    assert seen.headers["x-fingerpost-model"] == model_of("chat", Case.ONE_TOOL)
    asked_paths = [each.path for each in bench.vendor.ledger.exchanges[before:]]
    assert asked_paths[0] == "/v1/messages"
    assert asked_paths[-1] == "/v1/chat/completions"
    if stream:
        check_framing(client, seen.wire.decode())


@pytest.mark.parametrize("stream", [False, True])
def test_fall_back_of_a_route(bench: Bench, stream: bool) -> None:
    """The same for a candidate that the content of a question chose."""
    asked = _asking("messages", PROMPTS["code"])
    seen: Seen = bench.ask("messages", "smart", stream=stream, **asked)
    assert seen.text == TOLD[Case.TEXT].text
    assert seen.headers["x-fingerpost-route"] == "code"
    assert seen.headers["x-fingerpost-model"] == _CODE[1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", DIALECTS)
def test_session(bench: Bench, client: str, stream: bool) -> None:
    """A session stays on its model on every surface, whatever is asked next."""
    session = {"extra_headers": {"X-Model-Affinity": f"session-{uuid4().hex}"}}
    states = []
    for route in ("poems and songs", "code"):
        asked = {**_asking(client, PROMPTS[route]), **session}
        seen: Seen = bench.ask(client, "smart", stream=stream, **asked)
        assert seen.headers["x-fingerpost-model"] == _VERSE[0]
        states.append(seen.headers["x-fingerpost-affinity"])
    assert states == ["miss", "hit"]


def test_session_goes_on_in_another_dialect(bench: Bench) -> None:
    """A session belongs to its key, not to the surface on which it began."""
    session = {"extra_headers": {"X-Model-Affinity": f"session-{uuid4().hex}"}}
    for client, route in zip(DIALECTS, ("poems and songs", "code", "code"), strict=True):
        asked = {**_asking(client, PROMPTS[route]), **session}
        seen: Seen = bench.ask(client, "smart", stream=False, **asked)
        assert seen.headers["x-fingerpost-model"] == _VERSE[0]


def test_model_that_is_not_there(bench: Bench) -> None:
    """Each SDK raises its own class for it."""
    for client, sdk in (("chat", openai), ("messages", anthropic), ("responses", openai)):
        with pytest.raises(sdk.NotFoundError) as raised:
            bench.ask(client, "no/such", stream=False, **CLIENTS[client].request(Case.TEXT))
        assert "no/such" in CLIENTS[client].message_of(raised.value)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("upstream", DIALECTS)
def test_id_of_the_request(bench: Bench, upstream: str, stream: bool) -> None:
    """Clients of Anthropic find the provider's id where they look for it, whoever answers."""
    asked = CLIENTS["messages"].request(Case.TEXT)
    seen: Seen = bench.ask("messages", model_of(upstream, Case.TEXT), stream=stream, **asked)
    assert seen.headers["request-id"] == ("req_vendor" if stream else "req_scripted")
