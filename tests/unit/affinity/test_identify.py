"""Which session a request belongs to."""

import json
import re
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.affinity import identify
from serve_app.affinity.identify import (
    MAX_FNV_BYTES,
    Session,
    beginning_of,
    implicit_session,
    is_off,
    named_session,
    session_of,
    tenant_of,
    wanted_headers,
)
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import DEFAULT_DIALECT
from serve_app.domain import Conversation

CONFIG = GatewayConfig(version="v0.4.0")
SYSTEM = {"role": "system", "content": "You are kind."}
VECTORS = json.loads((Path(__file__).parent / "implicit_session_key.json").read_text())
CLIENT = ("x-session-affinity", "session-id")


def talk(*messages: dict[str, str], **fields: Any) -> Conversation:
    body = json.dumps({"messages": messages, **fields}).encode()
    return DEFAULT_DIALECT.read_conversation(read_document(body, unique=frozenset()))


NO_CONVERSATION = talk()


@pytest.mark.parametrize("case", VECTORS["cases"])
def test_implicit_key_is_the_same_as_in_plano(case: dict[str, str]) -> None:
    """It is equal byte for byte, computed or cached."""
    for _ in range(2):
        session = implicit_session(
            case["tenant"], case["system"], case["tools"], case["first_user"]
        )
        assert session == case["key"]


@given(st.lists(st.text(), min_size=4, max_size=4), st.integers(0, 3))
def test_every_part_counts(parts: list[str], changed: int) -> None:
    """Text moved from one part to the next, or changed, is another session."""
    other = [part + "x" if index == changed else part for index, part in enumerate(parts)]
    assert implicit_session(*parts) == implicit_session(*parts)
    assert implicit_session(*parts) != implicit_session(*other)


def test_long_beginning_has_another_hash() -> None:
    """It does not block other requests, and the form of the key is the same."""
    session = implicit_session("", "x" * MAX_FNV_BYTES, "", "hello")
    assert session.startswith("implicit:")
    assert len(session) == len("implicit:") + 16
    assert session != implicit_session("", "x" * MAX_FNV_BYTES, "", "hallo")


def test_cached_hashes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are evicted first."""
    monkeypatch.setattr(identify, "_MAX_CACHED_HASHES", 3)
    monkeypatch.setattr(identify, "_hashes", {})
    for number in range(20):
        implicit_session("", "", "", str(number))
    assert len(identify._hashes) == 3


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({}, None),
        ({"x-model-affinity": " a "}, "a"),
        ({"x-model-affinity": "", "session-id": "b"}, "b"),
        ({"session-id": "b", "x-session-affinity": "c"}, "c"),
        ({"x-model-affinity": "a", "x-session-affinity": "c"}, "a"),
        ({"thread-id": "d"}, None),
    ],
)
def test_first_header_with_a_value_names_the_session(
    headers: dict[str, str], name: str | None
) -> None:
    """The gateway's header comes first, then those of clients in the configured order."""
    assert named_session(headers, CLIENT) == name


@pytest.mark.parametrize("value", ["x" * 257, "a\u0000b", "a\nb"])
def test_unusual_name_is_replaced_by_its_hash(value: str) -> None:
    """A key stays short and printable."""
    name = named_session({"x-model-affinity": value}, ()) or ""
    assert name.startswith("sha256:")
    assert tenant_of({"t": value}, "T") == name


def test_keys_have_the_form_of_plano() -> None:
    """The tenant comes before the session with a colon between; the lane comes last."""
    assert Session("s").key == "s"
    assert Session("s", "t").key == "t:s"
    assert Session("s", "t", "smart").key == "t:s:lane:smart"
    assert tenant_of({"t": "x"}, None) == ""


def beside(**headers: str) -> str:
    """The key of the session `s` for a request with these headers; `_` stands for `-`."""
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    found = session_of(CONFIG, {"x-model-affinity": "s", **shown}, "auto", NO_CONVERSATION)
    assert found is not None
    return found.key


@pytest.mark.parametrize("kind", ["main", "compaction", "side_reply", "", " Main "])
def test_classes_of_the_conversation_share_its_key(kind: str) -> None:
    """They go on with the conversation, whose beginning the provider has in its cache."""
    assert beside(x_claude_code_request_class=kind) == "s"


