"""Routing by content, with the real engine: official SDK and raw HTTP."""

import json
from typing import Any

import openai
import pytest

from tests.site import PROMPTS, ROUTES, Site

MODELS = {str(route["name"]): str(route["models"][0]) for route in ROUTES}


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("route", PROMPTS)
@pytest.mark.parametrize("name", [None, "", "none", "auto", "smart"])
def test_a_conversation_finds_its_route(site: Site, route: str, name: str | None) -> None:
    """By no name, by each name for none, and by an alias of these; the answer says which."""
    answer = site.ask(name, messages=_said(PROMPTS[route]))
    assert answer.status == 200
    assert answer.headers["x-fingerpost-reason"] in {"route", "cached"}
    assert answer.headers["x-fingerpost-route"] == route
    assert answer.headers["x-fingerpost-model"] == MODELS[route]
    assert 0.2 < float(answer.headers["x-fingerpost-confidence"]) <= 1
    data_path, _, model = MODELS[route].partition("/")
    assert site.exchange(data_path).json["model"] == model


@pytest.mark.parametrize("stream", [False, True])
def test_the_official_sdk_is_routed(site: Site, stream: bool) -> None:
    """The SDK needs a model, and takes ``auto`` from the list of models."""
    client = site.client()
    assert "auto" in [model.id for model in client.models.list()]
    assert client.models.retrieve("auto").owned_by == "fingerpost"
    answer = client.chat.completions.with_raw_response.create(
        model="auto", messages=_said(PROMPTS["translation"]), stream=stream
    )
    assert answer.headers["x-fingerpost-model"] == "shared/polyglot"
    assert answer.parse() is not None


def test_a_name_stays_explicit(site: Site) -> None:
    """What a conversation is about changes nothing for who names a model."""
    answer = site.ask("inline/parrot", messages=_said(PROMPTS["code"]))
    assert answer.headers["x-fingerpost-reason"] == "explicit"
    assert answer.headers["x-fingerpost-model"] == "inline/parrot"
    assert "x-fingerpost-route" not in answer.headers


def test_a_follow_up_keeps_its_subject(site: Site) -> None:
    """A last turn that says nothing alone is read with the user's turns before it."""
    dialogue = [
        *_said("Translate the following e-mail from German into English"),
        {"role": "assistant", "content": "Sure, please paste it."},
        *_said("and the second one"),
    ]
    answer = site.ask("auto", messages=dialogue)
    assert answer.headers["x-fingerpost-route"] == "translation"


def test_what_a_harness_says_in_the_users_name_decides_nothing(site: Site) -> None:
    """Envelopes of coding agents are no part of what the engine sees."""
    reminder = f"<system-reminder>{PROMPTS['code'] * 20}</system-reminder>"
    explained = site.explain(reminder + PROMPTS["poems and songs"])
    assert explained["route"] == "poems and songs"
    assert explained["orchestrator"]["seen"][0]["content"] == PROMPTS["poems and songs"]


def test_an_answer_that_fails_goes_to_the_next_model_of_the_route(site: Site) -> None:
    """Inline preferences, too, are tried in their order, and the default comes last."""
    routes = [{**ROUTES[0], "models": ["inline/status-503", "shared/status-503"]}]
    answer = site.ask("auto", messages=_said(PROMPTS["code"]), routing_preferences=routes)
    assert answer.status == 200
    assert answer.headers["x-fingerpost-reason"] == "failover"
    assert answer.headers["x-fingerpost-model"] == "dedicated/parrot"


def test_inline_preferences_replace_the_configured_ones(site: Site) -> None:
    """For this request only; the provider never sees them, and other bytes are as they were."""
    routes = [
        {"name": "sea", "description": "the sea, ships and sailors", "models": ["shared/sailor"]},
        {"name": "hills", "description": "hills, hikes and huts", "models": ["inline/hiker"]},
    ]
    said = _said(PROMPTS["poems and songs"])
    answer = site.ask(None, messages=said, routing_preferences=routes, x=1.50)
    assert answer.headers["x-fingerpost-route"] == "sea"
    sent = site.exchange("shared")
    assert sent.json == {"model": "sailor", "messages": said, "x": 1.5}
    assert b'"x": 1.5' in sent.body
    assert site.explain(PROMPTS["poems and songs"])["route"] == "poems and songs"


def test_no_inline_preferences_are_none(site: Site) -> None:
    """An empty list leaves nothing to match: the default model."""
    answer = site.ask("auto", messages=_said(PROMPTS["code"]), routing_preferences=[])
    assert answer.headers["x-fingerpost-reason"] == "default"


@pytest.mark.parametrize(
    ("preferences", "param"),
    [
        ("code", "routing_preferences"),
        ([{"name": "a", "models": ["inline/x"]}], "routing_preferences[0].description"),
        ([{"name": "a", "description": "b", "models": []}], "routing_preferences[0].models"),
        (
            [{"name": "a", "description": "b", "models": ["nobody/x"]}],
            "routing_preferences[0].models[0]",
        ),
        ([{**ROUTES[0], "weight": 1}], "routing_preferences[0].weight"),
        ([{**ROUTES[0], "name": "code " * 4000}], "routing_preferences[0].name"),
    ],
)
@pytest.mark.parametrize("name", [None, "inline/parrot"])
def test_malformed_preferences_are_refused(
    site: Site, preferences: Any, param: str, name: str | None
) -> None:
    """400 that names the field, whether or not they would have decided anything."""
    answer = site.ask(name, routing_preferences=preferences)
    if name is None:
        assert (answer.status, answer.error["param"]) == (400, param)
        assert param in answer.error["message"]
    else:
        assert answer.status == 400


