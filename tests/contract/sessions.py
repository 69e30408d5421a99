"""Sessions that stay on their model, by official SDK and raw HTTP."""

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.site import (
    CHAT,
    MESSAGES,
    PROMPTS,
    RESPONSES,
    ROUTES,
    Answered,
    Site,
    eventually,
    question,
)

CODE, VERSE = "dedicated/coder", "inline/poet"


def _turn(site: Site, text: str, session: str, name: str = "auto", **more: Any) -> Answered:
    headers = {"x-model-affinity": session, **more.pop("headers", {})}
    path = more.pop("path", CHAT)
    body = {"model": name, **question(path, text), **more}
    return site.send(json.dumps(body).encode(), path=path, headers=headers)


def _model(answer: Answered) -> str:
    assert answer.status == 200, answer.body
    return answer.headers["x-fingerpost-model"]


@pytest.fixture
def session() -> str:
    """A session that nobody else has."""
    return f"session-{uuid4().hex}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_the_second_turn_keeps_its_model(site: Site, session: str, path: str, stream: bool) -> None:
    """Though its content says another; the headers say why."""
    first = _turn(site, PROMPTS["code"], session, path=path, stream=stream)
    assert (_model(first), first.headers["x-fingerpost-affinity"]) == (CODE, "miss")
    second = _turn(site, PROMPTS["poems and songs"], session, path=path, stream=stream)
    assert (_model(second), second.headers["x-fingerpost-affinity"]) == (CODE, "hit")
    assert second.headers["x-fingerpost-reason"] == "affinity"
    assert second.headers["x-fingerpost-route"] == "code"
    other = _turn(site, PROMPTS["poems and songs"], session + "-other", path=path)
    assert _model(other) == VERSE


@pytest.mark.parametrize(
    "header", ["x-session-affinity", "X-Claude-Code-Session-Id", "session-id", "x-session-id"]
)
def test_agents_name_their_sessions_themselves(site: Site, session: str, header: str) -> None:
    """By headers that they send anyway; ours comes first."""
    for text in (PROMPTS["code"], PROMPTS["poems and songs"]):
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        answer = site.send(json.dumps(body).encode(), headers={header: session})
        assert _model(answer) == CODE
    other = _turn(site, PROMPTS["poems and songs"], session + "-own", headers={header: session})
    assert _model(other) == VERSE


def test_the_sdk_sends_a_session_by_its_extra_headers(site: Site, session: str) -> None:
    """As people do it."""
    models = [
        site.client()
        .chat.completions.with_raw_response.create(
            model="auto",
            messages=[{"role": "user", "content": PROMPTS[route]}],
            extra_headers={"X-Model-Affinity": session},
        )
        .headers["x-fingerpost-model"]
        for route in ("poems and songs", "code")
    ]
    assert models == [VERSE, VERSE]


IMAGE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]
"""A turn without words, which matches no route of any engine."""
OPEN_LOOP = [
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "a cat"},
]


def test_first_match_replaces_a_binding_without_one(site: Site, session: str) -> None:
    """The model stays as long as no route matches; the first one that does binds for good."""
    first = _turn(site, "", session, messages=[{"role": "user", "content": IMAGE}])
    default = _model(first)
    assert default not in {CODE, VERSE}
    assert first.headers["x-fingerpost-reason"] == "no_match"
    again = _turn(site, "", session, messages=[{"role": "user", "content": IMAGE}])
    assert _model(again) == default
    assert again.headers["x-fingerpost-reason"] == "affinity"
    moved = _turn(site, PROMPTS["code"], session)
    assert (_model(moved), moved.headers["x-fingerpost-affinity"]) == (CODE, "hit")
    assert moved.headers["x-fingerpost-route"] == "code"

    def stays() -> bool:  # another ingress may remember the first binding for some seconds
        return _model(_turn(site, PROMPTS["poems and songs"], session)) == CODE

    eventually(stays, 10)


def test_open_tool_loop_keeps_a_binding_without_a_match(site: Site, session: str) -> None:
    """Only the model that made the calls can read on; the next turn of the user is decided."""
    asked = {"role": "user", "content": PROMPTS["code"]}
    default = _model(_turn(site, "", session, messages=[{"role": "user", "content": IMAGE}]))
    looped = _turn(site, "", session, messages=[asked, *OPEN_LOOP])
    assert _model(looped) == default
    assert looped.headers["x-fingerpost-reason"] == "affinity"
    assert _model(_turn(site, "", session, messages=[asked, *OPEN_LOOP, asked])) == CODE


