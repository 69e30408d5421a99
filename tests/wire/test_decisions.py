"""Typed questions by the official SDK: to a provider, and to the gateway's own orchestrator."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import Decision

from tests.scripted_provider import ScriptedProvider
from tests.site import PROMPTS, ROUTES, SECRET, Site, write_config
from tests.wire.conftest import FakeMeter, serve_api

OWN = "fingerpost/route"
ROUTE_CHOICES = [{"value": route["name"], "description": route["description"]} for route in ROUTES]
PREDICATE = {"type": "predicate", "name": "p", "instructions": "The user wants help with code"}
CHOICE = {"type": "choice", "instructions": "What is it about?", "choices": ROUTE_CHOICES}
SYSTEM_ONE = "/v1/systemone"


@pytest.fixture(scope="module")
def meter() -> FakeMeter:
    return FakeMeter()


@pytest.fixture(scope="module")
def decisions_site(
    tmp_path_factory: pytest.TempPathFactory,
    providers: dict[str, ScriptedProvider],
    meter: FakeMeter,
) -> Iterator[Site]:
    """The contract's gateway, with a provider that has decisions."""
    entry = {
        "model": "decider/*",
        "base_url": providers["inline"].url,
        "provider_interface": "openai",
        "access_key": SECRET,
        "data_path": "shared",
    }
    config = write_config(tmp_path_factory.mktemp("decisions"), providers, [entry])
    settings = json.loads(config.read_text())
    del settings["timeouts"]  # a busy machine may need more time to embed many options
    config.write_text(json.dumps(settings))
    with serve_api(config, providers, {"FINGERPOST_TEST_KEY": SECRET}, meter) as running:
        yield running


def ask(site: Site, *questions: Any, text: Any = PROMPTS["code"], model: str = OWN) -> Decision:
    with site.client() as client:
        decision = client.decisions.create(model=model, input=text, questions=questions)
    assert isinstance(decision, Decision)
    return decision


def shares(answer: Any) -> dict[Any, float]:
    return {entry.value: entry.probability for entry in answer.probabilities}


def test_sdk_reads_each_kind_of_answer(decisions_site: Site) -> None:
    """In the order of the questions, with their names, by the real engine."""
    levels = [{"label": "calm"}, {"label": "annoyed"}, {"label": "furious"}]
    score = {"type": "score", "instructions": "How angry?", "levels": levels}
    decision = ask(decisions_site, PREDICATE, CHOICE, score)
    predicate, choice, rating = decision.answers
    assert decision.model == OWN
    assert predicate.type == "predicate"
    assert predicate.name == "p"
    assert predicate.probability > 0.5
    assert choice.type == "choice"
    assert (choice.choice, choice.name) == ("code", None)
    assert choice.confidence == max(shares(choice).values()) > 0.9
    assert rating.type == "score"
    assert [(p.value, p.label) for p in rating.probabilities] == [
        (0, "calm"),
        (1, "annoyed"),
        (2, "furious"),
    ]
    assert rating.score == pytest.approx(sum(at * p for at, p in shares(rating).items()))
    for answer in (choice, rating):
        assert sum(shares(answer).values()) == pytest.approx(1, abs=1e-8)
    assert decision.usage.input_tokens > 0
    assert decision.usage.total_tokens == decision.usage.input_tokens


def test_statement_that_fits_is_likelier_than_another(decisions_site: Site) -> None:
    """A statement about something else is improbable."""
    other = {"type": "predicate", "instructions": "The user wants to cook dinner"}
    right, wrong = ask(decisions_site, PREDICATE, other).answers
    assert right.type == "predicate"
    assert wrong.type == "predicate"
    assert right.probability > 0.5 > wrong.probability


def test_order_of_choices_changes_nothing(decisions_site: Site) -> None:
    """The probabilities are the same to the last bit."""
    text = "A poem about code in French"
    turned = {**CHOICE, "choices": ROUTE_CHOICES[::-1]}
    (first,) = ask(decisions_site, CHOICE, text=text).answers
    (second,) = ask(decisions_site, turned, text=text).answers
    assert shares(first) == shares(second)
    assert first.type == second.type == "choice"
    assert (first.choice, first.confidence) == (second.choice, second.confidence)


@pytest.mark.parametrize("text", [*PROMPTS.values(), "A poem about code in French"])
def test_distribution_is_that_of_routing(decisions_site: Site, text: str) -> None:
    """The routes' scores of ``/v1/route``, without the share of "no route"."""
    scores = decisions_site.explain(text)["orchestrator"]["scores"]
    (choice,) = ask(decisions_site, CHOICE, text=text).answers
    total = sum(scores.values())
    expected = {name: score / total for name, score in scores.items()}
    assert shares(choice) == pytest.approx(expected, abs=1e-9)


def test_choice_of_255_options(decisions_site: Site) -> None:
    """As many as the API allows; one more is an error."""
    topics = [f"number {at}" for at in range(254)]
    choices = [{"value": topic} for topic in topics]
    code = {"value": True, "description": "debugging python code"}
    question = {**CHOICE, "choices": [*choices, code]}
    (answer,) = ask(decisions_site, question).answers
    assert answer.type == "choice"
    assert answer.choice is True
    assert len(answer.probabilities) == 255
    with pytest.raises(openai.BadRequestError, match="2 to 255 choices, not 256"):
        ask(decisions_site, {**CHOICE, "choices": [*choices, code, {"value": "x"}]})


