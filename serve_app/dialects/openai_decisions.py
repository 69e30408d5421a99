"""The dialect of OpenAI decisions: for clients, for providers, and for the gateway's own answers.

A provider's body and answer pass unchanged. Source: OpenAI API reference, "Decisions", and the
types of openai-python 3.57.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.earlier_answers import StateDialect
from serve_app.dialects.fields import GATEWAY_KEYS, Fields, Intent, read_fallbacks, read_model
from serve_app.dialects.json_edits import Document, read_object
from serve_app.dialects.json_values import json_bytes
from serve_app.dialects.openai_errors import OpenAIErrors, error_info, error_message, read_error
from serve_app.dialects.openai_usage import UsageNames
from serve_app.dialects.path_upstream import PathUpstream
from serve_app.dialects.protocol import ErrorInfo, StreamWatch
from serve_app.dialects.text_conversation import TextConversation
from serve_app.dialects.typed_events import NO_EVENTS, TypedEventWatch
from serve_app.dialects.typed_questions import (
    MAX_CHOICES,
    MAX_LEVELS,
    Probabilities,
    QuestionBatch,
    TypedQuestion,
    as_text,
    best_of,
    check_count,
    check_number,
    expected_level,
    list_at,
    object_at,
    optional_text,
    options_of,
    text_at,
)
from serve_app.domain import OWN_MODEL, Conversation, Json, TokenUsage, Turn
from serve_app.errors import InvalidRequest
from serve_app.exchange import PATHS, Operation

FIELDS: Final = Fields(read=GATEWAY_KEYS | {"model", "input", "questions", "metadata"})

_TOOL_ITEMS: Final = frozenset(
    {"function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}
)
_ROLES: Final = ("user", "assistant", "system", "developer")
_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text"})
_IMAGES: Final = f"images are not supported by {OWN_MODEL}; send text"

_USAGE: Final = UsageNames("input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class DecisionsClient(OpenAIErrors):
    """A client that asks typed questions; the answer is never a stream."""

    name: str = "decisions"
    path: str = PATHS[Operation.DECISIONS]
    holds_conversations: bool = False
    fields: Fields = FIELDS
    keep_alive: bytes = b""
    state: StateDialect | None = None
    has_providers: bool = True

    def read_intent(self, document: Document) -> Intent:
        """Model and fallbacks. Raises InvalidRequest."""
        return Intent(read_model(document), read_fallbacks(document))

    def read_conversation(self, document: Document) -> Conversation:
        """The text of the user in ``input``, where a model is chosen by content.

        Raises InvalidRequest if ``input`` is not a string or a list of items.
        """
        turns = _turns(document.get("input"), strict=False)
        text = "\n".join(turn.text for turn in turns if turn.role == "user")
        return TextConversation(text, len(document.text))

    def names_own_model(self, name: str) -> bool:
        """False: OpenAI's clients name the gateway's own model in full."""
        del name
        return False

    def read_questions(self, document: Document) -> QuestionBatch:
        """The questions of a request. Raises InvalidRequest that names the place of a fault."""
        turns = _turns(document.get("input"), strict=True)
        questions = list_at(document.get("questions"), "questions")
        check_number(len(questions))
        read = (_question(entry, f"questions[{at}]") for at, entry in enumerate(questions))
        return QuestionBatch(turns, tuple(read), "input")

    def write_answers(
        self,
        document: Document,
        batch: QuestionBatch,
        answers: Sequence[Probabilities | None],
        usage: TokenUsage,
    ) -> bytes:
        """The body for the client; an answer of None is a refusal."""
        asked = zip(document.get("questions"), batch.questions, answers, strict=True)
        body = {
            "model": str(OWN_MODEL),
            "answers": [_answer(*question) for question in asked],
            "usage": {
                "input_tokens": usage.input_tokens,
                "input_tokens_details": {
                    "cached_tokens": usage.cached_tokens,
                    "cache_write_tokens": 0,
                },
                "output_tokens": usage.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.input_tokens + usage.output_tokens,
            },
        }
        return json_bytes(body)


@dataclass(frozen=True, slots=True)
class DecisionsUpstream(PathUpstream):
    """A provider that is asked typed questions."""

    operation: Operation = Operation.DECISIONS

    def read_usage(self, usage: Json) -> ir.Usage | None:
        """The tokens that an answer counts."""
        return _USAGE.read(usage)

    def read_error(self, body: bytes) -> ErrorInfo | None:
        """The error in a body; None if it is not an error of this dialect."""
        return read_error(body)

    def check_answer(self, body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
        """What is wrong with a complete answer of status 2xx; None if it holds answers."""
        del may_be_torn  # an answer is small enough to be parsed each time
        answer = read_object(body)
        if answer is None:
            return ErrorInfo("the answer is not a JSON object")
        if isinstance(answer.get("answers"), list):
            return None
        error = answer.get("error")
        if isinstance(error, dict):
            return error_info(error, body)
        return ErrorInfo(error_message(error) if error else "the answer holds no list `answers`")

    def watch(self, intent: Intent) -> StreamWatch:
        """A watch that finds no content in any stream."""
        del intent
        return TypedEventWatch(NO_EVENTS)


def _turns(value: Json, *, strict: bool) -> tuple[Turn, ...]:
    """The texts of user and assistant in ``input``; calls of tools and their results are left out.

    Raises InvalidRequest that names the place of what is not an item; if ``strict``, also for
    images and unknown kinds of items and parts.
    """
    if isinstance(value, str):
        return (Turn("user", value),) if value else ()
    if not isinstance(value, list):
        raise InvalidRequest("input is required and must be a string or a list", "input")
    turns: list[Turn] = []
    for at, entry in enumerate(value):
        path = f"input[{at}]"
        item = object_at(entry, path)
        kind = item.get("type", "message")
        if kind != "message":
            if strict and not (isinstance(kind, str) and kind in _TOOL_ITEMS):
                raise InvalidRequest(f"{path}.type: unknown kind of item", f"{path}.type")
            continue
        role = item.get("role")
        if strict and role not in _ROLES:
            message = f"{path}.role: must be one of {', '.join(_ROLES)}"
            raise InvalidRequest(message, f"{path}.role")
        text = _text(item.get("content"), f"{path}.content", strict=strict)
        if text and (role == "user" or role == "assistant"):  # noqa: PLR1714 - may be unhashable
            turns.append(Turn(role, text))
    return tuple(turns)


def _text(content: Json, place: str, *, strict: bool) -> str:
    """The text of a content, JSON included, its parts joined by line breaks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        if strict:
            raise InvalidRequest(f"{place}: must be a string or a list of parts", place)
        return ""
    texts: list[str] = []
    for at, entry in enumerate(content):
        path = f"{place}[{at}]"
        part = object_at(entry, path)
        kind = part.get("type")
        if kind == "input_json":
            texts.append(as_text(part.get("data")))
        elif isinstance(kind, str) and kind in _TEXT_PARTS:
            texts.append(text_at(part.get("text"), f"{path}.text"))
        elif strict and kind == "input_image":
            raise InvalidRequest(f"{path}: {_IMAGES}", path)
        elif strict and kind != "refusal":
            raise InvalidRequest(f"{path}.type: unknown kind of part", f"{path}.type")
    return "\n".join(texts)


