"""Which texts the bundled encoder can read.

Its vocabulary is that of English BERT, and it was trained on few languages. Latin letters, and
Chinese and Japanese characters, it reads better than chance; conversations in other scripts it was
measured to route by guess (training/README.md), so they match no route unless the routes have
examples in such a script.
"""

import re
from collections.abc import Iterable
from typing import Final
from unicodedata import name

_READ: Final = ("LATIN", "CJK", "HIRAGANA", "KATAKANA", "DIGIT", "FULLWIDTH", "HALFWIDTH")
_WORD: Final = re.compile(r"[A-Za-z]{2,}")
_ENOUGH_WORDS: Final = 3
"""Latin words that say enough by themselves, such as "translate into English" before a text."""
_SEEN: Final = 500
"""Letters that are looked at."""


def is_unreadable(text: str) -> bool:
    """True if most letters of a text are of a script that the bundled encoder does not read."""
    if text.isascii() or len(_WORD.findall(text)) >= _ENOUGH_WORDS:
        return False
    letters = [letter for letter in text if letter.isalpha()][:_SEEN]
    unread = sum(not name(letter, "").startswith(_READ) for letter in letters)
    return unread * 2 > len(letters)


def any_unreadable(texts: Iterable[str]) -> bool:
    """True if one of these texts, such as examples, is in a script that is not read."""
    return any(map(is_unreadable, texts))
