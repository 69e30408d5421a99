"""What of a conversation is looked at."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve_app.domain import Turn
from serve_app.engines.http import estimate_tokens
from serve_app.scoring.envelopes import ENVELOPES, without_envelopes
from serve_app.scoring.excerpt import (
    ENOUGH_WORDS,
    MAX_CONVERSATION_CHARACTERS,
    MAX_CONVERSATION_TURNS,
    MAX_EARLIER_TURNS,
    MAX_TURN_CHARACTERS,
    RECENT_END_CHARACTERS,
    conversation,
    recent,
)
from serve_app.scoring.prompt import FAMILIES

LONG = "please write me a function " * 10
ENDS = 2 * RECENT_END_CHARACTERS


def users(*texts: str) -> tuple[Turn, ...]:
    return tuple(Turn("user", text) for text in texts)


def answer(text: str) -> Turn:
    return Turn("assistant", text)


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        ([], []),
        (["How is the weather in Rome?"], ["How is the weather in Rome?"]),
        (["How is the weather in Rome?", "And tomorrow?"], ["How is the weather in Rome?", "And tomorrow?"]),
        (["Something else.", LONG, "And in Go?"], [LONG.strip(), "And in Go?"]),
        (["Something else.", LONG], [LONG.strip()]),
        (["a", "b", "c", "d", "e", "f", "g"], ["d", "e", "f", "g"]),
        ([" \n x\t"], ["x"]),
        (["", " ", "\n"], []),
        (["x", "", "  "], ["x"]),
        (["x", "", "y", "  "], ["x", "y"]),
    ],
)  # fmt: skip
def test_short_turn_includes_earlier_ones(texts: list[str], kept: list[str]) -> None:
    """Up to three turns of the user are added, oldest first, until these have enough words."""
    assert recent(users(*texts)) == users(*kept)


@pytest.mark.parametrize(("words", "turns"), [(ENOUGH_WORDS - 1, 3), (ENOUGH_WORDS, 1)])
def test_turn_with_enough_words_stands_alone(words: int, turns: int) -> None:
    """Twelve words are enough; with one word less, what it follows is included."""
    assert ENOUGH_WORDS == 12
    assert len(recent((*users("before"), answer("yes"), *users("be " * words)))) == turns


def test_turn_of_another_topic_decides_by_itself() -> None:
    """A turn that says enough is not compared with what came before it."""
    code = "Generate boilerplate for a REST API endpoint in Rust with validation and tests"
    analysis = "Give me a deep analysis of this problem: why do prices rise when wages do?"
    assert recent((*users(code), answer("fn main() {}"), *users(analysis))) == users(analysis)


def test_words_of_earlier_turns_add_up() -> None:
    """Two halves of the words are enough; those of the last turn do not count with them."""
    half = "be " * (ENOUGH_WORDS // 2)
    kept = recent(users("before", half, half, "be " * (ENOUGH_WORDS - 1)))
    assert [turn.text.split() for turn in kept[:-1]] == [half.split()] * 2


@pytest.mark.parametrize(
    ("text", "turns"),
    [("今天天气怎么样", 2), ("请帮我写一个函数" * 6, 1), ("x" * 150, 1), ("ก" * 20, 2), ("🙂" * 30, 1)],
)  # fmt: skip
def test_texts_without_spaces_are_measured_by_their_bytes(text: str, turns: int) -> None:
    """A long turn stands alone without spaces, too."""
    assert len(recent(users("before", text))) == turns


POEM = (*users("Write a poem"), answer(" Roses are red "))


@pytest.mark.parametrize(
    ("turns", "kept"),
    [
        ((*POEM, *users("longer")), (*users("Write a poem"), answer("Roses are red"), *users("longer"))),
        ((*users("Hi"), answer("Hello"), *POEM, *users("longer")), (*users("Hi", "Write a poem"), answer("Roses are red"), *users("longer"))),
        ((*POEM, *users(LONG)), users(LONG.strip())),
        ((answer("How can I help?"), *users("a poem")), users("a poem")),
        ((*POEM, answer("Violets"), *users("longer")), (*users("Write a poem"), answer("Violets"), *users("longer"))),
        ((*POEM, answer(" \n"), *users("longer")), users("Write a poem", "longer")),
        ((*POEM, *users("and", "longer")), (*users("Write a poem", "and"), answer("Roses are red"), *users("longer"))),
        ((*users("a", "b"), answer("c")), users("a", "b")),
        ((answer("Hello"), answer(LONG)), ()),
    ],
    ids=["answer", "last one", "long turn", "greeting", "two", "empty", "older", "after", "no user"],
)  # fmt: skip
def test_short_turn_includes_the_answer_before_it(
    turns: tuple[Turn, ...], kept: tuple[Turn, ...]
) -> None:
    """It is one answer, the last one before the user's turn, and only beside an earlier turn."""
    assert recent(turns) == kept


def test_long_answer_is_shortened() -> None:
    """It keeps both ends, as turns of the user do; quotes of envelopes in it stay."""
    text = "<system-reminder>" + "x" * 9000 + "end"
    _, kept, _ = recent((*users("Write it"), answer(text), *users("shorter")))
    assert kept.role == "assistant"
    assert kept.text.startswith("<system-reminder>xxx")
    assert kept.text.endswith("xxxend")
    assert len(kept.text) == ENDS + len(" … ")


CLOSED = "<system-reminder>use the tools</system-reminder>"


