"""The dialect of TypeSafe's System One, whose clients ask typed questions about a state.

Only the gateway's own orchestrator answers it. Errors are OpenAI's, whose message TypeSafe's SDKs
show. Source: TypeSafe API reference, "POST /v1/systemone", and typesafe-sdk 0.7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from serve_app.dialects.earlier_answers import StateDialect
from serve_app.dialects.fields import Fields, Intent, read_model
from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import json_bytes
from serve_app.dialects.openai_errors import OpenAIErrors
from serve_app.dialects.text_conversation import TextConversation
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
    options_of,
)
from serve_app.domain import OWN_MODEL, Conversation, Json, TokenUsage, Turn
from serve_app.errors import InvalidRequest

FIELDS: Final = Fields(read=frozenset({"model", "state", "questions"}))


@dataclass(frozen=True, slots=True)
class SystemOneClient(OpenAIErrors):
    """A client that asks TypeSafe's typed questions; the answer is never a stream."""

    name: str = "systemone"
    path: str = "/systemone"
    holds_conversations: bool = False
    fields: Fields = FIELDS
    keep_alive: bytes = b""
    state: StateDialect | None = None
    has_providers: bool = False

    def read_intent(self, document: Document) -> Intent:
        """The model. Raises InvalidRequest."""
        return Intent(read_model(document))

    def read_conversation(self, document: Document) -> Conversation:
        """The state as one text. Raises InvalidRequest if there is none."""
        return TextConversation(_state(document), len(document.text))

    def names_own_model(self, name: str) -> bool:
        """True for TypeSafe's models, one of which its SDKs name by default."""
        return name.partition("-")[0] == "jev"

    def read_questions(self, document: Document) -> QuestionBatch:
        """The questions of a request. Raises InvalidRequest that names the place of a fault."""
        turns = (Turn("user", _state(document)),)
        questions = object_at(document.get("questions"), "questions")
        check_number(len(questions))
        read = (_question(entry, f"questions.{name}") for name, entry in questions.items())
        return QuestionBatch(turns, tuple(read), "state")

    def write_answers(
        self,
        document: Document,
        batch: QuestionBatch,
        answers: Sequence[Probabilities | None],
        usage: TokenUsage,
    ) -> bytes:
        """The body for the client; where nothing is known, all options are equally probable."""
        entries = document.get("questions").items()
        asked = zip(entries, batch.questions, answers, strict=True)
        body = {
            "model": str(OWN_MODEL),
            "answers": {
                name: _answer(question, read, probabilities or _unknown(read))
                for (name, question), read, probabilities in asked
            },
            "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        }
        return json_bytes(body)


def _state(document: Document) -> str:
    value = document.get("state")
    if not isinstance(value, str | dict | list):
        raise InvalidRequest("state is required and must be a string, an object or a list", "state")
    return as_text(value)


def _unknown(question: TypedQuestion) -> Probabilities:
    count = len(question.options)
    return (1 / max(count, 2),) * count


def _question(value: Json, place: str) -> TypedQuestion:
    question = object_at(value, place)
    criteria, at = question.get("criteria"), f"{place}.criteria"
    match question.get("type"):
        case "noul":
            return _noul(question, {} if criteria is None else object_at(criteria, at), at)
        case "choice":
            options = object_at(criteria, at)
            check_count(len(options), MAX_CHOICES, at, "options")
            return TypedQuestion(
                options_of([(name, _text(value)) for name, value in options.items()], at)
            )
        case "score":
            levels = [_text(level) for level in list_at(criteria, at)]
            check_count(len(levels), MAX_LEVELS, at, "levels")
            return TypedQuestion(options_of([(level, level) for level in levels], at))
    path = f"{place}.type"
    raise InvalidRequest(f"{path}: must be noul, choice or score", path)


def _noul(question: dict[str, Json], criteria: dict[str, Json], place: str) -> TypedQuestion:
    """What is true, against what is not where both are described, else as a statement."""
    yes, no = _text(criteria.get("true")), _text(criteria.get("false"))
    if yes and no:
        return TypedQuestion(options_of([(yes, yes), (no, no)], place))
    statement = yes or _text(question.get("instructions"))
    return TypedQuestion(options_of([(statement, statement)], place))


def _text(value: Json) -> str:
    return "" if value is None else as_text(value)


def _answer(
    question: dict[str, Json], read: TypedQuestion, probabilities: Probabilities
) -> dict[str, Json]:
    if question["type"] == "noul":
        return {"type": "noul", "noul": probabilities[0]}
    best = best_of(read, probabilities)
    if question["type"] == "choice":
        names = list(question["criteria"])
        return {
            "type": "choice",
            "choice": names[best],
            "confidence": _above_chance(probabilities),
            "probabilities": dict(zip(names, probabilities, strict=True)),
        }
    return {
        "type": "score",
        "score": expected_level(probabilities),
        "confidence": _above_chance(probabilities),
        "legend": {str(at): _text(level) for at, level in enumerate(question["criteria"])},
        "probabilities": {str(at): value for at, value in enumerate(probabilities)},
    }


def _above_chance(probabilities: Probabilities) -> float:
    """How far the best option is above an equal share, 0 to 1, as TypeSafe's choices have it."""
    chance = 1 / len(probabilities)
    return round(max(0.0, (max(probabilities) - chance) / (1 - chance)), 9)
