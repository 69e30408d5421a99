"""What models write, and the routes that it names."""

import time
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve_app.domain import Route
from serve_app.scoring.answers import UnreadableAnswerError, read_answer
from serve_app.scoring.prompt import FAMILIES

NAMES = ("Image generation", "Code generation", "code", "Bob's code", "C:\\new", "a, b")
PICTURES, CODE = ("Image generation",), ("code",)
BOTH = ("Image generation", "Code generation")
UNREADABLE = None


@pytest.mark.parametrize(
    ("text", "routes"),
    [
        # as Plano reads it
        ('{"route": ["Image generation"]}', PICTURES),
        ('{"route": ["Image generation", "Code generation"]}', BOTH),
        ('{"route": []}', ()),
        ('{"route": null}', ()),
        ("{}", ()),
        ("", ()),
        ('{"route": ["route1""', UNREADABLE),
        ("{'route': ['Image generation']}\\n", PICTURES),
        ('{"route": ["Unknown route"]}', ()),
        ('{"route": "Image generation"}', PICTURES),
        ('{"route": ""}', ()),
        ('{"route": "other"}', ()),
        ("{'route': 'Image generation'}\\n", PICTURES),
        ('```json\n{"route": "Image generation"}\n```', PICTURES),
        # as it does not
        (' \n{"route":"code"} ', CODE),
        ('{"routes": ["code"]}', CODE),
        ('{"Route": "code"}', CODE),
        ('{"route": ["code", "Image generation", "code"]}', ("code", "Image generation")),
        ('{"route": ["nothing", "code", null, 5, ""]}', CODE),
        ('{"route": "CODE GENERATION"}', ("Code generation",)),
        ('{"route": " code "}', CODE),
        ('{"route": "code", "why": "it is about the route: Image generation"}', CODE),
        ('{"why": "x", "route": "code"}', CODE),
        ('{"route": {"name": "code"}}', CODE),
        ('{"route": {"name": "code", "description": "writing code"}}', CODE),
        ('{"route": [{"name": "code"}, {"route": "Image generation"}]}', ("code", "Image generation")),
        ('[{"route": "code"}]', CODE),
        ('[["code"]]', CODE),
        ('{"route": [["code"]]}', CODE),
        ('{"route": {"label": "code"}}', ()),
        ('{"route": true}', ()),
        ('{"route": [[[[[["code"]]]]]]}', ()),
        ('{"route": 5}', ()),
        ('{"route": "Other"}', ()),
        ('{"route": "none"}', ()),
        ('{"route": "nothing we know"}', ()),
        ('["code"]', CODE),
        ("[]", ()),
        ('"code"', CODE),
        ('""', ()),
        ('"{\\"route\\": \\"code\\"}"', CODE),
        ('{\\"route\\": [\\"code\\"]}', CODE),
        ('{{"route": ["code"]}}', CODE),
        ('{\\n  "route": \\n "code"\\n}', CODE),
        ('{"route":\n["code",\n"Image generation",\n]}', ("code", "Image generation")),
        ('{"route": ["code"', CODE),
        ('{"route": ["code", "Image gen', CODE),
        ('{"route": ["Image gen', UNREADABLE),
        ('{"route": "Image gen', UNREADABLE),
        ('{"route": [', UNREADABLE),
        ('{"route":', UNREADABLE),
        ('{"route": ["code" "Image generation"]}', ("code", "Image generation")),
        ('{"route": "code"} and not {"route": "Image generation"}', CODE),
        ('{"route": "what"} or the route: code', ()),
        ('{"route": "what"} {"route": "code"}', CODE),
        ('{"route": "none"} {"route": "code"}', ()),
        ('Sure! Here it is:\n{"route": "code"}\nHope that helps.', CODE),
        ("Sure: {'route': 'Bob's code'}", ("Bob's code",)),
        ("{'route': ['Bob's code', 'code']}", ("Bob's code", "code")),
        ("{'route': 'Bob\\'s code'}", ("Bob's code",)),
        ("{'route': 'code'} ", CODE),
        ("{'route': 'code' is my answer", CODE),
        ("{'route': ''}", ()),
        ('{"route": "C:\\\\new"}', ("C:\\new",)),
        ('x {"route": "C:\\\\new"}', ("C:\\new",)),
        ('x {"route": "C:\\qew"}', ()),
        ('x {"route": "C\\u006fde generation"}', ("Code generation",)),
        ('x {"route": ["a, b"]}', ("a, b",)),
        ("{route: code}", CODE),
        ("{route: [code, Image generation]}", ("code", "Image generation")),
        ("{route: none}", ()),
        ("Route: Bob's code", ("Bob's code",)),
        ("route: I do not know", UNREADABLE),
        ("subroute: code", UNREADABLE),
        ("code", CODE),
        ("Code.", CODE),
        ("`code`", CODE),
        ("**Image generation**", PICTURES),
        ("a, b", ("a, b",)),
        ("C:\\new", ("C:\\new",)),
        ("code\nThe user asks for code.", CODE),
        ("code\\nThe user asks for code.", CODE),
        ("```\ncode\n```", CODE),
        ("```text\ncode\n```", CODE),
        ("```code```", CODE),
        ("other", ()),
        ("None.", ()),
        ("{ } as nothing fits", ()),
        ("['code']", CODE),
        ("['what']", ()),
        ('<think>the route: Image generation?</think>\n\n{"route": "code"}', CODE),
        ("<think>the route: code", UNREADABLE),
        ("<think>hm</think>", UNREADABLE),
        ("The user wants code", UNREADABLE),
        ("...", UNREADABLE),
        ("route: *", UNREADABLE),
        ('{"answer": "code"}', UNREADABLE),
        ("5", UNREADABLE),
        ("null", ()),
        # a model that thinks aloud
        ("Okay, so. Possible route: code, but let me", UNREADABLE),
        ('Okay, so. Possible route: "code", but let me', UNREADABLE),
        ("Okay. Possible route: code\nBut let me see the others", UNREADABLE),
        ("- route: code?\n- route: Image generation?\nHm", UNREADABLE),
        ("It asks for {a program}. Possible route: code, but let me", UNREADABLE),
        ("I looked at them all.\nThe best route: code.", CODE),
        ("I looked at them all.\n**Route:** `code`\n", CODE),
        ("Routes: [code, Image generation]", ("code", "Image generation")),
        ("Route: code\nThe user asks for code.", CODE),
        ("```yaml\nroute: code\n```", CODE),
        ("Route: none\\nIt is a greeting.", ()),
        ("{" * 5000, UNREADABLE),
        ("[" * 5000, UNREADABLE),
    ],
)  # fmt: skip
def test_answer_is_read_in_any_form(text: str, routes: tuple[str, ...] | None) -> None:
    """A text without a route is an error, not "no route"."""
    if routes is None:
        with pytest.raises(
            UnreadableAnswerError, match=f"^found no route in its {len(text)} characters$"
        ):
            read_answer(text, NAMES)
    else:
        assert read_answer(text, NAMES) == routes


