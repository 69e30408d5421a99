"""Signatures in envelopes that name their origin."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects.signatures import unwrap, wrap

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
"""Lone halves of surrogate pairs included, which JSON can hold."""


@given(st.sampled_from(["chat", "messages", "responses", "a.b"]), ANY_TEXT)
def test_envelope_keeps_origin_and_signature(origin: str, signature: str) -> None:
    """Every signature returns unchanged, and travels as printable ASCII without spaces."""
    envelope = wrap(origin, signature)
    assert re.fullmatch(r"[!-~]+", envelope)
    assert unwrap(envelope) == (origin, signature)


def test_envelopes_nest() -> None:
    """A provider that is such a gateway itself gets its own envelope back."""
    inner = wrap("messages", "EqQBCk==")
    assert unwrap(wrap("chat", inner)) == ("chat", inner)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fingerpost",
        "fingerpost.",
        "fingerpost..",
        "fingerpost..YQ==",
        "fingerpost.chat",
        "fingerpost.chat.YQ",
        "fingerpost.chat.YQ==YQ==",
        "fingerpost.chat.Y Q==",
        "fingerpost.chat.YQ==\n",
        "fingerpost.chat.ä",
        "fingerpost.chat.\ud800",
        "fingerpost.chat." + base64.b64encode(b"\xff").decode(),
        " fingerpost.chat.YQ==",
        "Fingerpost.chat.YQ==",
        "EqQBCkYIBxgCKkDx+/a==",
        "gAAAAABo_-x==",
    ],
)
def test_other_texts_are_not_envelopes(text: str) -> None:
    """A provider's own signature, or a damaged envelope, is not taken for one."""
    assert unwrap(text) is None


@given(st.one_of(ANY_TEXT, ANY_TEXT.map("fingerpost.chat.".__add__)))
def test_unwrap_accepts_any_text(text: str) -> None:
    """A client may send anything as a signature."""
    found = unwrap(text)
    if found is not None:
        assert unwrap(wrap(*found)) == found
