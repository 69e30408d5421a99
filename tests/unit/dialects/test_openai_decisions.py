"""The dialect of OpenAI decisions: what is read of questions, and what is written of answers."""

import json
from typing import Any

import pytest
from openai.types import Decision

from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import NO_QUIRK, Document, read_document
from serve_app.dialects.openai_decisions import DecisionsClient, DecisionsUpstream
from serve_app.dialects.protocol import ClientDialect, StreamState, UpstreamDialect
from serve_app.dialects.registry import dialect_of
from serve_app.dialects.typed_questions import Option, QuestionDialect, as_text
from serve_app.domain import TokenUsage, Turn
from serve_app.errors import InvalidRequest, NestingTooDeep, UpstreamFailed
from serve_app.exchange import Operation
from tests.unit.dialects.streams import watch_stream

CLIENT = DecisionsClient()
AS_CLIENT: ClientDialect = CLIENT
AS_QUESTIONS: QuestionDialect = CLIENT
UPSTREAM: UpstreamDialect = DecisionsUpstream()
PREDICATE = {"type": "predicate", "instructions": "It is true"}
CHOICES = [{"value": "a"}, {"value": "b", "description": "the letter b"}]
CHOICE = {"type": "choice", "name": "letter", "instructions": "Which?", "choices": CHOICES}
SCORE = {
    "type": "score",
    "instructions": "How much?",
    "levels": [{"label": "low"}, {"label": "high", "description": "very much"}],
}


def document(*questions: Any, text: Any = "Hello") -> Document:
    return read_document(
        json.dumps({"input": text, "questions": list(questions)}).encode(),
        unique=CLIENT.fields.read,
    )


def refused(body: Document) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        CLIENT.read_questions(body)
    assert str(caught.value).startswith(str(caught.value.param))
    return caught.value


def test_intent_is_model_and_fallbacks() -> None:
    """Nothing else of a body decides, and a stream is never wanted."""
    body = b'{"model": "m", "models": ["n"], "stream": true}'
    read = CLIENT.read_intent(read_document(body, unique=CLIENT.fields.read))
    assert read == Intent("m", ("n",))
    assert not CLIENT.names_own_model("jev-latest")


def test_questions_are_read_in_order() -> None:
    """A statement is one option; a choice's or a level's text describes it by default."""
    batch = CLIENT.read_questions(document(PREDICATE, CHOICE, SCORE))
    assert batch.turns == (Turn("user", "Hello"),)
    assert batch.place == "input"
    assert [question.options for question in batch.questions] == [
        (Option("It is true", "It is true"),),
        (Option("a", "a"), Option("b", "the letter b")),
        (Option("low", "low"), Option("high", "very much")),
    ]


def test_boolean_and_string_of_one_text_are_two_choices() -> None:
    """The names of options are unique, whatever the order is."""
    choices = [{"value": "true"}, {"value": True}, {"value": False}]
    for listed in (choices, choices[::-1]):
        read = CLIENT.read_questions(document({**CHOICE, "choices": listed})).questions[0]
        names = {option.name for option in read.options}
        assert names == {"true", "true (boolean)", "false"}


def test_options_of_one_text_get_numbers() -> None:
    """Levels may have the same label, and a choice may have nothing but a description."""
    levels = [{"label": "x"}, {"label": "x", "description": "y"}]
    read = CLIENT.read_questions(document({**SCORE, "levels": levels})).questions[0]
    assert read.options == (Option("x", "x"), Option("x (2)", "y"))
    choices = [{"value": "", "description": "nothing"}, {"value": "a"}]
    read = CLIENT.read_questions(document({**CHOICE, "choices": choices})).questions[0]
    assert read.options[0] == Option("nothing", "nothing")


