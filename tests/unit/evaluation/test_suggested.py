"""Examples that a model writes: what it is asked, and what is kept of its answers."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.domain import Route
from serve_app.evaluation.example_prompt import DEFAULT_LANGUAGES, no_route_prompt, route_prompt
from serve_app.evaluation.suggested import (
    MAX_CHARACTERS,
    Suggestions,
    Target,
    UnreadableExamplesError,
    clean,
    names_of,
    read_lists,
    wanted_counts,
)

CODE: Final = Route("code", "writing and fixing code", ())
TRAVEL: Final = Route("book_flight", "flights\n  and hotels", (), examples=("a bed in Oslo",))
NAMELESS: Final = Route('say "hi"', 'say "hi"', ())
ROUTES: Final = (CODE, TRAVEL, NAMELESS)


def suggestions(
    wanted: Mapping[Target, int], routes: Sequence[Route] = ROUTES, no_route: Sequence[str] = ()
) -> Suggestions:
    return Suggestions(routes, no_route, wanted, DEFAULT_LANGUAGES)


def test_prompt_shows_all_routes_and_asks_for_those_of_the_batch() -> None:
    """With how many messages are short, long and in other languages, and with existing ones."""
    wanted = {"code": 12, "book_flight": 5}
    prompt = route_prompt(ROUTES, wanted, {"book_flight": TRAVEL.examples}, ("de", "xx", "en"))
    assert '- "code": writing and fixing code\n' in prompt
    assert '- "book_flight": flights and hotels\n- "say \\"hi\\""\n' in prompt
    assert '- "code": 12 messages, of these 4 short, 3 long, 1 in German, 1 in xx\n' in prompt
    assert (
        '- "book_flight": 5 messages, of these 1 short, 1 long, 1 in xx; '
        'they must differ from "a bed in Oslo"\n'
    ) in prompt
    assert prompt.endswith('{"code": ["...", "..."], "book_flight": ["...", "..."]}')


def test_prompt_for_english_only_names_no_other_language() -> None:
    """Whatever the language of the descriptions."""
    prompt = route_prompt(ROUTES, {"code": 12}, {}, ("en",))
    assert "Write every message in English." in prompt
    assert "of these 4 short, 3 long\n" in prompt
    assert "German" not in prompt


def test_one_language_gets_all_foreign_messages() -> None:
    """They are counted together."""
    assert "2 in German\n" in route_prompt(ROUTES, {"code": 12}, {}, ("de",))


def test_prompt_for_no_route_has_a_request_of_its_own() -> None:
    """It asks for near misses, too, and leaves out what a route covers."""
    prompt = no_route_prompt(ROUTES, 2, ["hi"], ("en",))
    assert '- "no route": 2 messages; they must differ from "hi"\n' in prompt
    assert "near misses" in prompt
    assert "then write none of that kind" in prompt
    assert prompt.endswith('{"no route": ["...", "..."]}')


@pytest.mark.parametrize(
    ("count", "more", "expected"),
    [
        (12, False, {"code": 12, "book_flight": 11, 'say "hi"': 12, None: 23}),
        (1, False, {"code": 1, 'say "hi"': 1, None: 1}),
        (1, True, {"code": 1, "book_flight": 1, 'say "hi"': 1, None: 2}),
        (64, True, {"code": 64, "book_flight": 63, 'say "hi"': 64, None: 63}),
    ],
)
def test_routes_are_filled_up(count: int, more: bool, expected: dict[Target, int]) -> None:
    """To the number that is wanted, or by it; 64 is the maximum of a route."""
    assert wanted_counts(ROUTES, ["hi"], count, more=more) == expected


def test_few_routes_share_a_request() -> None:
    """So that an answer stays short; "no route" is asked for alone."""
    many = [Route(f"r{number}", "d", ()) for number in range(16)]
    wanted = wanted_counts(many, (), 12, more=False)
    batches = suggestions(wanted, many).batches()
    assert [len(batch.wanted) for batch in batches] == [7, 7, 2, 1]
    assert batches[0].name == "r0, r1, r2, r3, r4, r5 and 1 more"
    assert batches[-1].wanted == {None: 24}
    assert names_of(["a", None]) == "a, no route"
    assert [len(b.wanted) for b in suggestions({"code": 64, "book_flight": 64}).batches()] == [1, 1]


def answered(
    wanted: Mapping[Target, int], answers: Mapping[str, Sequence[str]], no_route: Sequence[str] = ()
) -> Suggestions:
    """Suggestions after one answer to all of their requests."""
    found = suggestions(wanted, no_route=no_route)
    for batch in found.batches():
        found.take(batch, json.dumps(answers))
    return found


def test_usable_messages_are_kept() -> None:
    """In their order, without spaces around them, and not more than wanted."""
    found = answered(
        {"code": 2, None: 1},
        {"code": [" fix\n my  loop ", "", "why", "more"], "no route": ["hi", "hey"]},
    )
    assert found.new() == {"code": ("fix my loop", "why"), None: ("hi",)}
    assert (found.lacking(), found.incomplete(), found.batches()) == ({}, [], [])


def test_messages_under_two_routes_are_dropped() -> None:
    """From both, and those that exist already, too; case and the mark at the end do not matter."""
    found = answered(
        {"code": 9, "book_flight": 9, None: 9},
        {
            "code": ["Both of us?", "own", "OWN!", "a bed in oslo"],
            "book_flight": ["both of us", "mine", "thx"],
            "no route": ["Own.", "hello", "thx"],
        },
        no_route=["Hello"],
    )
    assert found.new() == {"book_flight": ("mine",)}


def test_what_is_lacking_is_asked_for_again() -> None:
    """The second prompt shows what was written before."""
    found = answered({"code": 4, "book_flight": 2}, {"code": ["x"], "book_flight": ["y", "z"]})
    assert found.lacking() == {"code": 3}
    (batch,) = found.batches()
    assert '"code": 3 messages, of these 1 short, 1 in German; they must differ from "x"' in (
        batch.prompt
    )
    assert found.take(batch, '{"code": ["a", "b", "x"]}') == 2
    assert found.new()["code"] == ("x", "a", "b")
    assert found.lacking() == {"code": 1}


def test_routes_with_three_examples_are_complete() -> None:
    """Or with as many as wanted; existing ones count."""
    found = answered(
        {"code": 9, "book_flight": 9, 'say "hi"': 2, None: 9},
        {"code": ["1 x", "2 x"], "book_flight": ["3 x", "4 x"], 'say "hi"': ["5 x", "6 x"]}
        | {"no route": ["7 x", "8 x", "9 x"]},
    )
    assert found.incomplete() == ["code"]


@pytest.mark.parametrize(
    "text",
    [
        '{"code": ["one", "two"]}',
        'Here you are, "as wanted":\n```json\n{"routes": {"Code": ["one", "two",],}}\n```\nEnjoy: [x]',
        '<think>"code": maybe [a]</think>{"code" :\n ["one", \n"two"], "other": ["x"]}',
        '{"code": ["one", "two"], "book_flight": ["three", "fou',
        '{"code": ["one", "two", 3, "four"]}',
        '{"CODE": ["one", "two"], "code": []}',
        '5" wide: {"code": ["one", "two"]}',
    ],
)
def test_answers_in_many_forms_are_read(text: str) -> None:
    """Fences, words, wrong commas, and an end in the middle."""
    lists = dict(reversed(read_lists(text, ["code", "book_flight"])))
    assert lists["code"] == ["one", "two"]


def test_names_may_differ_in_separators() -> None:
    """As long as it is clear which route is meant; other names are ignored."""
    text = '{"Book-Flight": ["x"], "no route": ["y"], "say \\"hi\\"": ["z"]}'
    assert read_lists(text, ["book_flight", 'say "hi"']) == [
        ("book_flight", ["x"]),
        ('say "hi"', ["z"]),
    ]


@pytest.mark.parametrize("text", ['["hi", "thx"]', '{"none": ["hi", "thx"]}', 'So: [ "hi", "thx"'])
def test_single_list_needs_no_name(text: str) -> None:
    """It is the one that was asked for."""
    assert read_lists(text, [None]) == [(None, ["hi", "thx"])]
    assert read_lists(text, ["a", "b"]) == []


def test_escapes_are_read() -> None:
    """Also those that JSON does not have."""
    text = r'{"code": ["it\'s \"x\"", "caf\u00e9", "a\\\\b", "bad \u00zz", "\ud83d\ude00"]}'
    (lists,) = read_lists(text, ["code"])
    assert lists[1] == ['it\'s "x"', "café", "a\\\\b", "", "😀"]


@pytest.mark.parametrize("text", ["", "I cannot do that.", '{"code": "one"}', "[1, 2]"])
def test_answer_without_lists_is_refused(text: str) -> None:
    """Nothing is guessed."""
    found = suggestions({"code": 1})
    (batch,) = found.batches()
    with pytest.raises(UnreadableExamplesError):
        found.take(batch, text)


def test_list_without_strings_adds_nothing() -> None:
    """It is asked for again."""
    found = answered({"code": 1}, {"code": [{"text": "x"}]})  # type: ignore[list-item]
    assert (found.new(), found.lacking()) == ({}, {"code": 1})


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """No answer raises another error."""
    for lists in (read_lists(text, ["code", "b"]), read_lists(text, [None])):
        assert all(isinstance(string, str) for _, strings in lists for string in strings)


@given(st.text())
def test_clean_text_is_one_printable_line(text: str) -> None:
    """UTF-8 and YAML can encode it."""
    cleaned = clean(text)
    assert len(cleaned.splitlines()) <= 1
    assert cleaned == clean(cleaned)
    cleaned.encode()


def test_long_texts_are_dropped() -> None:
    """They are not messages."""
    assert clean("x" * MAX_CHARACTERS)
    assert not clean("x" * (MAX_CHARACTERS + 1))
    assert clean("a\x00b\ud800\x9bc") == "a b c"
