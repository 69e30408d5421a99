"""Every cell of the matrix: what the provider gets, and what the client's SDK gives back."""

import json
from typing import Any, Final

import pytest

from tests.matrix import chat_transcripts, messages_transcripts, responses_transcripts
from tests.matrix.cases import (
    ASKED,
    BEFORE,
    CELLS,
    DURING,
    GAPS,
    LIMIT,
    NEXT,
    PDF,
    PDF_NAME,
    PNG,
    PRODUCT,
    RESULT,
    RETRY_AFTER,
    SCHEMA,
    SOURCE,
    STOP,
    SYSTEM,
    TOLD,
    TOOL,
    Case,
    Cell,
    call_id,
    reasons,
    tokens_of,
)
from tests.matrix.conftest import CLIENTS, Bench, model_of
from tests.matrix.framing import check_framing, check_pieces
from tests.matrix.seen import Seen
from tests.matrix.sent import Sent
from tests.matrix.vendor import FIRST_ERROR

_ERRORS: Final = (Case.ERROR_BEFORE, Case.ERROR_DURING)
_TWO_TURNS: Final = (Case.TOOL_RESULT, Case.THINKING)
_PLAIN: Final = [cell for cell in CELLS if cell.case not in (*_ERRORS, *_TWO_TURNS)]
_TOOLS: Final = {TOOL: SCHEMA}
_CALLING: Final[dict[str, Any]] = {"tools": _TOOLS}
SENT: Final[dict[Case, dict[str, Any]]] = {
    Case.TEXT: {"limit": LIMIT},
    Case.ONE_TOOL: _CALLING,
    Case.PARALLEL_TOOLS: {**_CALLING, "must_call": True},
    Case.IMAGE: {"images": [PNG]},
    Case.DOCUMENT: {"documents": [(PDF_NAME, PDF)]},
    Case.STRUCTURED: {"schema": SCHEMA},
    Case.STOP_SEQUENCE: {"stop": [STOP]},
    Case.SERVER_TOOL: _CALLING,
}
"""What the provider gets in a case beside the question, whatever the dialects."""

_PROOFS: Final = {
    "chat": TOLD[Case.THINKING].thinking,  # these providers sign nothing, and want the text
    "messages": messages_transcripts.SIGNATURE,
    "responses": responses_transcripts.SIGNATURE,
}
_MODELS: Final = {
    "chat": chat_transcripts.MODEL,
    "messages": messages_transcripts.MODEL,
    "responses": responses_transcripts.MODEL,
}


def _ask(bench: Bench, cell: Cell, case: Case | str, asked: dict[str, Any]) -> Seen:
    model = model_of(cell.upstream, case)
    seen: Seen = bench.ask(cell.client, model, stream=cell.stream, **asked)
    return seen


def _check_native(bench: Bench, cell: Cell, asked: dict[str, Any]) -> None:
    """A provider of the client's own dialect gets the client's own words."""
    body = bench.last.json
    assert {key: body[key] for key in asked} == json.loads(json.dumps(asked))


def _check_sent(bench: Bench, cell: Cell, asked: dict[str, Any]) -> Sent:
    """The question, and what every case has."""
    sent = bench.sent(cell.client, cell.upstream)
    if cell.client == cell.upstream:
        _check_native(bench, cell, asked)
    assert sent.stream is cell.stream
    assert sent.system == SYSTEM
    assert sent.said[0] == ASKED
    return sent


def _check_seen(seen: Seen, cell: Cell, case: Case) -> None:
    """What the client gets of all that the model says in a case."""
    told, client = TOLD[case], CLIENTS[cell.client]
    body = seen.wire.decode()
    if cell.stream:
        check_framing(cell.client, body)
        refusal = "" if cell.upstream == "messages" else told.refusal  # there it comes as a whole
        check_pieces(body, *filter(None, (told.text, told.thinking, refusal)))
    refusal_as_text = cell.client == "messages" != cell.upstream
    assert seen.error is None
    assert seen.text == (told.refusal if told.refusal and refusal_as_text else told.text)
    assert [(call.name, call.arguments) for call in seen.calls] == [
        (TOOL, arguments) for arguments in told.calls
    ]
    assert len({call.id for call in seen.calls}) == len(told.calls)
    assert seen.finish == client.finish_of(told, cell.upstream)
    assert seen.usage == client.usage_of(tokens_of(case, cell.upstream))
    assert (seen.refusal or "") == told.refusal
    assert seen.thinking == told.thinking
    assert f'"{_MODELS[cell.upstream]}"' in body


@pytest.mark.parametrize("cell", _PLAIN, ids=str)
def test_answer(bench: Bench, cell: Cell) -> None:
    """The provider gets all of the question, and the client all of the answer, in its words."""
    asked = CLIENTS[cell.client].request(cell.case)
    seen = _ask(bench, cell, cell.case, asked)
    sent = _check_sent(bench, cell, asked)
    for name, value in SENT.get(cell.case, {}).items():
        assert getattr(sent, name) == value, name
    _check_seen(seen, cell, cell.case)
    if cell.case is Case.SERVER_TOOL:
        _check_server_tool(seen, sent, cell)