def test_lanes_do_not_meet(site: Site, session: str) -> None:
    """A side call by another name does not take over the conversation, nor does an explicit one."""
    assert _model(_turn(site, PROMPTS["code"], session)) == CODE
    assert _model(_turn(site, PROMPTS["poems and songs"], session, "smart")) == VERSE
    assert _model(_turn(site, "a title for this chat", session, "inline/parrot")) == "inline/parrot"
    assert _model(_turn(site, PROMPTS["poems and songs"], session)) == CODE
    assert _model(_turn(site, PROMPTS["code"], session, "smart")) == VERSE


def test_tenants_do_not_meet(site: Site, session: str) -> None:
    """The same session id of two tenants is two sessions."""
    first = _turn(site, PROMPTS["code"], session, headers={"x-tenant": "a"})
    assert _model(first) == CODE
    second = _turn(site, PROMPTS["poems and songs"], session, headers={"x-tenant": "b"})
    assert _model(second) == VERSE


@pytest.mark.parametrize("off", ["x-plano-cache", "x-fingerpost-affinity"])
def test_a_request_may_stay_outside_of_its_session(site: Site, session: str, off: str) -> None:
    """It neither reads nor changes the binding."""
    assert _model(_turn(site, PROMPTS["code"], session)) == CODE
    answer = _turn(site, PROMPTS["poems and songs"], session, headers={off: "off"})
    assert _model(answer) == VERSE
    assert "x-fingerpost-affinity" not in answer.headers
    assert _model(_turn(site, PROMPTS["poems and songs"], session)) == CODE


def test_a_session_moves_with_a_fail_over(site: Site, session: str) -> None:
    """Who answered in place of the bound model is bound from then on."""
    routes = [{**ROUTES[0], "models": ["inline/status-503", "shared/steady"]}]
    first = _turn(site, PROMPTS["code"], session, routing_preferences=routes)
    assert (_model(first), first.headers["x-fingerpost-reason"]) == ("shared/steady", "failover")

    def stays() -> bool:  # another ingress may remember the old binding for some seconds
        turn = _turn(site, PROMPTS["code"], session, routing_preferences=routes)
        assert _model(turn) == "shared/steady"
        return turn.headers["x-fingerpost-reason"] == "affinity"

    eventually(stays, 10)


def test_a_binding_is_void_where_its_model_may_not_answer(site: Site, session: str) -> None:
    """Inline preferences without the bound model are decided anew, and the session moves."""
    assert _model(_turn(site, PROMPTS["code"], session)) == CODE
    routes = [{**ROUTES[0], "models": ["shared/only"]}]
    moved = _turn(site, PROMPTS["code"], session, routing_preferences=routes)
    assert (_model(moved), moved.headers["x-fingerpost-affinity"]) == ("shared/only", "void")
    eventually(lambda: _model(_turn(site, PROMPTS["code"], session)) == "shared/only", 10)


def test_the_decision_api_tells_of_the_session(site: Site, session: str) -> None:
    """Plano's fields: which session, and whether it was bound already."""

    def ask(text: str) -> Any:
        body = {"model": "x", "messages": [{"role": "user", "content": text}]}
        headers = {"x-model-affinity": session}
        path = "/routing/v1/chat/completions"
        return site.send(json.dumps(body).encode(), path=path, headers=headers).json

    first = ask(PROMPTS["code"])
    assert (first["session_id"], first["pinned"], first["switched"]) == (session, False, False)
    second = ask(PROMPTS["poems and songs"])
    assert (second["pinned"], second["switched"], second["reason"]) == (True, False, "affinity")
    assert second["models"][0] == CODE
    assert _model(_turn(site, PROMPTS["poems and songs"], session)) == CODE


def test_an_explanation_binds_nobody(site: Site, session: str) -> None:
    """It says what would be done, and does nothing."""
    headers = {"x-model-affinity": session}
    body = {"messages": [{"role": "user", "content": PROMPTS["code"]}]}
    said = site.send(json.dumps(body).encode(), path="/v1/route", headers=headers).json
    assert said["session"] == {"session_id": session, "pinned": False, "switched": False}
    assert _model(_turn(site, PROMPTS["poems and songs"], session)) == VERSE
    said = site.send(json.dumps(body).encode(), path="/v1/route", headers=headers).json
    assert (said["reason"], said["session"]["pinned"]) == ("affinity", True)
    assert said["candidates"][0] == {"model": VERSE, "why": "the model that the session is on"}


def test_a_session_id_of_any_kind_will_do(site: Site) -> None:
    """Long ones and odd ones are sessions, too."""
    for odd in ("x" * 5000, "a:b:lane:c", "ü" * 3, "%00"):
        session = f"{odd}{uuid4().hex}".encode().decode("latin-1")
        assert _model(_turn(site, PROMPTS["code"], session)) == CODE
        assert _model(_turn(site, PROMPTS["poems and songs"], session)) == CODE
