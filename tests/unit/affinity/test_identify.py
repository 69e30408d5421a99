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
def test_the_implicit_key_is_plano_s(case: dict[str, str]) -> None:
    """Byte for byte, the first time and when it is remembered."""
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


def test_a_long_beginning_is_hashed_otherwise() -> None:
    """So that no request stops the others; the form stays."""
    session = implicit_session("", "x" * MAX_FNV_BYTES, "", "hello")
    assert session.startswith("implicit:")
    assert len(session) == len("implicit:") + 16
    assert session != implicit_session("", "x" * MAX_FNV_BYTES, "", "hallo")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first."""
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
def test_the_first_header_that_says_something_counts(
    headers: dict[str, str], name: str | None
) -> None:
    """Ours, then those of clients in the order configured."""
    assert named_session(headers, CLIENT) == name


@pytest.mark.parametrize("value", ["x" * 257, "a\u0000b", "a\nb"])
def test_odd_ids_go_in_by_their_hash(value: str) -> None:
    """A key stays short and printable."""
    name = named_session({"x-model-affinity": value}, ()) or ""
    assert name.startswith("sha256:")
    assert tenant_of({"t": value}, "T") == name


def test_keys_are_plano_s() -> None:
    """The tenant before the session, a colon between; our lanes behind."""
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
def test_off_is_off(headers: dict[str, str], off: bool) -> None:
    """In either header."""
    assert is_off(headers) is off


def test_wanted_headers_are_lower_case() -> None:
    """All that decide, and the tenant's."""
    assert wanted_headers(["X-Mine"], "X-Tenant") == {
        b"x-model-affinity", b"x-plano-cache", b"x-fingerpost-affinity", b"x-mine", b"x-tenant",
        b"x-plano-max-switch-spend-pct",
    }  # fmt: skip
    assert b"x-mine" not in wanted_headers([], None)