@pytest.mark.parametrize("kind", ["workflow", "auxiliary", "subagent", "Brand New"])
def test_other_classes_have_keys_of_their_own(kind: str) -> None:
    """Unknown ones too."""
    assert beside(x_claude_code_request_class=kind) == f"s:class:{kind.lower()}"


def test_subagents_have_keys_of_their_own() -> None:
    """Their class adds nothing to their name, and their compaction is theirs."""
    one = beside(x_claude_code_agent_id="a1")
    assert one == "s:agent:a1"
    assert beside(x_claude_code_agent_id="a2") == "s:agent:a2"
    for kind in ("main", "subagent", "compaction"):
        assert beside(x_claude_code_agent_id="a1", x_claude_code_request_class=kind) == one
    work = beside(x_claude_code_agent_id="a1", x_claude_code_request_class="workflow")
    assert work == "s:agent:a1:class:workflow"
    assert beside(x_claude_code_agent_id="a\nb").startswith("s:agent:sha256:")


def test_subagents_of_codex_are_told_apart_by_their_threads() -> None:
    """They share the session of the main conversation, whose own thread is not part of the key."""
    assert beside(thread_id="t0") == "s"
    assert beside(thread_id="t0", x_openai_subagent="compact") == "s"
    assert beside(x_openai_subagent="review") == "s:class:review"
    keys = {beside(x_openai_subagent="collab_spawn", thread_id=name) for name in ("t1", "t2")}
    assert keys == {f"s:agent:{name}:class:collab_spawn" for name in ("t1", "t2")}


def test_lane_comes_last_and_is_not_part_of_the_conversation() -> None:
    """One conversation may be asked for by several names."""
    session = Session("s", "t", "smart", "a1", "workflow")
    assert session.key == "t:s:agent:a1:class:workflow:lane:smart"
    assert session.conversation == "t:s:agent:a1:class:workflow"
    assert session.cache_key == Session("s", "t", "fast", "a1", "workflow").cache_key
    assert session.cache_key != Session("s", "t", "fast", "a1").cache_key


def test_cache_key_hides_the_session() -> None:
    """It is a keyed hash: the same in every process, and not that of the name alone."""
    key = Session("chat-17").cache_key
    assert re.fullmatch("[0-9a-f]{32}", key)
    assert key == "01bda46f2ccdff3f7c4be8932525c5b2"
    assert key != blake2b(b"chat-17", digest_size=16).hexdigest()
    assert Session("\ud800").cache_key != key


def test_beginning_is_that_of_the_conversation() -> None:
    """Later turns do not change it; each of its parts does."""
    first = talk(SYSTEM, {"role": "user", "content": "Hello"})
    later = talk(
        SYSTEM,
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Go on"},
    )
    assert beginning_of(first) == beginning_of(later) is not None
    others = [
        talk({"role": "user", "content": "Hello"}),
        talk(SYSTEM, {"role": "user", "content": "Hallo"}),
        talk(SYSTEM, {"role": "user", "content": "Hello"}, tools=[{"name": "f"}]),
    ]
    assert len({beginning_of(first), *map(beginning_of, others)}) == 4
    assert beginning_of(NO_CONVERSATION) is None


@pytest.mark.parametrize(
    ("headers", "off"),
    [
        ({"x-plano-cache": "off"}, True),
        ({"x-fingerpost-affinity": " OFF "}, True),
        ({"x-plano-cache": "on"}, False),
        ({}, False),
    ],
)
def test_off_disables_sessions(headers: dict[str, str], off: bool) -> None:
    """Either header does so."""
    assert is_off(headers) is off


def test_wanted_headers_are_lower_case() -> None:
    """They are all headers that affect sessions, including the tenant's."""
    assert wanted_headers(["X-Mine"], "X-Tenant") == {
        b"x-model-affinity", b"x-plano-cache", b"x-fingerpost-affinity", b"x-mine", b"x-tenant",
        b"x-plano-max-switch-spend-pct", b"x-claude-code-agent-id", b"x-claude-code-request-class",
        b"x-openai-subagent", b"thread-id",
    }  # fmt: skip
    assert b"x-mine" not in wanted_headers([], None)
