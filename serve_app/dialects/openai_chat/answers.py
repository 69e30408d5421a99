"""Complete answers of chat completions, read and written.

Source: OpenAI API reference, "Chat", "The chat completion object"; content lists as Mistral has
them.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.json_values import (
    count_of,
    number_of,
    object_of,
    objects_of,
    seconds_of,
    text_of,
    text_or_none,
)
from serve_app.dialects.openai_chat.finish_reasons import failure_in, read_finish, write_finish
from serve_app.dialects.openai_chat.reasoning import (
    EXTRA,
    details_for_client,
    read_thinking,
    thought_of_part,
    thoughts_in,
    thoughts_of_call,
)
from serve_app.dialects.openai_usage import UsageNames
from serve_app.dialects.protocol import Written
from serve_app.dialects.stable_ids import id_of_call
from serve_app.dialects.tool_arguments import arguments_of
from serve_app.domain import Json

ID_PREFIX: Final = "chatcmpl-"
GAP: Final = "\n\n"
"""Between two texts of an answer that has something else between them."""
USAGE: Final = UsageNames("prompt_tokens", "completion_tokens")
_SERVICE_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})
_MEDIA: Final = ("audio", "images")
"""Keys of an answer that hold what other dialects cannot."""


def read_answer(answer: Mapping[str, Json]) -> ir.Answer:
    """The first choice of an answer. Raises ValueError if there is none."""
    choice = first_choice(answer)
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        raise ValueError("the answer holds no message")
    failure = failure_in(choice, answer.get("error"))
    if failure is not None:
        raise ValueError(failure.message)
    created = seconds_of(answer.get("created"))
    answer_id = text_of(answer.get("id")) or str(created or "")
    parts: list[ir.AnswerPart] = [*map(read_thinking, thoughts_in(message))]
    parts += _content(message, choice)
    parts += _calls(message, answer_id)
    if len(parts) > 1:
        parts = [part for part in parts if not _is_blank(part)]
    parts += [ir.Foreign(key) for key in _MEDIA if message.get(key)]
    finish = read_finish(
        choice.get("finish_reason"), choice.get("stop_reason"), {type(part) for part in parts}
    )
    return ir.Answer(
        id=answer_id,
        model=text_of(answer.get("model")),
        parts=tuple(parts),
        finish=finish.reason,
        stop_sequence=finish.stop_sequence,
        usage=USAGE.read(answer.get("usage")),
        created=created,
        service_tier=text_of(answer.get("service_tier")) or None,
    )


def first_choice(answer: Mapping[str, Json]) -> dict[str, Json] | None:
    """The choice that counts; None if there is none. Some servers leave its index out."""
    for choice in objects_of(answer.get("choices")):
        if not count_of(choice.get("index")):
            return choice
    return None


def call_id(answer_id: str, position: int) -> str:
    """An id for a call that has none: the same each time, and different in each answer."""
    return id_of_call("call_", answer_id.removeprefix(ID_PREFIX), position)


def citations_in(message: Mapping[str, Json]) -> Iterator[ir.Citation]:
    """The web sources of a message or a delta."""
    for annotation in objects_of(message.get("annotations")):
        if annotation.get("type", "url_citation") != "url_citation":
            continue
        source = object_of(annotation.get("url_citation")) or annotation
        url = text_of(source.get("url"))
        if url:
            yield ir.Citation(
                url,
                text_of(source.get("title")),
                count_of(source.get("start_index")),
                count_of(source.get("end_index")),
                text_of(source.get("content")),
            )


def logprobs_in(choice: Mapping[str, Json]) -> tuple[Json, ...]:
    """The probabilities of the tokens of the text, each complete as the official SDKs read it."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return ()
    tokens = objects_of(logprobs.get("content"))
    return tuple(filter(None, map(_token, tokens)))


def _token(token: Mapping[str, Json]) -> Json:
    read = _candidate(token)
    if read is None:
        return None
    others = filter(None, map(_candidate, objects_of(token.get("top_logprobs"))))
    return {**read, "top_logprobs": list(others)}


def _candidate(token: Mapping[str, Json]) -> Json:
    text, logprob = text_or_none(token.get("token")), number_of(token.get("logprob"))
    if text is None or logprob is None:
        return None
    values = token.get("bytes")
    is_bytes = isinstance(values, list) and all(count_of(value) is not None for value in values)
    return {"token": text, "logprob": logprob, "bytes": values if is_bytes else None}


def _content(message: Mapping[str, Json], choice: Mapping[str, Json]) -> Iterator[ir.AnswerPart]:
    content = message.get("content")
    pieces = [{"text": content}] if isinstance(content, str) else objects_of(content)
    citations, logprobs = tuple(citations_in(message)), logprobs_in(choice)
    for piece in pieces:
        if piece.get("type") == "thinking":
            yield read_thinking(thought_of_part(piece))
        elif text := text_of(piece.get("text")):
            yield ir.Text(text, citations, logprobs)
            citations, logprobs = (), ()
        elif text := text_of(piece.get("refusal")):
            yield ir.Refusal(text)
    refusal = text_of(message.get("refusal"))
    if refusal:
        yield ir.Refusal(refusal)


def _is_blank(part: ir.AnswerPart) -> bool:
    """True for a text of white space, which is left out beside other parts.

    Models write line breaks before a tool call, and Anthropic refuses such a text in a history.
    """
    return isinstance(part, ir.Text) and not part.text.strip()


