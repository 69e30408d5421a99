"""How a conversation becomes the tokens of an embedding model.

The last turn comes first, then the user's earlier turns, then the assistant's answer, with a
separator after each: ``[CLS] last [SEP] earlier [SEP] answer [SEP]``. The bundled model was
trained on this order, so it knows which part is which. training/ uses these functions, too.
"""

from collections.abc import Sequence
from typing import Final

from serve_app.domain import Turn

LAST_TOKENS: Final = 40
"""Tokens of the last turn where others follow it, of a limit of 64; in proportion for others."""

ANSWER_TOKENS: Final = 14
"""Tokens of the assistant's answer, of a limit of 64; in proportion for others."""

_OF: Final = 64


def query_parts(turns: Sequence[Turn]) -> list[str]:
    """The last turn's text; and, if there are other turns, the earlier ones and the answer.

    The last two may be empty. ``turns`` are those of scoring/excerpt.py's ``recent``.
    """
    *before, last = turns
    if not before:
        return [last.text]
    earlier = " ".join(turn.text for turn in before if turn.role == "user")
    answer = " ".join(turn.text for turn in before if turn.role == "assistant")
    return [last.text, earlier, answer]


def query_tokens(parts: Sequence[list[int]], limit: int, first: int, last: int) -> list[int]:
    """The tokens of these parts, at most ``limit``, between the model's own ``first`` and ``last``.

    A part that is too long keeps its head and its tail.
    """
    if len(parts) == 1:
        return [first, *head_and_tail(parts[0], limit - 2), last]
    turn, earlier, answer = parts
    turn = head_and_tail(turn, LAST_TOKENS * limit // _OF)
    room = max(limit - 3 - len(turn), 0)
    answer = head_and_tail(answer, min(ANSWER_TOKENS * limit // _OF, room // 2))
    room -= len(answer) + bool(answer)
    ids = [first, *turn, last, *head_and_tail(earlier, max(room, 0)), last]
    return [*ids, *answer, last] if answer else ids


def head_and_tail(ids: list[int], limit: int) -> list[int]:
    """At most ``limit`` tokens: both ends of those given."""
    if len(ids) <= limit:
        return ids
    head = (limit + 1) // 2
    return [*ids[:head], *ids[len(ids) - (limit - head) :]]
