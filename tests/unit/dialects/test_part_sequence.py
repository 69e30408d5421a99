"""Parts of a stream in sequence, however a provider mixes their pieces."""

import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.dialects.part_sequence import PartSequence, Piece
from tests.unit.dialects.json_texts import VALUE

Step = tuple[str, str, str | Piece]
"""What a provider says: the verb, the key, and a text or another piece."""

SIGNED = ir.Signed("proof")
CITED = ir.Cited(ir.Citation("https://a.example"))


def part_of(key: str) -> ir.AnswerPart:
    """The part of a key: its first letter says what it is, and the part itself whose it is."""
    match key[0]:
        case "t":
            return ir.Text("", cache=key)
        case "h":
            return ir.Thinking("", origin=key)
        case "c":
            return ir.ToolCall(key, "run", is_custom=True)
        case _:
            return ir.ToolCall(key, "run")


def key_of(part: ir.AnswerPart) -> str:
    match part:
        case ir.Text():
            return str(part.cache)
        case ir.Thinking():
            return part.origin
        case ir.ToolCall():
            return part.id
    raise AssertionError(part)


def apply(sequence: PartSequence, step: Step) -> list[ir.Event]:
    """The events of one step."""
    verb, key, what = step
    match verb:
        case "start":
            return list(sequence.start(key, part_of(key)))
        case "end":
            return list(sequence.end(key))
    return list(sequence.add(key, ir.Delta(what) if isinstance(what, str) else what))


def run(steps: Iterable[Step], *, finish: bool = True) -> list[ir.Event]:
    """The events of all steps, and those of the end."""
    sequence = PartSequence()
    events = [event for step in steps for event in apply(sequence, step)]
    return [*events, *sequence.end_all()] if finish else events


def contents(events: Iterable[ir.Event]) -> dict[str, list[Piece]]:
    """The pieces of each key; checks that parts do not overlap."""
    found: dict[str, list[Piece]] = defaultdict(list)
    key: str | None = None
    for event in events:
        if isinstance(event, ir.PartStarted):
            assert key is None
            key = key_of(event.part)
            assert key not in found or not isinstance(event.part, ir.ToolCall)
            found[key] += []
        elif isinstance(event, ir.PartEnded):
            assert key is not None
            key = None
        else:
            assert isinstance(event, ir.Delta | ir.Signed | ir.Cited)
            assert key is not None
            found[key].append(event)
    assert key is None
    return found


def short(events: Iterable[ir.Event]) -> str:
    """Events as one line: ``<key`` for a start, ``>`` for an end, and the texts between."""
    words = []
    for event in events:
        match event:
            case ir.PartStarted(part):
                words.append(f"<{key_of(part)}")
            case ir.PartEnded():
                words.append(">")
            case ir.Delta(text):
                words.append(text)
            case _:
                words.append(type(event).__name__)
    return " ".join(words)


def start(key: str) -> Step:
    return "start", key, ""


def add(key: str, what: str | Piece) -> Step:
    return "add", key, what


def end(key: str) -> Step:
    return "end", key, ""


