"""The dialect of TypeSafe's System One: what is read of questions and written of answers."""

import json
from typing import Any

import pytest

from serve_app.dialects.json_edits import Document, read_document
from serve_app.dialects.protocol import ClientDialect
from serve_app.dialects.system_one import SystemOneClient
from serve_app.dialects.typed_questions import QuestionDialect
from serve_app.domain import TokenUsage, Turn
from serve_app.errors import InvalidRequest

CLIENT = SystemOneClient()
AS_CLIENT: ClientDialect = CLIENT
AS_QUESTIONS: QuestionDialect = CLIENT
NOUL = {"type": "noul", "instructions": "Is it urgent?"}
CHOICE = {"type": "choice", "instructions": "Who?", "criteria": {"b": None, "a": {"owns": "x"}}}
SCORE = {"type": "score", "instructions": "How?", "criteria": ["calm", {"label": "angry"}]}


def document(state: Any = "Help", **questions: Any) -> Document:
    body = {"state": state, "questions": questions, "model": "jev-latest"}
    return read_document(json.dumps(body).encode(), unique=CLIENT.fields.read)


def options_of(question: Any) -> list[tuple[str, str]]:
    read = CLIENT.read_questions(document(q=question)).questions[0]
    return [(option.name, option.description) for option in read.options]


@pytest.mark.parametrize(
    ("state", "text"),
    [("Help", "Help"), ({"é": 1}, '{"é":1}'), (["a", {"b": None}], '["a",{"b":null}]')],
)
def test_state_is_one_turn_of_the_user(state: Any, text: str) -> None:
    """A structure is read as JSON."""
    body = document(state, q=NOUL)
    assert CLIENT.read_questions(body).turns == (Turn("user", text),)
    assert CLIENT.read_conversation(body).turns == (Turn("user", text),)
    assert CLIENT.read_intent(body).model == "jev-latest"


@pytest.mark.parametrize(
    ("name", "own"),
    [("jev-latest", True), ("jev-1.13.0", True), ("jev", True), ("jevons", False), ("", False)],
)
def test_names_of_typesafe_mean_the_own_model(name: str, *, own: bool) -> None:
    """Because its SDKs name one of them by default."""
    assert CLIENT.names_own_model(name) is own


def test_choices_and_levels_are_options() -> None:
    """In the client's order, with structures as JSON; a question is read without its id."""
    assert options_of(CHOICE) == [("b", "b"), ("a", '{"owns":"x"}')]
    label = '{"label":"angry"}'
    assert options_of(SCORE) == [("calm", "calm"), (label, label)]


@pytest.mark.parametrize(
    ("question", "texts"),
    [
        (NOUL, ["Is it urgent?"]),
        ({**NOUL, "criteria": None}, ["Is it urgent?"]),
        ({**NOUL, "criteria": {"true": "now"}}, ["now"]),
        ({**NOUL, "criteria": {"false": "later"}}, ["Is it urgent?"]),
        ({"type": "noul", "criteria": {"true": "now", "false": "later"}}, ["now", "later"]),
    ],
)
def test_noul_is_a_statement_unless_both_sides_are_described(
    question: Any, texts: list[str]
) -> None:
    """What is true against what is not is a better question than a statement alone."""
    assert options_of(question) == [(text, text) for text in texts]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"questions": {"q": NOUL}}, "state"),
        ({"state": 7, "questions": {"q": NOUL}}, "state"),
        ({"state": "x"}, "questions"),
        ({"state": "x", "questions": []}, "questions"),
        ({"state": "x", "questions": {}}, "questions"),
        ({"state": "x", "questions": {str(n): NOUL for n in range(401)}}, "questions"),
        ({"state": "x", "questions": {"q": 1}}, "questions.q"),
        ({"state": "x", "questions": {"q": {"type": "boolean"}}}, "questions.q.type"),
        ({"state": "x", "questions": {"q": {"type": "noul"}}}, "questions.q.criteria[0]"),
        (
            {"state": "x", "questions": {"q": {"type": "noul", "criteria": []}}},
            "questions.q.criteria",
        ),
        ({"state": "x", "questions": {"q": {"type": "choice"}}}, "questions.q.criteria"),
        (
            {"state": "x", "questions": {"q": {"type": "choice", "criteria": {"a": None}}}},
            "questions.q.criteria",
        ),
        (
            {"state": "x", "questions": {"q": {"type": "score", "criteria": {"0": "a"}}}},
            "questions.q.criteria",
        ),
        (
            {"state": "x", "questions": {"q": {"type": "score", "criteria": ["a", None]}}},
            "questions.q.criteria[1]",
        ),
    ],
)
def test_error_names_place(body: Any, param: str) -> None:
    """By the client's own id of the question."""
    read = read_document(json.dumps(body).encode(), unique=CLIENT.fields.read)
    with pytest.raises(InvalidRequest) as caught:
        CLIENT.read_questions(read)
    assert caught.value.param == param


def test_answers_are_a_map_by_id() -> None:
    """With the expected level, the legend, and confidence as the distance from an equal share."""
    body = document(q=NOUL, c=CHOICE, s=SCORE)
    batch = CLIENT.read_questions(body)
    answers = [(0.9,), (0.25, 0.75), (0.5, 0.5)]
    written = json.loads(CLIENT.write_answers(body, batch, answers, TokenUsage(5)))
    assert written == {
        "model": "fingerpost/route",
        "answers": {
            "q": {"type": "noul", "noul": 0.9},
            "c": {
                "type": "choice",
                "choice": "a",
                "confidence": 0.5,
                "probabilities": {"b": 0.25, "a": 0.75},
            },
            "s": {
                "type": "score",
                "score": 0.5,
                "confidence": 0.0,
                "legend": {"0": "calm", "1": '{"label":"angry"}'},
                "probabilities": {"0": 0.5, "1": 0.5},
            },
        },
        "usage": {"input_tokens": 5, "output_tokens": 0},
    }


def test_unanswered_question_has_equal_probabilities() -> None:
    """The format has no refusals, and nothing is known."""
    both = {"type": "noul", "criteria": {"true": "now", "false": "later"}}
    body = document(q=NOUL, b=both, c=CHOICE)
    batch = CLIENT.read_questions(body)
    written = json.loads(CLIENT.write_answers(body, batch, [None] * 3, TokenUsage(0)))
    assert (written["answers"]["q"]["noul"], written["answers"]["b"]["noul"]) == (0.5, 0.5)
    assert written["answers"]["c"]["probabilities"] == {"b": 0.5, "a": 0.5}
    assert written["answers"]["c"]["confidence"] == 0.0
