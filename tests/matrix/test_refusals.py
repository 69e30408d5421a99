"""What a provider's dialect cannot say: left out and named, or refused with the client's field."""

from typing import Any

import anthropic
import openai
import pytest

from tests.matrix.cases import DIALECTS, STOP, TOLD, Case
from tests.matrix.conftest import CLIENTS, Bench, model_of
from tests.matrix.seen import Seen

_PAIRS = [(one, other) for one in DIALECTS for other in DIALECTS if one != other]


def _refused(
    bench: Bench, client: str, upstream: str, asked: dict[str, Any], *, stream: bool = False
) -> Any:
    """The error that the SDK raises; the provider is not asked."""
    before = len(bench.vendor.ledger.exchanges)
    with pytest.raises(CLIENTS[client].ERRORS.APIStatusError) as raised:
        bench.ask(client, model_of(upstream, Case.TEXT), stream=stream, **asked)
    assert len(bench.vendor.ledger.exchanges) == before
    assert CLIENTS[client].message_of(raised.value)
    return raised.value


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_top_k_is_left_out_and_named(bench: Bench, upstream: str, stream: bool) -> None:
    """Only Anthropic has it; the answer says that it was left out."""
    asked = {**CLIENTS["messages"].request(Case.TEXT), "extra_body": {"top_k": 5}}
    model = model_of(upstream, Case.TEXT)
    seen: Seen = bench.ask("messages", model, stream=stream, **asked)
    assert seen.text == TOLD[Case.TEXT].text
    assert seen.dropped == ["top_k"]
    bench.sent("messages", upstream)
    assert "top_k" not in bench.last.json


@pytest.mark.parametrize(("client", "upstream"), _PAIRS)
def test_nothing_is_left_out_of_a_plain_request(bench: Bench, client: str, upstream: str) -> None:
    """The header is not there, so that it means something where it is."""
    asked = CLIENTS[client].request(Case.ONE_TOOL)
    seen: Seen = bench.ask(client, model_of(upstream, Case.ONE_TOOL), stream=False, **asked)
    assert "x-fingerpost-dropped" not in seen.headers


@pytest.mark.parametrize("stream", [False, True])
def test_probabilities_are_refused(bench: Bench, stream: bool) -> None:
    """A client that counts on them learns that this provider has none."""
    asked = {**CLIENTS["chat"].request(Case.TEXT), "logprobs": True}
    error = _refused(bench, "chat", "messages", asked, stream=stream)
    assert isinstance(error, openai.BadRequestError)
    assert error.param == "logprobs"
    asked = CLIENTS["responses"].request(Case.TEXT)
    asked["include"] = ["message.output_text.logprobs"]
    error = _refused(bench, "responses", "messages", asked, stream=stream)
    assert isinstance(error, openai.BadRequestError)
    assert error.param == "include"


@pytest.mark.parametrize("stream", [False, True])
def test_stop_sequences_are_refused(bench: Bench, stream: bool) -> None:
    """Without them the text would be another one."""
    asked = {**CLIENTS["chat"].request(Case.TEXT), "stop": [STOP]}
    error = _refused(bench, "chat", "responses", asked, stream=stream)
    assert isinstance(error, openai.BadRequestError)
    assert error.param == "stop"
    asked = {**CLIENTS["messages"].request(Case.TEXT), "stop_sequences": [STOP]}
    error = _refused(bench, "messages", "responses", asked, stream=stream)
    assert isinstance(error, anthropic.BadRequestError)
    assert error.type == "invalid_request_error"
    assert "stop_sequences" in str(error.api_message)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("client", "upstream"), _PAIRS)
def test_only_a_tool_of_another_provider(
    bench: Bench, client: str, upstream: str, stream: bool
) -> None:
    """A client that wants nothing but that tool is told where it is in its request."""
    asked = CLIENTS[client].request(Case.SERVER_TOOL)
    at = CLIENTS[client].SERVER_TOOL_AT
    tools = [tool for tool in asked.pop("tools") if "search" in str(tool)]
    if tools:
        asked["tools"] = tools
    error = _refused(bench, client, upstream, asked, stream=stream)
    assert error.status_code == 400
    assert at in CLIENTS[client].message_of(error)
    if client != "messages":
        assert error.param == at


@pytest.mark.parametrize("upstream", ["chat", "messages"])
def test_state_at_the_provider(bench: Bench, upstream: str) -> None:
    """An answer that only its provider knows cannot be continued elsewhere."""
    asked = {**CLIENTS["responses"].request(Case.TEXT), "previous_response_id": "resp_1"}
    error = _refused(bench, "responses", upstream, asked)
    assert isinstance(error, openai.BadRequestError)
    assert error.param == "previous_response_id"


@pytest.mark.parametrize("upstream", ["chat", "responses"])
@pytest.mark.parametrize(
    ("thread", "status", "code"),
    [
        ({"type": "create"}, 400, "thread_unsupported_request"),
        ({"type": "continue", "previous_message_id": "msg_1"}, 404, "thread_not_found"),
    ],
)
def test_threads(
    bench: Bench, upstream: str, thread: dict[str, Any], status: int, code: str
) -> None:
    """The SDK leaves a thread for the whole conversation where it reads these codes."""
    asked = {**CLIENTS["messages"].request(Case.TEXT), "extra_body": {"thread": thread}}
    error = _refused(bench, "messages", upstream, asked)
    assert (error.status_code, error.error_code) == (status, code)
