"""The prompt by which a chat model writes examples of routes."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from serve_app.domain import Route

NO_ROUTE_KEY: Final = "no route"
"""The key of examples of "no route" in an answer; they have a request of their own."""

DEFAULT_LANGUAGES: Final = (
    *("de", "fr", "es", "zh", "pt", "ja", "it", "ru", "ar", "hi", "nl", "pl", "ko", "tr"),
)
"""The languages of a fifth of the examples, unless the user names others."""

ENGLISH: Final = "en"

_NAMES: Final[Mapping[str, str]] = {
    "ar": "Arabic", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
    "es": "Spanish", "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi",
    "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean",
    "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "sv": "Swedish", "th": "Thai", "tr": "Turkish", "uk": "Ukrainian",
    "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip

_SHORT_SHARE: Final = 3
_FOREIGN_SHARE: Final = 5
_LONG_SHARE: Final = 4
_MAX_LONG: Final = 3
_MAX_SHOWN: Final = 12
_MAX_SHOWN_CHARACTERS: Final = 120

PROMPT: Final = """\
A program reads what a user writes to an assistant, and sends it to one of these routes:

{routes}

The program learns from examples. Write messages of users as examples{subject}, in these numbers:

{numbers}

{rules}
How people type; keep to it in every list:
- Short messages have fewer than 8 words, in lower case, with typos, abbreviations or missing words, as typed in a hurry on a phone. Long messages have 30 to 60 words, with a story around the point. The others have 8 to 25 words.
- Mix questions, orders and statements. At least a third only says what happened, what is wrong or what is wanted, and asks nothing.
- Every message is about another situation, object, person or place. Never write one sentence twice with other words in it, and do not begin two messages alike.
- Write as the user, not about the user: no names of routes, no headings, no numbering, no placeholders such as [city].
- {languages}

Answer with one JSON object and nothing else. Its keys are {keys}; each value is the list of the messages, as strings in double quotes:
{form}"""
"""What a chat model is asked, once per batch of routes and once for "no route".

``routes`` are all routes of the configuration, so that the model sees the neighbours that each one
must be told from; ``numbers`` says for each list how many messages are short, long, and in other
languages, because models keep to numbers better than to shares. ``rules`` is ROUTE_RULES or
NO_ROUTE_RULES.
"""

ROUTE_RULES: Final = """\
What belongs into the list of a route:
- Messages for which this route is right and no other one of all routes above. Where two routes are close, write what tells them apart.
- All sides of the description, also those that people need rarely.
- Use other words than the name and the description: users do not know them, and name the thing, the symptom or the goal instead. At most one message in four may contain a word of the name.
"""

NO_ROUTE_RULES: Final = """\
What belongs into this list are messages for which all routes above are wrong:
- greetings, thanks, goodbyes, "ok", "test", small talk, questions about the assistant itself
- wishes and talk from topics that have nothing to do with any route: everyday life, health, sport, news, school, feelings
- near misses, a third of the list: they contain words of a route, or sound like one, but want something that no description covers
If a description covers one of these kinds, such as greetings, then write none of that kind.
"""


def route_prompt(
    routes: Sequence[Route],
    wanted: Mapping[str, int],
    written: Mapping[str, Sequence[str]],
    languages: Sequence[str],
) -> str:
    """The prompt for examples of some routes: by name how many, and those that exist already."""
    order = [route.name for route in routes]
    numbers = [
        _numbers(name, count, written.get(name, ()), _turned(languages, order.index(name), count))
        for name, count in wanted.items()
    ]
    return PROMPT.format(
        routes=_listed(routes),
        subject=" of the routes named below",
        numbers="\n".join(numbers),
        rules=ROUTE_RULES,
        languages=_language_rule(languages),
        keys="the names of the routes below, exactly as written here",
        form=_form(wanted),
    )


def no_route_prompt(
    routes: Sequence[Route], count: int, written: Sequence[str], languages: Sequence[str]
) -> str:
    """The prompt for examples of "no route"."""
    return PROMPT.format(
        routes=_listed(routes),
        subject=" of what belongs to none of these routes",
        numbers=_numbers(NO_ROUTE_KEY, count, written, _turned(languages, 0, count)),
        rules=NO_ROUTE_RULES,
        languages=_language_rule(languages),
        keys=f"only {json.dumps(NO_ROUTE_KEY)}",
        form=_form([NO_ROUTE_KEY]),
    )


def _listed(routes: Iterable[Route]) -> str:
    return "\n".join(
        f"- {_quoted(route.name)}"
        + ("" if route.description == route.name else f": {' '.join(route.description.split())}")
        for route in routes
    )


def _numbers(name: str, count: int, written: Sequence[str], languages: Sequence[str]) -> str:
    """How many messages a list needs, and of which kinds."""
    kinds = [f"{count // _SHORT_SHARE} short", f"{min(count // _LONG_SHARE, _MAX_LONG)} long"]
    kinds = [kind for kind in kinds if not kind.startswith("0 ")]
    kinds += [f"{n} in {_NAMES.get(code, code)}" for code, n in Counter(languages).items()]
    line = f"- {_quoted(name)}: {count} messages"
    line += f", of these {', '.join(kinds)}" if kinds else ""
    shown = [_quoted(text[:_MAX_SHOWN_CHARACTERS]) for text in written[-_MAX_SHOWN:]]
    return line + (f"; they must differ from {', '.join(shown)}" if shown else "")


def _turned(languages: Sequence[str], position: int, count: int) -> list[str]:
    """The languages of a list's foreign messages: each list begins at another one."""
    foreign = [language for language in languages if language != ENGLISH]
    share = round(count / _FOREIGN_SHARE) if foreign else 0
    return [foreign[(position * share + step) % len(foreign)] for step in range(share)]


def _language_rule(languages: Sequence[str]) -> str:
    if all(language == ENGLISH for language in languages):
        return "Write every message in English."
    return (
        "Write in the language of the descriptions above, but for the messages in other languages "
        "whose numbers are given; write those as native speakers do, not as translations."
    )


def _form(names: Iterable[str]) -> str:
    return "{" + ", ".join(f'{_quoted(name)}: ["...", "..."]' for name in names) + "}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
