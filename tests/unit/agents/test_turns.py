"""What runs of agents count as a fault, without an agent."""

import json
from dataclasses import replace
from typing import Any, Final

import pytest

from tests.agents.gateway import KEY, SECOND_KEY
from tests.agents.tap import Passed
from tests.agents.turns import Turn, Wanted, cache_view, counted, faults_of, turns_of
from tests.agents.upstream import Received

WANTED: Final = {"main": Wanted("big", "route", "affinity"), "compaction": Wanted("small", "rule")}


def turn(kind: str = "main", **fields: Any) -> Turn:
    """A request of a conversation that has its model by content."""
    reason = fields.pop("reason", "affinity")
    made = Turn("c", kind, "x-auto", 200, "big", "first", {"x-fingerpost-reason": reason})
    return replace(made, **fields)


GOOD: Final = [turn(reason="route"), turn(), turn("compaction", model="small", reason="rule"), turn()]  # fmt: skip


def test_good_run_has_no_faults() -> None:
    """The compaction goes elsewhere, and the conversation goes on where it was."""
    assert faults_of(GOOD, WANTED) == []
    assert cache_view(GOOD) == (2, 2)
    assert counted(GOOD) == "1 x main big route, 2 x main big affinity, 1 x compaction small rule"


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ([*GOOD, turn(status=503)], "main: status 503"),
        (GOOD[:2], "no request of kind 'compaction'"),
        ([*GOOD, turn("auxiliary")], "a request of kind 'auxiliary'"),
        (
            [*GOOD, turn(model="small")],
            "main: small by affinity, not big by affinity",
        ),
        ([*GOOD, turn(reason="route")], "main: big by route, not big by affinity"),
        ([*GOOD, turn(conversation="d")], "main: big by affinity, not big by route"),
        (
            [*GOOD, turn(endpoint="second")],
            "1 of 3 requests at another endpoint than the last",
        ),
    ],
)
def test_run_reports_its_fault(turns: list[Turn], fault: str) -> None:
    """A fault says what was wanted in its place."""
    assert faults_of(turns, WANTED) == [fault]


def test_caches_of_conversations_and_models_are_separate() -> None:
    """Only the last request of the same conversation to the same model counts."""
    others = [turn(conversation="d", endpoint="second"), turn(model="small", endpoint="second")]
    assert cache_view([turn(), *others, turn(), turn(endpoint="second")]) == (1, 2)


def asked(headers: dict[str, str], name: str = "x-auto", number: int = 1) -> Passed:
    """A request as an agent sends it, with its answer."""
    answer = {"x-fingerpost-upstream-request-id": str(number), "x-fingerpost-reason": "route"}
    body = json.dumps({"model": name}).encode()
    return Passed("POST", "/v1/messages?beta=true", headers, body, 200, answer)


METADATA: Final = "x-codex-turn-metadata"


@pytest.mark.parametrize(
    ("headers", "conversation", "kind"),
    [
        ({}, "main", "main"),
        ({"x-claude-code-session-id": "s", "x-claude-code-request-class": "main"}, "s", "main"),
        (
            {
                "x-claude-code-session-id": "s",
                "x-claude-code-agent-id": "a",
                "x-claude-code-request-class": "subagent",
                "x-claude-code-agent-type": "Explore",
            },
            "a",
            "subagent Explore",
        ),
        ({"thread-id": "t", METADATA: '{"request_kind":"turn"}'}, "t", "main"),
        ({"thread-id": "t", METADATA: '{"request_kind":"compaction"}'}, "t", "compaction"),
        ({"thread-id": "t", "x-openai-subagent": "review"}, "t", "subagent review"),
        ({"x-session-id": "s"}, "s", "main"),
        ({"x-session-id": "s", "x-parent-session-id": "r"}, "s", "subagent"),
    ],
)
def test_kind_of_a_request_is_what_the_agent_says(
    headers: dict[str, str], conversation: str, kind: str
) -> None:
    """Each agent has headers of its own for it."""
    [read] = turns_of([asked(headers)], [])
    assert (read.conversation, read.kind) == (conversation, kind)


def test_turn_joins_what_was_asked_with_what_was_received() -> None:
    """By the number in the answer; requests for lists of models are left out."""
    listed = Passed("GET", "/v1/models", {}, b"", 200)
    body = json.dumps({"model": "big"}).encode()
    received = [
        Received("/v1/messages", {"x-api-key": key}, body, number)
        for number, key in ((2, SECOND_KEY), (1, KEY))
    ]
    passed = [listed, asked({}, number=2), asked({}, "x-small"), asked({}, number=9)]
    second, first, lost = turns_of(passed, received)
    assert (second.model, second.endpoint, second.kind) == ("big", "second", "main")
    assert (first.model, first.endpoint, first.kind) == ("big", "first", "main by x-small")
    assert (lost.model, lost.endpoint) == ("", "")
    assert str(second) == "main | main | x-auto | big | route | - | second"
