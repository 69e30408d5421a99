"""A provider that signs its calls and refuses the next turn without, as Gemini 3 does."""

import json
from typing import Any, Final

import pytest

from tests.matrix import chat_transcripts
from tests.matrix.cases import RESULT, TOLD, TOOL, Case, Tokens, call_id
from tests.matrix.conftest import CLIENTS, Bench
from tests.matrix.framing import check_framing
from tests.matrix.seen import Seen
from tests.matrix.vendor import OTHERS, cut_up, stream
from tests.scripts import Headers, Line

_MODEL: Final = "up-chat/gemini-3-pro-preview:signed"
_CITIES: Final = (("Paris", "Rome"), ("Oslo",))
"""Of the calls of each turn; then the model answers."""

_MISSING: Final = "Function call is missing a thought_signature in functionCall parts."


def _signature(turn: int) -> dict[str, Any]:
    return {"google": {"thought_signature": f"signature+of/turn {turn}=="}}


def _calls(turn: int) -> list[dict[str, Any]]:
    """The calls of a turn, the first one signed."""
    calls: list[dict[str, Any]] = []
    for position, city in enumerate(_CITIES[turn]):
        function = {"name": TOOL, "arguments": json.dumps({"city": city})}
        identity = call_id("chat", 10 * turn + position)
        calls.append({"id": identity, "type": "function", "function": function})
    calls[0]["extra_content"] = _signature(turn)
    return calls


async def _play(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    turns = [entry for entry in request["messages"] if entry["role"] == "assistant"]
    given = [[call.get("extra_content") for call in turn["tool_calls"]] for turn in turns]
    wanted = [[call.get("extra_content") for call in _calls(turn)] for turn in range(len(turns))]
    if given != wanted:
        error = {"code": 400, "message": _MISSING, "status": "INVALID_ARGUMENT"}
        line.whole(json.dumps({"error": error}).encode(), 400)
        return
    is_last = len(turns) == len(_CITIES)
    whole = chat_transcripts.answer(Case.TOOL_RESULT if is_last else Case.ONE_TOOL)
    message = whole["choices"][0]["message"]
    if not is_last:
        message |= {"content": None, "tool_calls": _calls(len(turns))}
    if not request.get("stream"):
        line.whole(json.dumps(whole).encode())
        return
    chunks = [chat_transcripts.chunk({"role": "assistant", "content": message["content"]})]
    for index, call in enumerate(message.get("tool_calls", ())):
        chunks.append(chat_transcripts.chunk({"tool_calls": [{**call, "index": index}]}))
    chunks.append(chat_transcripts.chunk({}, whole["choices"][0]["finish_reason"]))
    chunks.append(chat_transcripts.chunk(None, usage=chat_transcripts.usage(Tokens())))
    await stream(line, list(cut_up(b"".join([*chunks, chat_transcripts.DONE]), "7")))


OTHERS["signed"] = _play


@pytest.mark.parametrize("as_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client", ["messages", "responses"])
def test_tools_are_called_over_turns(bench: Bench, client: str, as_stream: bool) -> None:
    """A client that knows nothing of it calls tools turn by turn up to the answer."""
    dialect = CLIENTS[client]
    asked = dialect.request(Case.TOOL_RESULT)
    for cities in _CITIES:
        seen: Seen = bench.ask(client, _MODEL, stream=as_stream, **asked)
        assert [call.arguments["city"] for call in seen.calls] == list(cities)
        if as_stream:
            check_framing(client, seen.wire.decode())
        asked = dialect.go_on(asked, seen, RESULT)
    seen = bench.ask(client, _MODEL, stream=as_stream, **asked)
    assert (seen.text, seen.calls) == (TOLD[Case.TOOL_RESULT].text, [])
    assert seen.dropped == []
