"""What of a conversation an engine looks at.

The embedding scorer: what the user said last, with context. A follow-up such as "and tomorrow?"
says nothing alone, so earlier turns of the user join in until there is enough to go by. Answers
are left out: they are long, and they are about the last route.

A language model: the last turns of both sides. It has a budget of its own, in tokens.
"""

import re
from collections.abc import Sequence
from typing import Final

from serve_app.domain import Turn

ENOUGH_WORDS: Final = 24
"""Once the user's last turns hold so many words, no earlier ones are needed."""

MAX_RECENT_TURNS: Final = 5

KEPT_CHARACTERS: Final = 2000
"""Of a longer turn so many are kept at each end; the scorer's own limit is in tokens, and lower."""

ENVELOPES: Final = (
    "system-reminder",
    "user-prompt-submit-hook",
    "environment_context",
    "environment_details",
    "user_instructions",
    "command-name",
    "command-message",
    "local-command-caveat",
    "local-command-stdout",
    "local-command-stderr",
)
"""Tags by which coding agents put words of their own into the user's turns."""

SHOWN_TURNS: Final = 16
SHOWN_CHARACTERS: Final = 64_000
"""Of a longer turn so many are shown to a language model, half of them from each end.

That is more than the longest usual prompt takes of one turn, 60 % of it from the head, so what is
left out here would not be in a prompt of 8192 tokens anyway.
"""

ALL_CHARACTERS: Final = 256_000
"""Once the turns shown hold so many, older ones are left out."""

_OPENING = re.compile(f"<({'|'.join(map(re.escape, ENVELOPES))})>")
_BYTES_OF_A_WORD: Final = 8  # where no spaces part words


def recent(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The user's last turns, oldest first, without envelopes and shortened in the middle.

    Empty when the user said nothing in words.
    """
    kept: list[Turn] = []
    words = 0
    for turn in reversed(turns):
        if turn.role != "user":
            continue
        text = without_envelopes(turn.text).strip()
        if not text:
            continue
        if len(text) > 2 * KEPT_CHARACTERS:
            text = f"{text[:KEPT_CHARACTERS]} … {text[-KEPT_CHARACTERS:]}"
        kept.append(Turn("user", text))
        words += max(len(text.split()), len(text.encode("utf-8", "replace")) // _BYTES_OF_A_WORD)
        if words >= ENOUGH_WORDS or len(kept) == MAX_RECENT_TURNS:
            break
    return tuple(reversed(kept))


def conversation(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The last turns of both sides, oldest first, without envelopes and shortened in the middle.

    A turn without envelopes stands as it was written, white space around it included: prompts of
    routing models are compared to the byte. Empty when the user said nothing in words.
    """
    shown: list[Turn] = []
    room = ALL_CHARACTERS
    for turn in reversed(turns):
        text = without_envelopes(turn.text) if turn.role == "user" else turn.text
        if not text.strip():
            continue
        if len(text) < len(turn.text):
            text = text.strip()
        if len(text) > SHOWN_CHARACTERS:
            half = SHOWN_CHARACTERS // 2
            text = f"{text[:half]} … {text[-half:]}"
        shown.append(Turn(turn.role, text))
        room -= len(text)
        if len(shown) == SHOWN_TURNS or room <= 0:
            break
    return tuple(reversed(shown)) if any(turn.role == "user" for turn in shown) else ()


def without_envelopes(text: str) -> str:
    """The text without ``<tag>...</tag>``; one that is not closed goes to the end of the text."""
    parts = []
    at = 0
    while (found := _OPENING.search(text, at)) is not None:
        parts.append(text[at : found.start()])
        closing = f"</{found[1]}>"
        end = text.find(closing, found.end())
        at = len(text) if end < 0 else end + len(closing)
    return "".join([*parts, text[at:]])
