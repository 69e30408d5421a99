"""What routing models are asked; their makers' prompts byte for byte."""

import json
import time
from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve_app.domain import Route, Turn
from serve_app.scoring.prompt import (
    FAMILIES,
    MAX_TURNS,
    MIN_TURN_TOKENS,
    Family,
    RouteAnswer,
    family_of,
    shorten,
)

PICTURES = (Route("Image generation", "generating image", ()),)
CODE = (
    Route(
        "code-generation",
        "generating new code snippets, functions, or boilerplate based on user prompts or requirements",
        (),
    ),
)
PORTRAIT = "given the image In style of Andy Warhol, portrait of Bart and Lisa Simpson"
EVERY = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
JSON_FAMILIES = [family for family in FAMILIES.values() if family.name != "generic"]
EVERY_JSON = pytest.mark.parametrize("family", JSON_FAMILIES, ids=lambda family: family.name)
AMPLE = 1_000_000


def conversation(*texts: str) -> tuple[Turn, ...]:
    """What user and assistant say in turn, the user last."""
    last = len(texts) - 1
    return tuple(
        Turn("assistant" if (last - n) % 2 else "user", text) for n, text in enumerate(texts)
    )


def quarter(text: str) -> int:
    """Plano's measure of tokens."""
    return len(text.encode("utf-8", "replace")) // 4


def frame(family: Family, routes: Sequence[Route]) -> int:
    """What a prompt about nothing needs."""
    template = family.template.replace("{routes}", family.format_routes(routes))
    return quarter(template.replace("{conversation}", ""))


def size(family: Family, *turns: Turn) -> int:
    """What these turns need, one by one."""
    return sum(quarter(family.format_turns([turn])) for turn in turns)


def shown(family: Family, turns: Sequence[Turn], budget: int) -> list[str]:
    """The texts of the conversation in a prompt."""
    text = family.messages(turns, PICTURES, budget=budget, count=quarter).text
    between = text.partition("<conversation>\n")[2].partition("\n</conversation>")[0]
    return [turn["content"] for turn in json.loads(between)]


HELLO = conversation("hi", "Hello! How can I assist you today?", PORTRAIT)
TOKYO = conversation(
    "What's the weather like in Tokyo?",
    "The current weather in Tokyo is 22°C and sunny.",
    "What about in New York?",
)
WARHOL = conversation(
    "hi",
    "Hello! How can I assist you today?",
    "given the image In style of Andy Warhol",
    "ok here is the image",
    "pls give me another image about Bart and Lisa",
)


@pytest.mark.parametrize(
    ("family", "turns", "routes", "digest"),
    [
        ("arch-router", HELLO, PICTURES, "b8348b2e9ef4fd67188949e3a5e91365bc9a2231c77bcb1c69d276a92d9963c5"),
        ("arch-router", HELLO, CODE, "9003edb984a34f717f00f0a853ad67931e8824d85dd5f2b4c7480d46434b93f5"),
        ("arch-router", TOKYO, PICTURES, "07ee43522f576cb1ed3a8fe3bebe2684edfd53d7494a08fc11094a9bf6befbd5"),
        ("plano-orchestrator", HELLO, PICTURES, "608e09337d8dc10f106b6d1d481bb0764e67b4be391f456479dcbebc9f1dd64d"),
        ("plano-orchestrator", HELLO, CODE, "63c17d34c176bcec05e62349ff68df20f1ad13def50f420127153546338ce740"),
        ("plano-orchestrator", TOKYO, PICTURES, "5f4e027412bf7b696f64b7200123f64db522a2e4fd8762ac074f363792f3e949"),
    ],
)  # fmt: skip
def test_prompts_are_planos_byte_for_byte(
    family: str, turns: tuple[Turn, ...], routes: tuple[Route, ...], digest: str
) -> None:
    """The digests are of the texts that Plano's own tests expect."""
    prompt = FAMILIES[family].messages(turns, routes, budget=AMPLE, count=quarter)
    assert sha256(prompt.text.encode()).hexdigest() == digest
    assert not prompt.trimmed


def test_turns_without_text_are_skipped() -> None:
    """A tool call has no text; leaving it out does not count as trimming."""
    family = FAMILIES["arch-router"]
    silent = (TOKYO[0], Turn("assistant", ""), *TOKYO[1:])
    assert family.messages(silent, PICTURES, budget=AMPLE, count=quarter) == family.messages(
        TOKYO, PICTURES, budget=AMPLE, count=quarter
    )


@EVERY_JSON
def test_older_user_turn_is_shortened(family: Family) -> None:
    """Three tokens are left for it: head, ellipsis and tail in twelve bytes."""
    bare = size(family, Turn("user", ""))
    budget = frame(family, PICTURES) + size(family, *WARHOL[3:]) + bare + 3
    assert shown(family, WARHOL, budget) == ["given…rhol", WARHOL[3].text, WARHOL[4].text]