SEQUENCES: dict[str, tuple[list[Step], str, str]] = {
    "nothing": ([], "", ""),
    "one part": ([start("t"), add("t", "a"), add("t", "b")], "<t a b", ">"),
    "ended part": ([start("t"), add("t", "a"), end("t"), add("t", "b")], "<t a >", ""),
    "unknown parts": ([add("t", "a"), end("t")], "", ""),
    "second start": ([start("t"), start("t"), end("t"), start("t")], "<t >", ""),
    "text ends when a call begins": ([start("t"), add("t", "a"), start("1")], "<t a > <1", ">"),
    "calls in turns": (
        [start("1"), start("2"), add("1", '{"a'), add("2", "{"), add("1", '":1}'), add("2", "}")],
        '<1 {"a ":1} > <2 { }',
        ">",
    ),
    "complete call ends when another begins": (
        [start("1"), add("1", "{}"), start("2"), add("2", "{")],
        "<1 {} > <2 {",
        ">",
    ),
    "call without arguments": ([start("1"), start("2"), add("2", "{}")], "<1", "> <2 {} >"),
    "call without arguments that ends": (
        [start("1"), start("2"), add("2", "{}"), end("1")],
        "<1 > <2 {}",
        ">",
    ),
    "waiting part that ends": (
        [start("1"), start("2"), add("2", "{"), end("2"), add("2", "x"), start("3"), end("1")],
        "<1 > <2 { > <3",
        ">",
    ),
    "text after a call": (
        [start("t"), start("1"), add("1", "{"), add("t", "a"), add("1", "}"), add("t", "b")],
        "<t > <1 { } > <t a b",
        ">",
    ),
    "text of an ended key": (
        [start("t"), start("1"), end("t"), add("t", "a")],
        "<t > <1",
        ">",
    ),
    "empty text after a call": ([start("t"), start("1"), add("t", "")], "<t > <1", ">"),
    "signature after a call": (
        [start("h"), start("1"), add("1", "{}"), add("h", SIGNED), end("h")],
        "<h > <1 {} > <h Signed >",
        "",
    ),
    "citation that waits": (
        [start("1"), start("t"), add("t", "a"), add("t", CITED), end("1")],
        "<1 > <t a Cited",
        ">",
    ),
    "text that waits before a call": (
        [start("1"), start("t"), start("2"), add("1", "{}"), add("t", "a"), add("2", "{")],
        "<1 {} > <t a > <2 {",
        ">",
    ),
    "space after a complete call": (
        [start("1"), add("1", "{}"), start("2"), add("1", " ")],
        "<1 {} > <2",
        ">",
    ),
    "custom calls are any text": (
        [start("c"), add("c", "{}"), start("2"), add("2", "{}"), add("c", "{}"), end("c")],
        "<c {} {} > <2 {}",
        ">",
    ),
    "arguments that are not an object": (
        [start("1"), add("1", "12"), start("2"), add("2", "{}"), add("1", "3")],
        "<1 12 3",
        "> <2 {} >",
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence_of_events(name: str) -> None:
    """What comes at once, and what comes at the end."""
    steps, at_once, at_end = SEQUENCES[name]
    assert short(run(steps, finish=False)) == at_once
    whole = short(run(steps))
    assert whole == f"{at_once} {at_end}".strip()


def test_keys_may_be_anything() -> None:
    """A provider may leave out the number of a part."""
    sequence = PartSequence()
    assert not sequence.has(None)
    assert list(sequence.start(None, ir.Text(""))) == [ir.PartStarted(ir.Text(""))]
    assert sequence.has(None)
    assert not sequence.has(0)
    assert list(sequence.add(None, ir.Delta("a"))) == [ir.Delta("a")]
    assert list(sequence.end_all()) == [ir.PartEnded()]
    assert sequence.has(None)


def test_end_of_all_happens_once() -> None:
    """After it, nothing is open; another part may still begin."""
    sequence = PartSequence()
    list(sequence.start("t", part_of("t")))
    assert short(sequence.end_all()) == ">"
    assert short(sequence.end_all()) == ""
    assert short(sequence.start("1", part_of("1"))) == "<1"


def test_text_that_goes_on_does_not_repeat_its_signature() -> None:
    """A new part of the same thoughts has only what comes with it."""
    sequence = PartSequence()
    thinking = ir.Thinking("", signature="proof", origin="chat")
    list(sequence.start("h", thinking))
    list(sequence.start("t", part_of("t")))
    out = list(sequence.add("h", ir.Delta("more")))
    assert out == [ir.PartEnded(), ir.PartStarted(ir.Thinking("", origin="chat")), ir.Delta("more")]


def cut(text: str, cuts: Iterable[int]) -> list[str]:
    """A text cut at these offsets, which may leave empty pieces."""
    marks = [0, *sorted(min(at, len(text)) for at in cuts), len(text)]
    return [text[first:second] for first, second in pairwise(marks)]


CUTS = st.lists(st.integers(0, 40), max_size=6)


@given(VALUE, CUTS)
def test_complete_arguments_are_known_at_every_split(value: str, cuts: list[int]) -> None:
    """A call is complete with the last bracket of its arguments, not before it."""
    sequence = PartSequence()
    list(sequence.start("1", part_of("1")))
    list(sequence.start("2", part_of("2")))
    text = f'{{"a":{value}}}'
    for piece in [*cut(text[:-1], cuts), "}"]:
        assert list(sequence.add("2", ir.Delta("x"))) == []
        assert list(sequence.add("1", ir.Delta(piece))) == [ir.Delta(piece)]
    assert short(sequence.add("2", ir.Delta("y"))).startswith("> <2 x")


@st.composite
def mixed(draw: st.DrawFn) -> tuple[list[Step], dict[str, list[Piece]]]:
    """Steps of several parts in any order, and the pieces of each part."""
    keys = draw(
        st.lists(st.sampled_from(["t1", "t2", "h1", "c1", "c2", "1", "2", "3"]), unique=True)
    )
    scripts: dict[str, list[Step]] = {}
    for key in keys:
        text = draw(st.text(max_size=20)) if key[0] in "thc" else f'{{"a":{draw(VALUE)}}}'
        if draw(st.integers(0, 4)) == 0:
            text = draw(st.sampled_from(["", "{", '{"a":"}', '{"a":[}']))  # torn, or missing
        script = [start(key), *(add(key, piece) for piece in cut(text, draw(CUTS)))]
        if key[0] in "th":
            script.append(add(key, CITED if key[0] == "t" else SIGNED))
        scripts[key] = [*script, end(key)] if draw(st.booleans()) else script
    wanted = {
        key: [what if not isinstance(what, str) else ir.Delta(what) for _, _, what in script]
        for key, script in (
            (key, [step for step in script if step[0] == "add"]) for key, script in scripts.items()
        )
    }
    order = draw(st.permutations([key for key, script in scripts.items() for _ in script]))
    left = {key: iter(script) for key, script in scripts.items()}
    return [next(left[key]) for key in order], wanted


def said(found: list[Piece]) -> list[Piece]:
    """Pieces without the empty ones."""
    return [piece for piece in found if piece != ir.Delta("")]


@given(mixed())
def test_every_order_keeps_the_contents(
    given_steps: tuple[list[Step], dict[str, list[Piece]]],
) -> None:
    """However pieces are mixed, parts do not overlap, and each one has all its pieces in order."""
    steps, wanted = given_steps
    found = contents(run(steps))
    assert found.keys() == wanted.keys()
    for key, whole in wanted.items():
        assert said(found[key]) == said(whole)


@given(mixed())
def test_parts_begin_in_the_order_of_the_provider(
    given_steps: tuple[list[Step], dict[str, list[Piece]]],
) -> None:
    """The first part of each key comes in the order in which the provider began them."""
    steps, _ = given_steps
    events = run(steps)
    begun = [key_of(event.part) for event in events if isinstance(event, ir.PartStarted)]
    assert list(dict.fromkeys(begun)) == [key for verb, key, _ in steps if verb == "start"]


COUNT = 10_000
LARGE: dict[str, list[Step]] = {
    "calls": [
        start("1"),
        start("2"),
        add("1", "["),
        *(step for _ in range(COUNT) for step in (add("1", '{"a":"}"},'), add("2", '{"b":2},'))),
    ],
    "large pieces": [
        start("1"),
        start("2"),
        add("1", '{"a":"'),
        *(add(key, 'x\\"{' * 50_000) for _ in range(10) for key in ("1", "2")),
    ],
    "many calls": [
        *(start(str(key)) for key in range(COUNT)),
        *(add(str(key), "{}") for key in reversed(range(COUNT))),
    ],
    "text and calls": [
        start("t"),
        start("1"),
        *(step for _ in range(COUNT) for step in (add("1", '{"a":'), add("t", "a"))),
    ],
    "two texts": [
        start("t1"),
        start("t2"),
        *(step for _ in range(COUNT) for step in (add("t1", "a"), add("t2", "b"))),
    ],
}


@pytest.mark.parametrize("name", LARGE)
def test_pieces_in_turns_take_linear_time(name: str) -> None:
    """Neither reading arguments nor waiting parts cost more with each piece."""
    started = time.perf_counter()
    events = run(LARGE[name])
    assert time.perf_counter() - started < 2.0
    found = contents(events)
    assert sum(map(len, found.values())) == sum(verb == "add" for verb, _, _ in LARGE[name])