def _check_server_tool(seen: Seen, sent: Sent, cell: Cell) -> None:
    """A tool that a provider runs is no call for the client, and is named where it is left out."""
    is_native = cell.client == cell.upstream
    assert sent.server_tools == int(is_native)
    assert (CLIENTS[cell.client].SERVER_TOOL_AT in seen.dropped) is not is_native
    if is_native:
        assert seen.dropped == []
    if is_native or cell.client != "messages":  # there a source needs Anthropic's own index
        assert seen.sources == [SOURCE]
    if cell.upstream == "messages" and not is_native and not cell.stream:
        assert "server_tool_use" in seen.dropped


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.case is Case.TOOL_RESULT], ids=str)
def test_tool_loop(bench: Bench, cell: Cell) -> None:
    """The ids that a client got lead its results back to the calls of the provider."""
    client = CLIENTS[cell.client]
    first = client.request(Case.TOOL_RESULT)
    called = _ask(bench, cell, Case.PARALLEL_TOOLS, first)
    asked = client.go_on(first, called, RESULT)
    seen = _ask(bench, cell, Case.TOOL_RESULT, asked)
    sent = _check_sent(bench, cell, asked)
    told = TOLD[Case.PARALLEL_TOOLS].calls
    ids = [call_id(cell.upstream, at) for at in range(len(told))]
    assert sent.calls == [(own, TOOL, arguments) for own, arguments in zip(ids, told, strict=True)]
    assert sent.results == [(own, RESULT) for own in ids]
    assert sent.tools == _TOOLS
    _check_seen(seen, cell, Case.TOOL_RESULT)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.case is Case.THINKING], ids=str)
def test_thinking(bench: Bench, cell: Cell) -> None:
    """The client sees the thoughts; the provider gets them back with its own proof."""
    client = CLIENTS[cell.client]
    first = client.request(Case.THINKING)
    seen = _ask(bench, cell, Case.THINKING, first)
    assert _check_sent(bench, cell, first).thinks
    _check_seen(seen, cell, Case.THINKING)
    asked = client.go_on(first, seen, None)
    _ask(bench, cell, Case.THINKING, asked)
    sent = _check_sent(bench, cell, asked)
    assert sent.said == [ASKED, NEXT]
    assert sent.answered == [TOLD[Case.THINKING].text]
    assert sent.proofs == [_PROOFS[cell.upstream]]


@pytest.mark.parametrize(
    "cell", [cell for cell in CELLS if cell.case is Case.ERROR_BEFORE], ids=str
)
def test_error_before_content(bench: Bench, cell: Cell) -> None:
    """The client's SDK raises the class of the status, with the provider's own words."""
    client = CLIENTS[cell.client]
    asked = client.request(Case.ERROR_BEFORE)
    names = [str(Case.ERROR_BEFORE), *([FIRST_ERROR] if cell.stream else [])]
    for name in names:
        with pytest.raises(client.ERRORS.RateLimitError) as raised:
            _ask(bench, cell, name, asked)
        error: Any = raised.value
        assert error.status_code == 429
        assert client.message_of(error) == BEFORE
        if cell.client == "messages":
            assert error.type == "rate_limit_error"
        if name == Case.ERROR_BEFORE:
            assert error.response.headers["retry-after"] == RETRY_AFTER
    _check_sent(bench, cell, asked)


@pytest.mark.parametrize(
    "cell", [cell for cell in CELLS if cell.case is Case.ERROR_DURING], ids=str
)
def test_error_after_content(bench: Bench, cell: Cell) -> None:
    """The client keeps what it got, and learns the provider's own words in its own form."""
    asked = CLIENTS[cell.client].request(Case.ERROR_DURING)
    seen = _ask(bench, cell, Case.ERROR_DURING, asked)
    _check_sent(bench, cell, asked)
    assert seen.text == TOLD[Case.ERROR_DURING].text
    assert seen.error is not None
    kind = "api_error" if cell.client == "messages" else "server_error"
    assert seen.error == (DURING, kind)


def _cells_of(test: Any) -> set[Cell]:
    """The cells that a test is run for."""
    return {cell for mark in test.pytestmark for cell in mark.args[1]}


def test_no_cell_is_missing() -> None:
    """Each cell of the product is tested, or is listed with the reason why it cannot be."""
    tests = (
        test_answer,
        test_tool_loop,
        test_thinking,
        test_error_before_content,
        test_error_after_content,
    )
    tested = set[Cell]().union(*map(_cells_of, tests))
    listed = {cell for cell in PRODUCT if any(reasons(cell))}
    assert tested.isdisjoint(listed)
    assert tested | listed == set(PRODUCT)
    assert len(PRODUCT) == 15 * 3 * 3 * 2
    for gap in GAPS:
        assert gap.reason
        assert any(gap.holds(cell) for cell in PRODUCT)
