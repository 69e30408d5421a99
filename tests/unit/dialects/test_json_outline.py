"""The outline of a JSON text that comes in pieces."""

import json
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects.json_outline import MAX_OUTLINE_BYTES, MAX_STRING_BYTES, JsonOutline
from tests.unit.fakes import pieces

LONG = 'a\\"{' * MAX_STRING_BYTES


def outlined(text: bytes, cuts: list[int]) -> bytes:
    outline = JsonOutline()
    for piece in pieces(text, cuts):
        outline.add(piece)
    return outline.text


def test_outline_drops_long_strings_at_every_split() -> None:
    """Quotes and backslashes inside strings are understood wherever the text is cut."""
    text = b'data: {"a": "\\\\", "b\\"": ["\\u00e9\\"x"], "c": 1}\n\n'
    for cuts in combinations(range(len(text) + 1), 2):
        assert outlined(text, list(cuts)) == text
    long = json.dumps({"x": LONG, "é": "y"}).encode()
    for cut in (9, 1000, 1001, 1002, 1003, 5000, len(long) - 12):
        assert json.loads(outlined(long, [cut])) == {"x": "...", "é": "y"}


@given(
    st.recursive(
        st.none() | st.integers() | st.text('ab"\\é\ud800', max_size=9),
        lambda inner: st.lists(inner) | st.dictionaries(st.text('"\\', max_size=3), inner),
    ),
    st.lists(st.integers(0, 200), max_size=9),
)
def test_outline_of_short_strings_is_the_text(value: object, cuts: list[int]) -> None:
    """Nothing else is left out."""
    text = json.dumps(value, indent=1).encode()
    assert outlined(text, [cut for cut in cuts if cut < len(text)]) == text


def test_outline_is_bounded() -> None:
    """No provider can fill the memory with one event."""
    outline = JsonOutline()
    for _ in range(5):
        outline.add(b'"1",' * (MAX_OUTLINE_BYTES // 8) + b"x" * (MAX_OUTLINE_BYTES // 2))
        outline.add(b'"' + b"x" * MAX_OUTLINE_BYTES + b'"')
    assert len(outline.text) == MAX_OUTLINE_BYTES