def test_input_of_messages_becomes_turns() -> None:
    """Text and JSON of user and assistant; system messages, calls and refusals are left out."""
    items = [
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": [{"type": "input_text", "text": "x"}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look:"},
                {"type": "input_json", "data": {"é": [1, None]}},
            ],
        },
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
        {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_image"}]},
        {"type": "custom_tool_call", "name": "f", "input": "", "call_id": "2"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": "x"},
        {
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "Done"},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {"role": "user", "content": "Thanks"},
    ]
    body = document(PREDICATE, text=items)
    turns = (Turn("user", 'Look:\n{"é":[1,null]}'), Turn("assistant", "Done"))
    assert CLIENT.read_questions(body).turns == (*turns, Turn("user", "Thanks"))
    read = CLIENT.read_conversation(body)
    assert read.turns == (Turn("user", 'Look:\n{"é":[1,null]}\nThanks'),)
    assert read.characters == len(body.text)


def test_conversation_of_a_passed_body_is_read_leniently() -> None:
    """What only a provider understands is left out, so that the body can go on to it."""
    parts = [{"type": "input_image", "image_url": "u"}, {"type": "new"}, {"type": []}]
    items = [
        {"role": "user", "content": [*parts, {"type": "text", "text": "Hi"}]},
        {"role": "user", "content": 7},
        {"role": [], "content": "x"},
        {"type": "new"},
    ]
    assert CLIENT.read_conversation(document(text=items)).turns == (Turn("user", "Hi"),)
    assert CLIENT.read_conversation(document(text="")).turns == ()
    wrong: list[Any] = [None, 7, {}, ["x"]]
    for text in wrong:
        with pytest.raises(InvalidRequest):
            CLIENT.read_conversation(document(text=text))


@pytest.mark.parametrize(
    ("text", "param"),
    [
        (None, "input"),
        (7, "input"),
        (["x"], "input[0]"),
        ([{"type": "item_reference"}], "input[0].type"),
        ([{"type": []}], "input[0].type"),
        ([{"role": "tool", "content": "x"}], "input[0].role"),
        ([{"role": "user"}], "input[0].content"),
        ([{"role": "user", "content": ["x"]}], "input[0].content[0]"),
        ([{"role": "user", "content": [{"type": "x"}]}], "input[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], "input[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "input_image"}]}], "input[0].content[0]"),
    ],
)
def test_error_names_place_in_input(text: Any, param: str) -> None:
    """Images are not supported, and what is unknown is not guessed."""
    assert refused(document(PREDICATE, text=text)).param == param


@pytest.mark.parametrize(
    ("question", "param"),
    [
        ("x", ""),
        ({}, ".instructions"),
        ({**PREDICATE, "type": "boolean"}, ".type"),
        ({**PREDICATE, "type": []}, ".type"),
        ({**PREDICATE, "name": 1}, ".name"),
        ({**PREDICATE, "instructions": " "}, ".instructions"),
        ({**PREDICATE, "instructions": [{"type": "input_image"}]}, ".instructions[0]"),
        ({**CHOICE, "choices": None}, ".choices"),
        ({**CHOICE, "choices": [{"value": "a"}]}, ".choices"),
        ({**CHOICE, "choices": [{"value": str(n)} for n in range(256)]}, ".choices"),
        ({**CHOICE, "choices": [{"value": "a"}, "b"]}, ".choices[1]"),
        ({**CHOICE, "choices": [{"value": "a"}, {"value": 1}]}, ".choices[1].value"),
        ({**CHOICE, "choices": [{"value": "a"}, {}]}, ".choices[1].value"),
        ({**CHOICE, "choices": [*CHOICES, {"value": "a"}]}, ".choices[2].value"),
        ({**CHOICE, "choices": [{"value": True}, {"value": True}]}, ".choices[1].value"),
        ({**CHOICE, "choices": [{"value": "a"}, {"value": " "}]}, ".choices[1]"),
        (
            {**CHOICE, "choices": [{"value": "a", "description": 1}, {"value": "b"}]},
            ".choices[0].description",
        ),
        ({**SCORE, "levels": [{"label": "x"}]}, ".levels"),
        ({**SCORE, "levels": [{"label": str(n)} for n in range(11)]}, ".levels"),
        ({**SCORE, "levels": [{"label": "x"}, {}]}, ".levels[1].label"),
        ({**SCORE, "levels": [{"label": "x"}, 1]}, ".levels[1]"),
    ],
)
def test_error_names_place_in_question(question: Any, param: str) -> None:
    """With the position of the question, so that one of four hundred is found."""
    assert refused(document(PREDICATE, question)).param == f"questions[1]{param}"


