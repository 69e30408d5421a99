"""Ten streams of chat completions as providers in use write them.

The official API has the first ones; Groq, Gemini and Mistral write calls in one chunk (C, E), and
Gemini puts text, finish reason and usage into one chunk (F).
"""

from typing import Any, Final

from tests.matrix.cases import TOOL, Tokens
from tests.matrix.chat_transcripts import DONE, chunk, usage
from tests.matrix.vendor import EXTRA

TEXT: Final = "Let me look \N{SUN BEHIND CLOUD}."
PARIS, ROME = {"city": "Paris"}, {"city": "Rome"}
_ROLE: Final = chunk({"role": "assistant", "content": ""})
_COUNTED: Final = usage(Tokens())
_FAILURE: Final = b'data: {"error": {"message": "Broke \\u00fc.", "type": "server_error"}}\n\n'
FAILED: Final = "Broke \u00fc."


def _call(index: int, name: str | None, arguments: str) -> dict[str, Any]:
    """A piece of a call; the first one has the name."""
    if name is None:
        return {"index": index, "function": {"arguments": arguments}}
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


def _calls(*calls: dict[str, Any]) -> bytes:
    return chunk({"tool_calls": list(calls)})


def _end(reason: str) -> list[bytes]:
    return [chunk({}, reason), chunk(None, usage=_COUNTED), DONE]


_TOLD: Final = [_ROLE, chunk({"content": TEXT[:4]}), chunk({"content": TEXT[4:]})]
_PIECES: Final = [
    _calls(_call(0, TOOL, "")),
    _calls(_call(0, None, '{"ci')),
    _calls(_call(0, None, 'ty": "Paris"}')),
]
_SECOND: Final = [_calls(_call(1, TOOL, "")), _calls(_call(1, None, '{"city": "Rome"}'))]
_WHOLE: Final = _call(0, TOOL, '{"city": "Paris"}')
STREAMS: Final[dict[str, list[bytes]]] = {
    "A": [*_TOLD, *_PIECES, *_end("tool_calls")],
    "B": [_ROLE, *_PIECES, *_end("tool_calls")],
    "C": [_ROLE, _calls(_WHOLE), *_end("tool_calls")],
    "D": [_ROLE, *_PIECES, *_SECOND, *_end("tool_calls")],
    "E": [
        _ROLE,
        _calls(_WHOLE, _call(1, TOOL, '{"city": "Rome"}')),
        *_end("tool_calls"),
    ],
    "F": [chunk({"role": "assistant", "content": TEXT}, "stop", usage=_COUNTED), DONE],
    "G": [_ROLE, chunk({"content": TEXT}, "length"), DONE],
    "H": [*_TOLD, *_end("stop")],
    "I": [*_TOLD, _FAILURE],
    "J": _TOLD,
}
TEXTS: Final = {name: "" if name in "BCDE" else TEXT for name in STREAMS}
CALLS: Final[dict[str, list[dict[str, str]]]] = {
    **{name: [] for name in STREAMS},
    **{name: [PARIS] for name in "ABC"},
    **{name: [PARIS, ROME] for name in "DE"},
}
FINISHES: Final = {**dict.fromkeys("ABCDE", "tools"), "F": "stop", "G": "length", "H": "stop"}


def case_name(name: str) -> str:
    """The case of a stream in a model's name."""
    return f"stream-{name}"


EXTRA.update({case_name(name): lambda _, name=name: STREAMS[name] for name in STREAMS})  # type: ignore[misc]