def test_shortened_prompt_is_planos() -> None:
    """It is that example's whole prompt, byte for byte."""
    family = FAMILIES["plano-orchestrator"]
    budget = (
        frame(family, PICTURES) + size(family, *WARHOL[3:]) + size(family, Turn("user", "")) + 3
    )
    prompt = family.messages(WARHOL, PICTURES, budget=budget, count=quarter)
    digest = "b77c00e699b5ed9f1cb2adbc93333c9e1ff69e38aa23422582ae2576c0e50861"
    assert sha256(prompt.text.encode()).hexdigest() == digest
    assert prompt.trimmed


@EVERY_JSON
def test_older_assistant_turn_is_left_out(family: Family) -> None:
    """It tells less about the request of the user; older turns are left out with it."""
    budget = frame(family, PICTURES) + size(family, HELLO[2]) + 6
    assert shown(family, HELLO, budget) == [PORTRAIT]


@EVERY_JSON
def test_newest_turn_is_shortened_for_any_role(family: Family) -> None:
    """A prompt without a conversation would be useless."""
    turn = Turn("assistant", "x" * 4000)
    (text,) = shown(family, [*HELLO, turn], frame(family, PICTURES) + 100)
    assert text.startswith("xxx")
    assert "…" in text


@EVERY
def test_routes_are_never_shortened(family: Family) -> None:
    """If they alone fill the budget, the newest turn still gets a few tokens."""
    routes = [Route(f"route {n}", "about something " * 20, ()) for n in range(40)]
    prompt = family.messages(WARHOL, routes, budget=100, count=quarter)
    assert family.format_routes(routes) in prompt.text
    assert WARHOL[4].text in prompt.text
    assert WARHOL[3].text not in prompt.text
    assert quarter(prompt.text) <= frame(family, routes) + MIN_TURN_TOKENS + 2
    assert prompt.trimmed


@EVERY_JSON
def test_only_the_last_turns_are_used(family: Family) -> None:
    """There are at most sixteen, however short."""
    turns = conversation(*(f"turn-{n:03}" for n in range(2 * MAX_TURNS + 1)))
    assert shown(family, turns, AMPLE) == [turn.text for turn in turns[-MAX_TURNS:]]
    assert family.messages(turns, PICTURES, budget=AMPLE, count=quarter).trimmed


@EVERY
@pytest.mark.parametrize("filler", ["A", "word ", "好", "\n", '"', "\0", "\ud800"])
def test_huge_turn_is_shortened_fast(family: Family, filler: str) -> None:
    """Of half a megabyte the ends are left, and it is never counted as a whole."""
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(len(text))
        return -(-len(text.encode()) // 4)

    text = "HEAD_MARKER " + filler * (500_000 // len(filler)) + " TAIL_MARKER"
    started = time.perf_counter()
    prompt = family.messages(conversation(text), PICTURES, budget=2048, count=count)
    assert time.perf_counter() - started < 0.5
    assert prompt.trimmed
    assert quarter(prompt.text) <= 2048
    assert all(part in prompt.text for part in ("HEAD_MARKER", "…", "TAIL_MARKER"))
    assert max(counted) < 8 * 2048
    assert len(counted) < 20


@EVERY
def test_dense_text_is_shortened_until_it_fits(family: Family) -> None:
    """A tokenizer with one token per byte still gets a prompt within the budget."""

    def dense(text: str) -> int:
        return len(text.encode())

    prompt = family.messages(conversation("é\n" * 5000), PICTURES, budget=4000, count=dense)
    assert 3500 < dense(prompt.text) <= 4000


@EVERY
def test_shortening_ends_if_nothing_fits(family: Family) -> None:
    """Without room for one letter there is no conversation."""
    empty = family.messages((), PICTURES, budget=9, count=len).text
    for much in (lambda text: AMPLE, lambda text: AMPLE if "x" in text or "…" in text else 0):
        prompt = family.messages(conversation("x" * 9999), PICTURES, budget=9, count=much)
        assert (prompt.text, prompt.trimmed) == (empty, True)


TEXTS = st.text(max_size=30) | st.sampled_from(
    ["", "x" * 3000, "好" * 900, '"\\\n' * 300, "\ud800"]
)
TURNS = st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), TEXTS), max_size=20)