def test_number_of_questions_is_limited() -> None:
    """From one to 400."""
    assert "1 to 400" in str(refused(document()))
    assert "not 401" in str(refused(document(*[PREDICATE] * 401)))
    assert len(CLIENT.read_questions(document(*[PREDICATE] * 400)).questions) == 400


def test_deep_json_is_refused() -> None:
    """A value that the parser could read and the writer could not is an error of the client."""
    deep: Any = {}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(NestingTooDeep):
        as_text(deep)


def test_answers_parse_as_the_sdk_types() -> None:
    """Each kind of answer, a refusal and the usage, in the order of the questions."""
    body = document(PREDICATE, CHOICE, SCORE, {**CHOICE, "name": None})
    batch = CLIENT.read_questions(body)
    answers = [(0.25,), (0.25, 0.75), (0.5, 0.5), None]
    written = CLIENT.write_answers(body, batch, answers, TokenUsage(7, 2, 3))
    decision = Decision.model_validate_json(written, strict=True)
    assert json.loads(written) == {
        "model": "fingerpost/route",
        "answers": [
            {"type": "predicate", "name": None, "probability": 0.25},
            {
                "type": "choice",
                "name": "letter",
                "choice": "b",
                "confidence": 0.75,
                "probabilities": [
                    {"value": "a", "probability": 0.25},
                    {"value": "b", "probability": 0.75},
                ],
            },
            {
                "type": "score",
                "name": None,
                "score": 0.5,
                "confidence": 0.5,
                "probabilities": [
                    {"value": 0, "label": "low", "probability": 0.5},
                    {"value": 1, "label": "high", "probability": 0.5},
                ],
            },
            {"type": "refusal", "name": None},
        ],
        "usage": decision.usage.model_dump(),
    }
    assert (decision.usage.input_tokens, decision.usage.total_tokens) == (7, 9)
    assert decision.usage.input_tokens_details.cached_tokens == 3


def test_equal_probabilities_choose_the_first_by_name() -> None:
    """So that the order of the choices changes nothing."""
    for choices in ([{"value": "b"}, {"value": "a"}], [{"value": "a"}, {"value": "b"}]):
        body = document({**CHOICE, "choices": choices})
        batch = CLIENT.read_questions(body)
        written = CLIENT.write_answers(body, batch, [(0.5, 0.5)], TokenUsage(0))
        assert json.loads(written)["answers"][0]["choice"] == "a"


def test_body_goes_on_to_a_provider_unchanged() -> None:
    """But for the model and the gateway's own keys."""
    body = document(PREDICATE)
    passed = UPSTREAM.pass_on(body, CLIENT.fields, "m", NO_QUIRK)
    assert passed == b'{"model": "m", ' + body.text.encode()[1:]
    assert UPSTREAM.address("m", stream=False) == "/decisions"
    assert UPSTREAM.operation is Operation.DECISIONS


@pytest.mark.parametrize(
    ("body", "message", "status"),
    [
        (b'{"answers": []}', None, None),
        (b'{"answers": {}}', "the answer holds no list `answers`", None),
        (b"[]", "the answer is not a JSON object", None),
        (b'{"error": "x"}', "x", None),
        (b'{"error": {"message": "no", "type": "invalid_request_error"}}', "no", 400),
    ],
)
def test_complete_answer_holds_answers(
    body: bytes, message: str | None, status: int | None
) -> None:
    """Everything else is an error of the provider, or not usable."""
    found = UPSTREAM.check_answer(body, may_be_torn=False)
    assert (found and found.message, found and found.status) == (message, status)
    if status is not None:
        assert UPSTREAM.read_error(body) == found


def test_stream_is_never_an_answer() -> None:
    """No event counts as content."""
    watched = watch_stream(UPSTREAM.watch(Intent()), [b'data: {"answers": []}\n\n'])
    assert watched.state is StreamState.PREAMBLE
    assert b"late" in CLIENT.render_error(UpstreamFailed("late"))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"input": "x", "questions": []}, "decisions"),
        ({"input": "x"}, "responses"),
        ({"messages": [], "input": "x", "questions": []}, "chat"),
    ],
)
def test_dialect_of_a_body_is_seen_by_its_fields(body: Any, name: str) -> None:
    """A body with questions about an input is one of decisions."""
    read = read_document(json.dumps(body).encode(), unique=frozenset())
    assert dialect_of(read, ()).name == name
