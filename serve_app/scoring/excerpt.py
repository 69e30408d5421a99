"""The part of a conversation that an engine gets.

The embedding scorer gets the last turn of the user. A follow-up such as "and tomorrow?" is
meaningless alone, so a short one comes with what it follows: earlier turns of the user, and the
assistant's answer before it. A turn that says enough decides by itself, whatever came before.

A language model gets the last turns of both sides. Its prompt has a budget of its own, in tokens.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Final

from serve_app.domain import Turn
from serve_app.scoring.envelopes import without_envelopes

ENOUGH_WORDS: Final = 12
"""Words in the user's last turn from which on it is compared alone."""

MAX_EARLIER_TURNS: Final = 3
"""Earlier turns of the user that a short one may bring along."""

RECENT_END_CHARACTERS: Final = 2000
"""Characters kept at each end of a recent turn; the scorer's own limit, in tokens, is lower."""

MAX_CONVERSATION_TURNS: Final = 16
MAX_TURN_CHARACTERS: Final = 64_000
"""Characters of one turn for a language model, half of them from each end.

A prompt of 8192 tokens, the longest default budget, uses less of a turn, so that it is the same
as without this limit.
"""

MAX_CONVERSATION_CHARACTERS: Final = 256_000
"""Characters of all turns for a language model after which older turns are left out."""

_BYTES_PER_WORD: Final = 8  # in scripts without spaces


def recent(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The user's last turn, and what it follows if it is short; oldest first.

    Without what agents insert, and shortened in the middle. At most one turn of the assistant is
    among them, the one before the last. Empty if the user wrote no text.
    """
    mine = ((at, text) for at in reversed(range(len(turns))) if (text := _user_text(turns[at])))
    last_at, last = next(mine, (0, ""))
    if not last or _words(last) >= ENOUGH_WORDS:
        return (Turn("user", last),) if last else ()
    earlier: list[Turn] = []
    words = 0
    for _, text in islice(mine, MAX_EARLIER_TURNS):
        earlier.append(Turn("user", text))
        words += _words(text)
        if words >= ENOUGH_WORDS:
            break
    before = (turn.text for turn in reversed(turns[:last_at]) if turn.role == "assistant")
    answer = _shortened(next(before, "").strip()) if earlier else ""
    answers = [Turn("assistant", answer)] if answer else []
    return (*reversed(earlier), *answers, Turn("user", last))


def _user_text(turn: Turn) -> str:
    """What the user wrote in a turn; empty for another's."""
    return "" if turn.role != "user" else _shortened(without_envelopes(turn.text).strip())


def _shortened(text: str) -> str:
    if len(text) <= 2 * RECENT_END_CHARACTERS:
        return text
    return f"{text[:RECENT_END_CHARACTERS]} … {text[-RECENT_END_CHARACTERS:]}"


def _words(text: str) -> int:
    return max(len(text.split()), len(text.encode("utf-8", "replace")) // _BYTES_PER_WORD)


def conversation(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The last turns of both sides, oldest first, without envelopes and shortened in the middle.

    A turn without envelopes stays as it is, with the white space around it, because prompts of
    routing models must match Plano's to the byte. Empty if the user wrote no text.
    """
    kept: list[Turn] = []
    room = MAX_CONVERSATION_CHARACTERS
    for turn in reversed(turns):
        text = without_envelopes(turn.text) if turn.role == "user" else turn.text
        if not text.strip():
            continue
        if len(text) < len(turn.text):
            text = text.strip()
        if len(text) > MAX_TURN_CHARACTERS:
            half = MAX_TURN_CHARACTERS // 2
            text = f"{text[:half]} … {text[-half:]}"
        kept.append(Turn(turn.role, text))
        room -= len(text)
        if len(kept) == MAX_CONVERSATION_TURNS or room <= 0:
            break
    return tuple(reversed(kept)) if any(turn.role == "user" for turn in kept) else ()