def test_script_that_the_engine_cannot_read_is_refused(decisions_site: Site) -> None:
    """For each question, so that the client does not act on a guess."""
    decision = ask(decisions_site, PREDICATE, CHOICE, text="Διόρθωσε τον κώδικα")
    assert [answer.type for answer in decision.answers] == ["refusal", "refusal"]
    assert [answer.name for answer in decision.answers] == ["p", None]


def test_wrong_question_names_its_place(decisions_site: Site) -> None:
    """In OpenAI's shape."""
    wrong = {**CHOICE, "choices": [{"value": "a"}, {"value": "a"}]}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(decisions_site, PREDICATE, wrong)
    assert caught.value.param == "questions[1].choices[1].value"
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": "https://h/x"}]}]
    with pytest.raises(openai.BadRequestError, match=r"input\[0\].content\[0\]: images are not"):
        ask(decisions_site, PREDICATE, text=image)


def test_cached_question_took_no_tokens(decisions_site: Site) -> None:
    """The answer is the same, and its usage is 0."""
    text = "Explain this piece of code to me"
    first = ask(decisions_site, PREDICATE, text=text)
    second = ask(decisions_site, PREDICATE, text=text)
    assert first.answers == second.answers
    assert first.usage.input_tokens > second.usage.input_tokens == 0


def test_open_choice_is_answered_by_the_gateway(decisions_site: Site, meter: FakeMeter) -> None:
    """Also by an alias of it, with the headers of a decision, and it is recorded."""
    body = {"input": "hi", "questions": [PREDICATE]}
    for model, reason in (("auto", "default"), (None, "default"), ("smart", "alias")):
        sent = body if model is None else {**body, "model": model}
        answer = decisions_site.send(json.dumps(sent).encode(), path="/v1/decisions")
        assert (answer.status, answer.json["model"]) == (200, OWN)
        assert answer.headers["x-fingerpost-model"] == OWN
        assert answer.headers["x-fingerpost-reason"] == reason
        assert answer.headers["x-fingerpost-tier"] == "embedding"
    surfaces = {labels[0] for _, labels in meter.counts}
    assert "decisions" in surfaces


def test_own_model_can_be_looked_up_but_is_not_listed(decisions_site: Site) -> None:
    """Clients of chats would offer it to their users."""
    with decisions_site.client() as client:
        assert client.models.retrieve(OWN).owned_by == "fingerpost"
        assert OWN not in {model.id for model in client.models.list()}
    assert decisions_site.ask(OWN).status == 404


def test_named_model_gets_the_body_unchanged(decisions_site: Site) -> None:
    """And its answer goes back byte for byte."""
    rest = b'"input":"x" , "questions": [{"type":"predicate","instructions":"\\u00e9"}]}'
    answer = decisions_site.send(b'{"model":"decider/decide", ' + rest, path="/v1/decisions")
    exchange = decisions_site.exchange("inline")
    assert exchange.path == "/v1/decisions"
    assert exchange.body == b'{"model":"decide", ' + rest
    assert (answer.status, answer.body) == (200, exchange.answered)
    assert answer.headers["x-fingerpost-model"] == "decider/decide"
    (predicate,) = ask(decisions_site, PREDICATE, model="decider/decide").answers
    assert predicate.type == "predicate"
    assert predicate.probability == 1.0


def test_provider_without_decisions_is_a_501(decisions_site: Site) -> None:
    """An unknown model is a 404, and an answer that is not a decision is a 502."""
    for model, status in (
        ("dedicated/parrot", 501),
        ("unknown", 404),
        ("decider/parrot", 502),
        ("decider/status-429", 429),
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            ask(decisions_site, PREDICATE, model=model)
        assert caught.value.status_code == status, model


def test_explanation_says_who_answers(decisions_site: Site) -> None:
    """``/v1/route`` reads the body as one of decisions, and asks nothing."""
    body = {"input": PROMPTS["code"], "questions": [PREDICATE]}
    for model, name in ((OWN, OWN), ("auto", OWN), ("decider/decide", "decider/decide")):
        sent = json.dumps({**body, "model": model}).encode()
        found = decisions_site.send(sent, path="/v1/route").json
        assert found["model"] == name
        assert found["orchestrator"] is None
    own = json.dumps({**body, "model": OWN}).encode()
    candidates = decisions_site.send(own, path="/v1/route").json["candidates"]
    assert candidates == [
        {"model": OWN, "why": "the gateway's own orchestrator, which answers typed questions"}
    ]


def test_system_one_has_the_same_answers(decisions_site: Site) -> None:
    """A choice in TypeSafe's format is the same question; its models are not a provider's."""
    criteria = {entry["value"]: entry["description"] for entry in ROUTE_CHOICES}
    questions = {"q": {"type": "choice", "instructions": "?", "criteria": criteria}}
    body = {"model": "jev-latest", "state": PROMPTS["code"], "questions": questions}
    answer = decisions_site.send(json.dumps(body).encode(), path=SYSTEM_ONE)
    assert answer.status == 200
    assert answer.headers["x-fingerpost-model"] == OWN
    (choice,) = ask(decisions_site, CHOICE).answers
    assert answer.json["answers"]["q"]["probabilities"] == shares(choice)
    for fields, status in (({"model": "decider/decide"}, 404), ({"state": None}, 400)):
        refused = decisions_site.send(json.dumps({**body, **fields}).encode(), path=SYSTEM_ONE)
        assert refused.status == status
        assert refused.error["type"] == "invalid_request_error"
