"""How a conversation becomes the tokens of an embedding model."""

from itertools import chain
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.domain import Turn
from serve_app.scoring.query import (
    ANSWER_TOKENS,
    LAST_TOKENS,
    head_and_tail,
    query_parts,
    query_tokens,
)

FIRST, LAST = 101, 102
"""The marks around the parts, as BERT has them."""

SIZES: Final = (*range(8, 130), 256, 511, 512)
"""Limits that a configuration may have: from 8 to 512."""


def said(*texts: str) -> tuple[Turn, ...]:
    """Turns of the user; those of the assistant begin with ``>``."""
    return tuple(
        Turn("assistant", text[1:]) if text.startswith(">") else Turn("user", text)
        for text in texts
    )


@pytest.mark.parametrize(
    ("turns", "parts"),
    [
        (["a"], ["a"]),
        (["a", "b"], ["b", "a", ""]),
        (["a", "b", "c"], ["c", "a b", ""]),
        (["a", "b", ">d", "c"], ["c", "a b", "d"]),
        (["a", ">d", "c"], ["c", "a", "d"]),
    ],
)
def test_last_turn_is_the_first_part(turns: list[str], parts: list[str]) -> None:
    """Earlier turns of the user are the second, and the answer is the third; one turn is alone."""
    assert query_parts(said(*turns)) == parts


def tokens(start: int, count: int) -> list[int]:
    return list(range(start, start + count))


def test_parts_are_marked() -> None:
    """A mark stands first and after each part; an answer that is missing has none."""
    turn, earlier, answer = tokens(1000, 3), tokens(2000, 2), tokens(3000, 4)
    assert query_tokens([turn], 64, FIRST, LAST) == [FIRST, *turn, LAST]
    assert query_tokens([turn, earlier, []], 64, FIRST, LAST) == [
        FIRST, *turn, LAST, *earlier, LAST,
    ]  # fmt: skip
    assert query_tokens([turn, earlier, answer], 64, FIRST, LAST) == [
        FIRST, *turn, LAST, *earlier, LAST, *answer, LAST,
    ]  # fmt: skip
    assert query_tokens([[]], 64, FIRST, LAST) == [FIRST, LAST]


@pytest.mark.parametrize("limit", SIZES)
def test_long_parts_share_the_limit(limit: int) -> None:
    """It is used up: the last turn has its share, and the other two have half of the rest each."""
    parts = [tokens(place * 1000 + 1000, 600) for place in range(3)]
    ids = query_tokens(parts, limit, FIRST, LAST)
    assert len(ids) == limit
    turn, earlier, answer = (
        [one for one in ids if start <= one < start + 600] for start in (1000, 2000, 3000)
    )
    assert len(turn) == LAST_TOKENS * limit // 64
    assert len(answer) == (limit - 3 - len(turn)) // 2
    assert abs(len(earlier) - len(answer)) <= 1
    for own in (turn, earlier, answer):
        assert own in ([], head_and_tail(tokens(own[0] if own else 0, 600), len(own)))
    assert len(query_tokens(parts[:1], limit, FIRST, LAST)) == limit


@pytest.mark.parametrize(
    ("limit", "turn", "rooms"),
    [(64, 600, (40, 10, 10)), (64, 5, (5, 41, 14)), (32, 600, (20, 4, 4)), (32, 5, (5, 16, 7)), (128, 5, (5, 91, 28))],
)  # fmt: skip
def test_rooms_are_in_proportion(limit: int, turn: int, rooms: tuple[int, int, int]) -> None:
    """Of 64 tokens, 4 are marks, at most 40 are of the last turn, and at most 14 of the answer."""
    ids = query_tokens([[1] * turn, [2] * 600, [3] * 600], limit, FIRST, LAST)
    assert tuple(ids.count(part) for part in (1, 2, 3)) == rooms
    assert (LAST_TOKENS, ANSWER_TOKENS) == (40, 14)


@pytest.mark.parametrize("limit", SIZES)
@pytest.mark.parametrize("lengths", [(0, 0, 0), (1, 600, 0), (600, 0, 600), (3, 2, 600), (5, 5, 5)])
def test_limit_is_kept(limit: int, lengths: tuple[int, int, int]) -> None:
    """It is so whichever parts are long or empty."""
    parts = [tokens(1000 * place + 1000, length) for place, length in enumerate(lengths)]
    ids = query_tokens(parts, limit, FIRST, LAST)
    assert len(ids) <= limit
    assert (ids[0], ids[-1]) == (FIRST, LAST)


PART: Final = st.integers(0, 700).map(lambda length: list(range(1000, 1000 + length)))


@given(
    PART.map(lambda part: [part]) | st.tuples(PART, PART, PART).map(list),
    st.integers(8, 512),
)
def test_any_parts_fit_any_limit(parts: list[list[int]], limit: int) -> None:
    """Everything is kept where it fits; tokens are never moved or made up."""
    ids = query_tokens(parts, limit, FIRST, LAST)
    assert 2 <= len(ids) <= limit
    assert ids[0] == FIRST
    assert ids[-1] == LAST
    assert set(ids) <= {FIRST, LAST, *chain.from_iterable(parts)}
    if len(parts) == 1 and len(parts[0]) <= limit - 2:
        assert ids == [FIRST, *parts[0], LAST]


@pytest.mark.parametrize(
    ("limit", "kept"),
    [(0, []), (1, [0]), (2, [0, 5]), (3, [0, 1, 5]), (5, [0, 1, 2, 4, 5]), (6, tokens(0, 6)), (9, tokens(0, 6))],
)  # fmt: skip
def test_head_and_tail_are_kept(limit: int, kept: list[int]) -> None:
    """The head has one more where the limit is odd; a short list stays as it is."""
    assert head_and_tail(tokens(0, 6), limit) == kept