@pytest.mark.parametrize(
    ("text", "routes"),
    [
        ("Okay, so. Possible route: code, but let me", UNREADABLE),
        ("Okay, so. Possible route: code", UNREADABLE),
        ("code", UNREADABLE),
        ("", UNREADABLE),
        ('{"route": ["code", "Image gen', UNREADABLE),
        ('Maybe {"route": "code"}? Or', UNREADABLE),
        ("<think>the route: code", UNREADABLE),
        ("[" * 5000, UNREADABLE),
        ('{"route": "code"} because the user', CODE),
        ('```json\n{"route": "code"}\n```\nThe user', CODE),
        ('{"route": "other"}\n\n\n', ()),
        ('["code"] is', CODE),
    ],
)
def test_cut_answer_counts_if_it_began_with_json(text: str, routes: tuple[str, ...] | None) -> None:
    """Of a text that was cut, nothing else is an answer."""
    if routes is None:
        with pytest.raises(UnreadableAnswerError):
            read_answer(text, NAMES, cut=True)
    else:
        assert read_answer(text, NAMES, cut=True) == routes


@pytest.mark.parametrize(
    ("names", "text", "routes"),
    [
        (("other", "none"), '{"route": "other"}', ("other",)),
        (("other", "none"), "None", ("none",)),
        (("Other",), '{"route": "other"}', ()),
        (("Other",), '{"route": "Other"}', ("Other",)),
        (("Code", "code"), '{"route": "code"}', ("code",)),
        (("Code", "code"), '{"route": "CODE"}', ("Code",)),
        (("5",), '{"route": "5"}', ("5",)),
        (("5",), "5", ("5",)),
        (("5",), '{"route": 5}', ("5",)),
        (("1.5",), '{"route": [1.5]}', ("1.5",)),
        (("True",), '{"route": true}', ()),
        (("STRASSE",), "straße", ("STRASSE",)),
        ((" code ", "code"), '{"route": " code "}', (" code ",)),
        (("route: code",), "route: code", ("route: code",)),
        ((), '{"route": "code"}', ()),
    ],
)
def test_exact_names_have_precedence(
    names: tuple[str, ...], text: str, routes: tuple[str, ...]
) -> None:
    """They come before other cases, and before the words for no route."""
    assert read_answer(text, names) == routes