@given(turns=TURNS, spare=st.integers(0, 1500))
@example(turns=[Turn("user", "🙂" * 70)], spare=0)
def test_prompts_keep_to_their_budget(turns: list[Turn], spare: int) -> None:
    """The end of the conversation is used; only its first turn may be shortened."""

    def count(text: str) -> int:
        return -(-len(text.encode()) // 4)

    for family in JSON_FAMILIES:
        template = family.template.replace("{routes}", family.format_routes(PICTURES))
        budget = count(template) + MIN_TURN_TOKENS + spare
        prompt = family.messages(turns, PICTURES, budget=budget, count=count)
        assert count(prompt.text) <= budget
        texts = shown(family, turns, budget)
        spoken = [turn.text.encode("utf-8", "replace").decode() for turn in turns if turn.text]
        assert bool(texts) == bool(spoken)
        whole = spoken[len(spoken) - len(texts) :]
        assert texts[1:] == whole[1:]
        assert texts == whole or "…" in texts[0] or whole[0].startswith(texts[0])


@pytest.mark.parametrize(
    ("text", "limit", "short"),
    [
        ("hello", 100, "hello"),
        ("hello", 5, "hello"),
        ("hello", 4, "…o"),
        ("hello", 3, "hel"),
        ("abcdefgh", 2, "ab"),
        ("abcdefgh", 0, ""),
        ("é" * 3, 3, "é"),
        ("🙂🙂", 3, ""),
        ("a" * 20, 10, "aaaa…aaa"),
        ("é" * 50, 25, "é" * 6 + "…" + "é" * 5),
        ("好" * 9, 12, "好…好好"),
    ],
)
def test_shorten_removes_the_middle(text: str, limit: int, short: str) -> None:
    """Head and tail share the bytes six to four, in whole characters."""
    assert shorten(text, limit) == short
    assert len(short.encode()) <= limit or short == text


@given(st.text(), st.integers(0, 60))
def test_shortened_texts_fit(text: str, limit: int) -> None:
    """The limit is in bytes; a text that fits stays as it is."""
    text = text.encode("utf-8", "replace").decode()
    short = shorten(text, limit)
    assert len(short.encode()) <= limit
    assert short == text or len(text.encode()) > limit


ROUTES = tuple(Route(name, "x", ()) for name in ("code", 'say "hi"', "é\\n", "code", "a\ud800"))


@pytest.mark.parametrize(
    ("family", "texts"),
    [
        (
            "arch-router",
            [
                '{"route": "code"}',
                '{"route": "say \\"hi\\""}',
                '{"route": "é\\\\n"}',
                '{"route": "a?"}',
                '{"route": "other"}',
            ],
        ),
        (
            "plano-orchestrator",
            [
                '{"route": ["code"]}',
                '{"route": ["say \\"hi\\""]}',
                '{"route": ["é\\\\n"]}',
                '{"route": ["a?"]}',
                '{"route": []}',
            ],
        ),
    ],
)
def test_answers_are_whole_and_unique(family: str, texts: list[str]) -> None:
    """There is one for each route in the order of the configuration, and one for no route."""
    names = ["code", 'say "hi"', "é\\n", "a\ud800", None]
    expected = tuple(RouteAnswer(name, text) for name, text in zip(names, texts, strict=True))
    assert FAMILIES[family].answers(ROUTES) == expected


@pytest.mark.parametrize("family", ["arch-router", "generic"])
def test_route_named_other_uses_that_answer(family: str) -> None:
    """The answer "other" means this route, so there is none for no route."""
    routes = (Route("other", "anything else", ()), Route("code", "x", ()))
    answers = FAMILIES[family].answers(routes)
    assert [answer.route for answer in answers] == ["other", "code"]
    lists = FAMILIES["plano-orchestrator"].answers(routes)
    assert [answer.route for answer in lists] == ["other", "code", None]


def test_generic_prompt_lists_the_answers() -> None:
    """Each route is on a line, with the word for no route, and each turn is on one line."""
    family = FAMILIES["generic"]
    routes = (Route("code", "writing\n code", ()), Route("b: c", "d", ()))
    lines = family.messages(
        conversation('two\n"lines"'), routes, budget=AMPLE, count=quarter
    ).text.split("\n")
    assert {"code: writing code", "b: c: d", "other: none of these"} <= set(lines)
    assert 'user: "two\\n\\"lines\\""' in lines
    own = family.format_routes([Route("other", "the rest", ())])
    assert own == "other: the rest"


def test_card_form_differs_only_in_braces() -> None:
    """They are single ones there."""
    both = FAMILIES["plano-orchestrator"].template, FAMILIES["plano-orchestrator-card"].template
    assert '{{"route": ["route_name_1"' in both[0]
    assert both[1] == both[0].replace("{{", "{").replace("}}", "}")


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("katanemo/Arch-Router-1.5B", "arch-router"),
        ("hf.co/katanemo/Arch-Router-1.5B.gguf:Q4_K_M", "arch-router"),
        ("/models/models--katanemo--Arch-Router-1.5B/snapshots/8a", "arch-router"),
        ("arch_router", "arch-router"),
        ("katanemo/Plano-Orchestrator-30B-A3B-FP8", "plano-orchestrator"),
        ("/models/PLANO_ORCHESTRATOR_4B", "plano-orchestrator"),
        ("/arch-router/plano-orchestrator-4b", "plano-orchestrator"),
        ("/plano-orchestrator/arch-router", "arch-router"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "generic"),
        ("qwen2.5:0.5b", "generic"),
        ("monarch-router", "generic"),
        ("", "generic"),
    ],
)
def test_family_is_derived_from_the_name(model: str, family: str) -> None:
    """The name may be a path, in any case; other models are generic."""
    assert family_of(model) == family
    assert family in FAMILIES