def _calls(message: Mapping[str, Json], answer_id: str) -> Iterator[ir.ToolCall | ir.Thinking]:
    ids: set[str] = set()
    for position, call in enumerate(objects_of(message.get("tool_calls"))):
        function = object_of(call.get("function"))
        custom = object_of(call.get("custom"))
        name = text_of(function.get("name")) or text_of(custom.get("name"))
        if not name:
            continue
        given = text_of(call.get("id"))
        if not given or given in ids:
            given = call_id(answer_id, position)
        ids.add(given)
        yield from thoughts_of_call(given, call.get(EXTRA))
        if function:
            yield ir.ToolCall(given, name, arguments_of(function.get("arguments")))
        else:
            yield ir.ToolCall(given, name, arguments_of(custom.get("input")), is_custom=True)
    function = object_of(message.get("function_call"))
    name = text_of(function.get("name"))
    if name and not message.get("tool_calls"):
        yield ir.ToolCall(call_id(answer_id, 0), name, arguments_of(function.get("arguments")))


def write_answer(answer: ir.Answer, request: ir.Request) -> Written:
    """The answer for a client; ``created`` is now where the provider does not say."""
    created = int(time.time()) if answer.created is None else answer.created
    parts = [part for part in answer.parts if is_for(part, request)]
    message, dropped = _message(parts, has_functions=has_functions(request))
    has_refusal = message["refusal"] is not None
    reason = write_finish(answer.finish, has_refusal=has_refusal)
    if reason == "tool_calls" and "function_call" in message:
        reason = "function_call"
    logprobs = [
        token for part in answer.parts if isinstance(part, ir.Text) for token in part.logprobs
    ]
    body: dict[str, Json] = {
        "id": prefixed(answer.id, created),
        "object": "chat.completion",
        "created": created,
        "model": answer.model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
                "finish_reason": reason,
            }
        ],
    }
    if answer.usage is not None:
        body["usage"] = USAGE.write(answer.usage)
    if answer.service_tier in _SERVICE_TIERS:
        body["service_tier"] = answer.service_tier
    return Written(body, tuple(dict.fromkeys(dropped)))


def prefixed(answer_id: str, created: int) -> str:
    """An id as chat clients know it."""
    if answer_id.startswith(ID_PREFIX):
        return answer_id
    return f"{ID_PREFIX}{answer_id or created}"


def has_functions(request: ir.Request) -> bool:
    """True if the client speaks of functions, which tools have replaced."""
    return request.path_of("tools") == "functions"


def is_for(part: ir.AnswerPart, request: ir.Request) -> bool:
    """False for thoughts that the client does not want to see."""
    is_hidden = request.reasoning is not None and request.reasoning.summary == "none"
    return not (is_hidden and isinstance(part, ir.Thinking))


def _message(
    parts: Iterable[ir.AnswerPart], *, has_functions: bool
) -> tuple[dict[str, Json], list[str]]:
    """The message of an answer, and what it cannot hold."""
    texts = AnswerText()
    refusals: list[str] = []
    thoughts: list[ir.Thinking] = []
    calls: list[ir.ToolCall] = []
    dropped: list[str] = []
    for part in parts:
        if isinstance(part, ir.Text):
            texts.add(part)
            continue
        texts.is_split = True
        if isinstance(part, ir.Thinking):
            thoughts.append(part)
        elif isinstance(part, ir.ToolCall):
            calls.append(part)
        elif isinstance(part, ir.Refusal):
            refusals.append(part.text)
        else:
            dropped.append(part.kind)
    message: dict[str, Json] = {
        "role": "assistant",
        "content": texts.text or (None if calls or refusals else ""),
        "refusal": GAP.join(refusals) or None,
    }
    if texts.annotations:
        message["annotations"] = texts.annotations
    message |= _thoughts(thoughts)
    if calls and has_functions:
        message["function_call"] = _function(calls[0])
        dropped += ["tool_calls"] * (len(calls) > 1)
    elif calls:
        message["tool_calls"] = [_call(call) for call in calls]
    return message, dropped


class AnswerText:
    """The texts of an answer as one, and where their sources are in it."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self.is_split = False
        """Something else came since the last text."""
        self.annotations: list[dict[str, Json]] = []

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._pieces)

    def add(self, part: ir.Text) -> None:
        """Appends a text, after a gap if something came between."""
        if self.is_split and self._pieces and part.text:
            self._append(GAP)
        self.is_split = False
        start = self._length
        self._append(part.text)
        self.annotations += (annotation(source, start, len(part.text)) for source in part.citations)

    def _append(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            self._length += len(piece)


def annotation(source: ir.Citation, start: int, length: int) -> dict[str, Json]:
    """A web source of a text that begins at ``start``; of all of it if its place is unknown."""
    cited: dict[str, Json] = {
        "url": source.url,
        "title": source.title,
        "start_index": start + (source.start or 0),
        "end_index": start + (length if source.end is None else source.end),
    }
    return {"type": "url_citation", "url_citation": cited}


def _thoughts(thoughts: list[ir.Thinking]) -> dict[str, Json]:
    """The text in ``reasoning_content``; also in ``reasoning_details``, once one is signed."""
    texts = [thinking.text for thinking in thoughts if thinking.text]
    fields: dict[str, Json] = {"reasoning_content": GAP.join(texts)} if texts else {}
    details = [
        details_for_client(thinking.text, thinking, index)
        for index, thinking in enumerate(thoughts)
    ]
    signed = [entry for entry in details if entry is not None]
    return {**fields, "reasoning_details": signed} if signed else fields


def _call(call: ir.ToolCall) -> dict[str, Json]:
    if call.is_custom:
        custom = {"name": call.name, "input": call.arguments}
        return {"id": call.id, "type": "custom", "custom": custom}
    return {"id": call.id, "type": "function", "function": _function(call)}


def _function(call: ir.ToolCall) -> dict[str, Json]:
    return {"name": call.name, "arguments": call.arguments or "{}"}