def _question(value: Json, place: str) -> TypedQuestion:
    question = object_at(value, place)
    optional_text(question.get("name"), f"{place}.name")
    instructions = _text(question.get("instructions"), f"{place}.instructions", strict=True)
    match question.get("type"):
        case "predicate":
            return _statement(instructions, f"{place}.instructions")
        case "choice":
            return _choice(question, f"{place}.choices")
        case "score":
            return _score(question, f"{place}.levels")
    path = f"{place}.type"
    raise InvalidRequest(f"{path}: must be predicate, choice or score", path)


def _statement(text: str, place: str) -> TypedQuestion:
    if not text.strip():
        raise InvalidRequest(f"{place}: must state what is true or not", place)
    return TypedQuestion(options_of([(text, text)], place))


_VALUES: Final = (str, bool)


def _choice(question: dict[str, Json], place: str) -> TypedQuestion:
    choices = list_at(question.get("choices"), place)
    check_count(len(choices), MAX_CHOICES, place, "choices")
    values: list[str | bool] = []
    descriptions: list[str] = []
    seen: set[str | bool] = set()  # True and "true" differ
    for at, entry in enumerate(choices):  # paths are written for faults only: there are hundreds
        choice = entry if isinstance(entry, dict) else object_at(entry, f"{place}[{at}]")
        value, description = choice.get("value"), choice.get("description")
        if not isinstance(value, _VALUES):
            path = f"{place}[{at}].value"
            raise InvalidRequest(f"{path}: must be a string or a boolean", path)
        if not isinstance(description, str):
            description = optional_text(description, f"{place}[{at}].description")
        if value in seen:
            path = f"{place}[{at}].value"
            raise InvalidRequest(f"{path}: duplicate choice {value!r}; keep one", path)
        seen.add(value)
        values.append(value)
        descriptions.append(description)
    names = [
        value if isinstance(value, str) else _boolean(values, is_true=value) for value in values
    ]
    return TypedQuestion(options_of(list(zip(names, descriptions, strict=True)), place))


def _boolean(values: Sequence[str | bool], *, is_true: bool) -> str:
    """The name of a boolean among these values; it differs from all strings."""
    name = "true" if is_true else "false"
    return f"{name} (boolean)" if name in values else name


def _score(question: dict[str, Json], place: str) -> TypedQuestion:
    levels = list_at(question.get("levels"), place)
    check_count(len(levels), MAX_LEVELS, place, "levels")
    texts: list[tuple[str, str]] = []
    for at, entry in enumerate(levels):
        path = f"{place}[{at}]"
        level = object_at(entry, path)
        description = optional_text(level.get("description"), f"{path}.description")
        texts.append((text_at(level.get("label"), f"{path}.label"), description))
    return TypedQuestion(options_of(texts, place))


def _answer(
    question: dict[str, Json], read: TypedQuestion, probabilities: Probabilities | None
) -> dict[str, Json]:
    name = question.get("name")
    if probabilities is None:
        return {"type": "refusal", "name": name}
    if question["type"] == "predicate":
        return {"type": "predicate", "name": name, "probability": probabilities[0]}
    best = best_of(read, probabilities)
    if question["type"] == "choice":
        values = [choice["value"] for choice in question["choices"]]
        return {
            "type": "choice",
            "name": name,
            "choice": values[best],
            "confidence": probabilities[best],
            "probabilities": [
                {"value": value, "probability": probability}
                for value, probability in zip(values, probabilities, strict=True)
            ],
        }
    return {
        "type": "score",
        "name": name,
        "score": expected_level(probabilities),
        "confidence": probabilities[best],
        "probabilities": [
            {"value": at, "label": level["label"], "probability": probability}
            for at, (level, probability) in enumerate(
                zip(question["levels"], probabilities, strict=True)
            )
        ],
    }