def test_the_sdk_raises_on_malformed_preferences(site: Site) -> None:
    """As for any bad request."""
    with pytest.raises(openai.BadRequestError) as caught:
        site.client().chat.completions.create(
            model="auto", messages=_said("x"), extra_body={"routing_preferences": [1]}
        )
    assert caught.value.param == "routing_preferences[0]"


def test_without_a_default_no_match_is_the_first_route(routing_site: Site) -> None:
    """All its models, in their order."""
    answer = routing_site.ask("auto", messages=_said("hm"))
    assert answer.headers["x-fingerpost-reason"] == "no_match"
    assert answer.headers["x-fingerpost-model"] == "dedicated/coder"
    routes = [{**ROUTES[2], "models": ["inline/a", "shared/b"]}]
    answer = routing_site.ask("auto", messages=_said("hm"), routing_preferences=routes)
    assert answer.headers["x-fingerpost-model"] == "inline/a"


@pytest.mark.parametrize("name", ["shared/parrot", "plain", "auto"])
def test_always_route_overrides_names(routing_site: Site, name: str) -> None:
    """Plano's behaviour, where it is asked for: a route that matches wins over the name."""
    answer = routing_site.ask(name, messages=_said(PROMPTS["poems and songs"]))
    reason = {"route", "cached"} if name == "auto" else {"always_route"}
    assert answer.headers["x-fingerpost-reason"] in reason
    assert answer.headers["x-fingerpost-model"] == "inline/poet"


def test_always_route_keeps_the_name_without_a_match(routing_site: Site) -> None:
    """With the reason that it would have had."""
    answer = routing_site.ask("plain", messages=_said("hm"))
    assert answer.headers["x-fingerpost-model"] == "shared/parrot"
    assert answer.headers["x-fingerpost-reason"] == "alias"


def test_the_decision_api_ranks_models(site: Site) -> None:
    """Plano's keys and ours; a name in the request decides nothing there."""
    body = {"model": "gpt-4o-mini", "messages": _said(PROMPTS["code"])}
    trace = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    answer = site.send(
        json.dumps(body).encode(), path="/routing/v1/chat/completions", headers=trace
    )
    assert answer.status == 200
    said = answer.json
    assert said["models"] == ["dedicated/coder", "inline/parrot"]
    assert (said["route"], said["trace_id"]) == ("code", "ab" * 16)
    assert (said["pinned"], said["switched"]) == (False, False)
    assert said["candidates"] == ["dedicated/coder", "inline/parrot", "dedicated/parrot"]
    assert set(said["scores"]) == set(PROMPTS)
    assert answer.headers["x-fingerpost-route"] == "code"


def test_the_decision_api_says_none_without_a_match(site: Site) -> None:
    """Plano's word; models that the gateway does not serve may be ranked, too."""
    path = "/routing/v1/chat/completions"
    nothing = site.send(json.dumps({"messages": _said("hm")}).encode(), path=path).json
    assert (nothing["models"], nothing["route"]) == (["none"], None)
    routes = [{**ROUTES[0], "models": ["elsewhere/big", "elsewhere/small"]}]
    body = {"messages": _said(PROMPTS["code"]), "routing_preferences": routes}
    ranked = site.send(json.dumps(body).encode(), path=path).json
    assert ranked["models"] == ["elsewhere/big", "elsewhere/small"]


def test_a_decision_is_explained(site: Site) -> None:
    """What the engine saw, every score, the thresholds, and why each candidate stands there."""
    said = site.explain(PROMPTS["code"])
    asked = said["orchestrator"]
    assert (said["route"], said["model"]) == ("code", "dedicated/coder")
    assert asked["seen"] == _said(PROMPTS["code"])
    assert asked["engine"] == "embedding"
    assert asked["thresholds"] == {"min_confidence": 0.2, "min_margin": 0.0}
    assert max(asked["scores"], key=asked["scores"].get) == "code"
    assert said["confidence"] == pytest.approx(asked["scores"]["code"])
    assert [candidate["why"] for candidate in said["candidates"]] == [
        "model 1 of route 'code'",
        "model 2 of route 'code'",
        "the default model",
    ]
    named = site.explain("x", model="fast")
    assert (named["reason"], named["orchestrator"]) == ("alias", None)


@pytest.mark.parametrize("path", ["/v1/route", "/routing/v1/chat/completions"])
def test_the_decision_surfaces_refuse_what_chat_refuses(site: Site, path: str) -> None:
    """Wrong method, wrong JSON, no messages."""
    assert site.send(method="GET", path=path).status == 405
    assert site.send(b"{", path=path).status == 400
    assert site.send(b"{}", path=path).error["param"] == "messages"
