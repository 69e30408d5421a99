"""Ids that the gateway makes."""

import re

from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects.stable_ids import digest_of, id_of_call, is_safe, safe

TEXT = st.text() | st.just("\ud800")


@given(TEXT, st.integers(0, 64))
def test_id_is_of_plain_characters(text: str, number: int) -> None:
    """Whatever it is made from, each time it is the same."""
    for made in (
        id_of_call("call_", text, number),
        f"{safe(text)}x",
        f"{digest_of(text, number)}x",
    ):
        assert re.fullmatch("[a-zA-Z0-9_-]+", made)
        assert is_safe(made)
    assert digest_of(text, number) == digest_of(text)[:number]
    assert is_safe(text) is (text != "" and safe(text) == text)


def test_ids_of_calls_differ() -> None:
    """In each answer, and for each call of an answer."""
    ids = {id_of_call("call_", answer, number) for answer in ("a", "b") for number in (0, 1)}
    assert len(ids) == 4
    assert id_of_call("toolu_", "a:b.c", 2) == "toolu_a_b_c_2"
