"""Names: which model answers, and what the answer says of it. By the official SDK."""

import json
import re

import openai
import pytest

from tests.site import DATA_PATHS, Site

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("name", "upstream", "reason"),
    [
        ("dedicated/parrot", "parrot", "explicit"),
        ("inline/parrot", "parrot", "explicit"),
        ("shared/parrot", "parrot", "explicit"),
        ("only-inline", "only-inline", "explicit"),
        ("dedicated/anything/with/slashes", "anything/with/slashes", "explicit"),
        ("fast", "parrot", "alias"),
    ],
)
def test_a_name_is_answered_by_its_model(
    site: Site, name: str, upstream: str, reason: str, stream: bool
) -> None:
    """Direct, bare, wildcard and alias names reach the model that they stand for."""
    answer = site.client().chat.completions.with_raw_response.create(
        model=name, messages=HELLO, stream=stream
    )
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer.parse())
        assert text == "Fingerpost says hello"
    else:
        assert answer.parse().choices[0].message.content == "You said: hello"
    data_path = answer.headers["x-fingerpost-model"].partition("/")[0]
    assert site.exchange(data_path).json["model"] == upstream
    assert answer.headers["x-fingerpost-reason"] == reason
    assert answer.headers["x-fingerpost-attempts"] == "1"
    assert re.fullmatch(r"[0-9a-f]{12}", answer.headers["x-fingerpost-policy"])
    assert "upstream;dur=" in answer.headers["server-timing"]
    assert answer.headers["x-fingerpost-upstream-request-id"] == "req_scripted"


@pytest.mark.parametrize("name", [None, "", "none", "auto", "AUTO"])
def test_no_name_and_no_match_is_the_default_model(site: Site, name: str | None) -> None:
    """Who names no model and says nothing in particular gets the default one."""
    answer = site.ask(name)
    assert answer.status == 200
    assert answer.headers["x-fingerpost-reason"] == "no_match"
    assert answer.headers["x-fingerpost-model"] == "dedicated/parrot"
    assert site.exchange("dedicated").json["model"] == "parrot"


def test_an_unknown_name_is_a_404_with_a_suggestion(site: Site) -> None:
    """The SDK raises NotFoundError whose text names what may have been meant."""
    with pytest.raises(openai.NotFoundError) as caught:
        site.client().chat.completions.create(model="fastt", messages=HELLO)
    assert "did you mean 'fast'" in caught.value.message
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_an_ambiguous_bare_name_is_not_guessed(site: Site) -> None:
    """A bare name that several providers have is a 404 that names them all."""
    answer = site.ask("parrot")
    assert answer.status == 404
    for data_path in DATA_PATHS:
        assert f"'{data_path}/parrot'" in answer.error["message"]


def test_the_hint_header_names_the_model(site: Site) -> None:
    """The provider hint wins over the body, and is explicit."""
    body = json.dumps({"model": "fast", "messages": HELLO}).encode()
    hint = {"X-Arch-LLM-Provider-Hint": "inline/parrot"}
    answer = site.send(body, headers=hint)
    assert answer.headers["x-fingerpost-model"] == "inline/parrot"
    assert answer.headers["x-fingerpost-reason"] == "explicit"
    assert site.send(body, headers={"x-arch-llm-provider-hint": "no/such"}).status == 404


def test_models_are_listed_in_both_shapes(site: Site) -> None:
    """The official SDK lists models and aliases; an Anthropic client gets its own shape."""
    names = [model.id for model in site.client().models.list()]
    assert names[0] == "dedicated/parrot"
    assert "fast" in names
    assert "dedicated/*" not in names
    assert site.client().models.retrieve("dedicated/parrot").owned_by == "dedicated"
    shown = {"anthropic-version": "2026-10-21"}
    page = site.send(method="GET", path="/v1/models", headers=shown).json
    assert [entry["id"] for entry in page["data"]] == names
    assert (page["first_id"], page["last_id"], page["has_more"]) == (names[0], names[-1], False)


def test_probes_are_answered(site: Site) -> None:
    """HEAD / and /healthz answer at once; health says what is served and holds no key."""
    assert site.send(method="HEAD", path="/").status == 200
    health = site.send(method="GET", path="/healthz")
    assert health.status == 200
    assert health.json["status"] == "ok"
    assert set(health.json["providers"].values()) == set(DATA_PATHS)
    assert b"sk-" not in health.body
