"""Typed questions about a conversation: the values that their dialects read and answer.

A question is a statement, which is true or not, or a list of options, of which one applies. OpenAI
and TypeSafe have a dialect each; both allow the same numbers of options.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from serve_app.dialects.fields import Fields
from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import json_text
from serve_app.domain import Json, TokenUsage, Turn
from serve_app.errors import InvalidRequest, NestingTooDeep

MAX_QUESTIONS: Final = 400
MAX_CHOICES: Final = 255
MAX_LEVELS: Final = 10
_LEAST_OPTIONS: Final = 2


@dataclass(frozen=True, slots=True)
class Option:
    """One possible answer."""

    name: str
    """Unique in its question; not empty."""
    description: str
    """What the conversation is compared with."""


@dataclass(frozen=True, slots=True)
class TypedQuestion:
    """A question with a closed set of answers."""

    options: tuple[Option, ...]
    """In the client's order; a single one is a statement, which is true or not."""


@dataclass(frozen=True, slots=True)
class QuestionBatch:
    """The questions of one request, and what they are about."""

    turns: tuple[Turn, ...]
    questions: tuple[TypedQuestion, ...]
    """In the client's order; at least one."""
    place: str
    """The client's field with the turns, for messages."""


Probabilities: TypeAlias = tuple[float, ...]
"""Those of a question's options, in their order. Of a statement the probability that it is true;
else their sum is 1."""


class QuestionDialect(Protocol):
    """Reads typed questions and writes the answers."""

    @property
    def fields(self) -> Fields:
        """The keys that the gateway reads."""
        ...

    @property
    def has_providers(self) -> bool:
        """True if providers can be asked in this dialect, too."""
        ...

    def names_own_model(self, name: str) -> bool:
        """True for a name by which clients of this dialect alone mean the gateway's own model."""
        ...

    def read_questions(self, document: Document) -> QuestionBatch:
        """The questions of a request. Raises InvalidRequest that names the place of a fault."""
        ...

    def write_answers(
        self,
        document: Document,
        batch: QuestionBatch,
        answers: Sequence[Probabilities | None],
        usage: TokenUsage,
    ) -> bytes:
        """The body for the client; an answer of None is to a question that was not answered.

        ``document`` and ``batch`` are those of ``read_questions``.
        """
        ...


def best_of(question: TypedQuestion, probabilities: Probabilities) -> int:
    """The position of the most probable option; of equal ones the first by name.

    The order in which the client lists the options changes nothing.
    """
    ranks = [(-p, option.name) for option, p in zip(question.options, probabilities, strict=True)]
    return ranks.index(min(ranks))


def expected_level(probabilities: Probabilities) -> float:
    """The mean of the positions, the first being 0, weighted by their probabilities."""
    return round(sum(at * p for at, p in enumerate(probabilities)), 9)


def check_number(count: int) -> None:
    """Raises InvalidRequest for a number of questions that is not allowed."""
    if not 1 <= count <= MAX_QUESTIONS:
        message = f"questions: must be 1 to {MAX_QUESTIONS} questions, not {count}"
        raise InvalidRequest(message, "questions")


def check_count(count: int, most: int, place: str, noun: str) -> None:
    """Raises InvalidRequest for fewer than two options, or for more than ``most``."""
    if not _LEAST_OPTIONS <= count <= most:
        message = f"{place}: must have {_LEAST_OPTIONS} to {most} {noun}, not {count}"
        raise InvalidRequest(message, place)


def optional_text(value: Json, place: str) -> str:
    """A string, or nothing. Raises InvalidRequest for another value."""
    if value is None:
        return ""
    return text_at(value, place)


def text_at(value: Json, place: str) -> str:
    """A string. Raises InvalidRequest for another value."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{place}: must be a string", place)
    return value


def object_at(value: Json, place: str) -> dict[str, Json]:
    """An object. Raises InvalidRequest for another value."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"{place}: must be an object", place)
    return value


def list_at(value: Json, place: str) -> list[Json]:
    """A list. Raises InvalidRequest for another value."""
    if not isinstance(value, list):
        raise InvalidRequest(f"{place}: must be a list", place)
    return value


def as_text(value: Json) -> str:
    """A string as it is, another value as JSON. Raises NestingTooDeep."""
    if isinstance(value, str):
        return value
    try:
        return json_text(value)
    except RecursionError:
        raise NestingTooDeep from None


def options_of(texts: Sequence[tuple[str, str]], place: str) -> tuple[Option, ...]:
    """Options of these names and descriptions, each of which stands in for the other.

    A name that occurs twice gets a number. Raises InvalidRequest for an option without any text.
    """
    options: list[Option] = []
    names: set[str] = set()
    for at, (first_text, second_text) in enumerate(texts):
        name, description = first_text.strip(), second_text.strip()
        if not name and not description:
            path = f"{place}[{at}]"
            raise InvalidRequest(f"{path}: has no text; name or describe it", path)
        unique = first = name or description
        number = 1
        while unique in names:
            number += 1
            unique = f"{first} ({number})"
        names.add(unique)
        options.append(Option(unique, description or name))
    return tuple(options)
