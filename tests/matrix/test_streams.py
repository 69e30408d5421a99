"""Streams of chat completions in every form that is in use, for clients of other dialects."""

import pytest

from tests.matrix.cases import TOOL, Case, Tokens, Told
from tests.matrix.chat_streams import CALLS, FAILED, FINISHES, STREAMS, TEXTS, case_name
from tests.matrix.conftest import CLIENTS, Bench, model_of
from tests.matrix.framing import check_framing
from tests.matrix.seen import Seen

_CUTS = ("", "@bytes", "@1", "@2", "@3")
"""As one piece, byte by byte, and in pieces of random size."""


def _ask(bench: Bench, client: str, name: str, cut: str) -> Seen:
    case = Case.ONE_TOOL if CALLS[name] else Case.TEXT
    asked = CLIENTS[client].request(case)
    model = model_of("chat", f"{case_name(name)}{cut}")
    seen: Seen = bench.ask(client, model, stream=True, **asked)
    return seen


@pytest.mark.parametrize("cut", _CUTS)
@pytest.mark.parametrize("name", sorted(FINISHES))
@pytest.mark.parametrize("client", ["messages", "responses"])
def test_stream_that_ends_well(bench: Bench, client: str, name: str, cut: str) -> None:
    """Text, calls, reason and usage are the same however the bytes arrive."""
    seen = _ask(bench, client, name, cut)
    module = CLIENTS[client]
    check_framing(client, seen.wire.decode())
    assert seen.text == TEXTS[name]
    assert [call.name for call in seen.calls] == [TOOL] * len(CALLS[name])
    assert [call.arguments for call in seen.calls] == CALLS[name]
    assert [call.id for call in seen.calls] == [f"call_{at}" for at in range(len(CALLS[name]))]
    assert seen.finish == module.finish_of(Told(finish=FINISHES[name]), "chat")
    if name != "G":  # which counts nothing
        assert seen.usage == module.usage_of(Tokens())


@pytest.mark.parametrize("cut", _CUTS)
@pytest.mark.parametrize(("name", "message"), [("I", FAILED), ("J", "before it was complete")])
@pytest.mark.parametrize("client", ["messages", "responses"])
def test_stream_that_fails(bench: Bench, client: str, name: str, message: str, cut: str) -> None:
    """An error, and an end without a reason, are an error for the client after what it got."""
    seen = _ask(bench, client, name, cut)
    assert seen.text == TEXTS[name]
    assert seen.error is not None
    assert message in seen.error[0]
    broke_off = "api_error" if name == "I" else "overloaded_error"
    assert seen.error[1] == (broke_off if client == "messages" else "server_error")


def test_all_streams_are_asked_for() -> None:
    """The ten streams are those that end well and those that fail."""
    assert {*FINISHES, "I", "J"} == set(STREAMS)
    assert len(STREAMS) == 10


def test_usage_only_for_those_who_ask(bench: Bench) -> None:
    """A chat client that does not ask for the usage of a stream gets no chunk of it."""
    for upstream in CLIENTS:
        asked = CLIENTS["chat"].request(Case.TEXT)
        answer = bench.site.send(
            bench.body(model_of(upstream, Case.TEXT), {**asked, "stream": True})
        )
        assert answer.status == 200
        assert answer.body.endswith(b"data: [DONE]\n\n")
        if upstream != "chat":  # there the provider sends what it is asked for
            assert b"total_tokens" not in answer.body