def test_turns_of_envelopes_only_are_skipped() -> None:
    """They do not count as turns or words."""
    turns = users("Write a poem", *[CLOSED] * 9, f" {CLOSED}\n{CLOSED}<environment_details>x")
    assert recent(turns) == users("Write a poem")
    assert recent(users(CLOSED, "<command-name>/clear")) == ()


def test_words_of_envelopes_do_not_count() -> None:
    """A short turn in long envelopes is short, and the answer before it is found past them."""
    envelope = f"<system-reminder>{LONG}</system-reminder>"
    turns = (*users(f"{envelope}Write"), answer("Done"), *users(envelope, f"more{envelope}"))
    assert recent(turns) == (*users("Write"), answer("Done"), *users("more"))
    alone = f"{envelope}{LONG}"
    assert recent(users("before", alone)) == users(LONG.strip())


def test_conversation_has_both_sides() -> None:
    """It is in order, without envelopes of the user; quotes of the assistant stay."""
    turns = (*users(f"Hello\n{CLOSED}", "", "\n"), answer(" <command-name> "), *users("And?"))
    assert conversation(turns) == (*users("Hello"), answer(" <command-name> "), *users("And?"))


def test_turn_without_envelopes_keeps_its_white_space() -> None:
    """A prompt has the same white space as in Plano."""
    turns = (*users("  def f():\n\tpass\n"), answer("\n"), *users(" And in Go?\n"))
    assert conversation(turns) == (turns[0], turns[2])


def test_conversation_without_user_text_is_empty() -> None:
    """There is nothing to match."""
    assert conversation((answer("Hello"), *users(CLOSED))) == ()
    assert conversation(()) == ()


def test_conversation_keeps_its_last_turns() -> None:
    """A very long turn keeps both ends."""
    turns = users(*map(str, range(99)))
    assert conversation(turns) == turns[-MAX_CONVERSATION_TURNS:]
    half = MAX_TURN_CHARACTERS // 2
    (turn,) = conversation(users("a" * half + "b" * 9 + "c" * half))
    assert turn.text == "a" * half + " … " + "c" * half
    (turn,) = conversation(users("a" * MAX_TURN_CHARACTERS))
    assert turn.text == "a" * MAX_TURN_CHARACTERS


def test_conversation_is_bounded_in_total() -> None:
    """The turn that reaches the limit is kept, and none before it."""
    turns = users(*("x" * MAX_TURN_CHARACTERS for _ in range(MAX_CONVERSATION_TURNS)))
    assert len(conversation(turns)) == MAX_CONVERSATION_CHARACTERS // MAX_TURN_CHARACTERS


@pytest.mark.parametrize("family", ["plano-orchestrator", "arch-router"])
@pytest.mark.parametrize("size", [20_000, 31_000, 40_000, 70_000, 900_000])
def test_excerpt_does_not_change_default_prompts(family: str, size: int) -> None:
    """A long turn of the user is shortened only by the budget, in the same places."""
    turns = users("".join(f"{n:07} " for n in range(size // 8)))
    own = FAMILIES[family]

    def prompt(turns: tuple[Turn, ...]) -> str:
        return own.messages(turns, (), budget=own.budget_tokens, count=estimate_tokens).text

    assert prompt(conversation(turns)) == prompt(turns)


@pytest.mark.parametrize("size", [ENDS, ENDS + 1, 1_000_000])
def test_very_long_turn_keeps_both_ends(size: int) -> None:
    """The request comes first or last; what it is about lies between."""
    head, tail = "Translate this: ", " Only into French, please."
    text = head + "x" * (size - len(head) - len(tail)) + tail
    (turn,) = recent(users("before", text))
    assert turn.text.startswith(f"{head}xxx")
    assert turn.text.endswith(f"xxx{tail}")
    assert turn.text == text if size == ENDS else len(turn.text) == ENDS + len(" … ")


FRAGMENTS = st.sampled_from(
    [
        *(f"<{tag}>" for tag in ENVELOPES[:3]),
        *(f"</{tag}>" for tag in ENVELOPES[:3]),
        *("<", "hello ", "words " * 30, "x" * (ENDS + 1), "好", "\ud800", "\0", "🙂", " "),
    ]
)
TURNS = st.lists(
    st.builds(
        Turn,
        st.sampled_from(["user", "user", "assistant"]),
        st.lists(FRAGMENTS | st.text(max_size=5), max_size=8).map("".join),
    ),
    max_size=9,
)


@given(TURNS)
@example([Turn("user", "\ud800" * (ENDS + 1))])
def test_excerpt_is_small_for_any_conversation(turns: list[Turn]) -> None:
    """It has a few turns, the user's last, none empty, and none much longer than its two ends."""
    kept = recent(turns)
    assert len(kept) <= 1 + MAX_EARLIER_TURNS + 1
    assert all(turn.text.strip() for turn in kept)
    roles = [turn.role for turn in kept]
    assert set(roles[:-2] + roles[-1:]) <= {"user"}
    assert len(kept) != 2 or roles == ["user", "user"]
    assert all(len(turn.text) <= ENDS + len(" … ") for turn in kept)
    assert bool(kept) == any(
        turn.role == "user" and without_envelopes(turn.text).strip() for turn in turns
    )


def test_old_turns_are_not_read() -> None:
    """A long conversation costs no more than its end."""
    turns = (*users(*[CLOSED * 1000] * 20_000), *users("a", "b", "c", "d"))
    started = time.perf_counter()
    assert recent(turns) == users("a", "b", "c", "d")
    assert time.perf_counter() - started < 0.5