WORDS = st.text(min_size=1, max_size=12) | st.sampled_from(
    ["other", "none", "</think>", '"', "\\", "\\n", "'", "a']", "{}", "[]", "```", "route: x", " "]
)


@given(names=st.lists(WORDS, max_size=4, unique=True))
@example(names=['say "hi"', "a\\"])
def test_answers_of_all_families_are_read(names: list[str]) -> None:
    """It works for any names of routes."""
    routes = [Route(name, "x", ()) for name in names]
    for family in FAMILIES.values():
        for answer in family.answers(routes):
            expected = () if answer.route is None else (answer.route,)
            assert read_answer(answer.text, names) == expected


PIECES = st.sampled_from(
    [
        *(
            "route",
            "routes",
            '"',
            "'",
            "\\",
            "\\n",
            "n",
            ":",
            "[",
            "]",
            "{",
            "}",
            ",",
            " ",
            "\n",
            "`",
        ),
        *(
            "```json\n",
            "<think>",
            "</think>",
            "code",
            "none",
            "null",
            "\ud800",
            "1e999",
            "9" * 5000,
        ),
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join) | st.text(), st.lists(st.text(), max_size=3))
def test_any_text_is_read_or_refused(text: str, names: list[str]) -> None:
    """The result has known names without duplicates, or there is the one error."""
    names = [*names, "code"]
    try:
        routes = read_answer(text, names)
    except UnreadableAnswerError:
        return
    assert set(routes) <= set(names)
    assert len(set(routes)) == len(routes)


UNITS = (
    'route: "', "route: '", 'route: ["', "route: ['", "route: [", "'route': ['a' ", '"', "'", "\\", "''",
    "['a' 'a", "' ", '"route" ', '"\\', "'\\", "\\n", "\\n,", " ", "\n", "[", "{", '["', '{"route":', "`", "<think>",
    "</think>", "route", '\\"route\\": \\"', "route:'],", "route\\n", "9", '"a",', "'a'\\n",
)  # fmt: skip


@pytest.mark.parametrize("prefix", ["", 'route: ["', "'route': ['", "'route': '", "["])
@pytest.mark.parametrize("unit", UNITS)
def test_hostile_texts_are_read_fast(unit: str, prefix: str) -> None:
    """A hundred kilobytes of any content are read in a moment."""
    text = prefix + unit * (100_000 // len(unit))
    started = time.perf_counter()
    with suppress(UnreadableAnswerError):
        read_answer(text, NAMES)
    assert time.perf_counter() - started < 1.0


def test_error_contains_no_text() -> None:
    """A model may repeat the text of the user."""
    with pytest.raises(UnreadableAnswerError) as caught:
        read_answer("my password is hunter2", NAMES)
    assert "hunter2" not in repr(caught.value) + str(caught.value)
