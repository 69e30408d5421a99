"""Which session a request belongs to."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.affinity import identify
from serve_app.affinity.identify import (
    MAX_FNV_BYTES,
    Session,
    implicit_session,
    is_off,
    named_session,
    tenant_of,
    wanted_headers,
)

VECTORS = json.loads((Path(__file__).parent / "implicit_session_key.json").read_text())
CLIENT = ("x-session-affinity", "session-id")


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
        b"x-plano-max-switch-spend-pct",
    }  # fmt: skip
    assert b"x-mine" not in wanted_headers([], None)
