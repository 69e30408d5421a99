"""Quirks of models, as edits of a body by spans."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serve_app.dialects.fields import GATEWAY_KEYS, PLANO_METADATA_KEYS
from serve_app.dialects.json_edits import NO_QUIRK, Quirk, read_document, rewrite_document
from serve_app.dialects.registry import DEFAULT_DIALECT
from serve_app.domain import Json
from tests.unit.dialects.json_texts import SPACE, VALUE

EFFORT: dict[str | float, str | float] = {"none": "low", "low": "low", "max": "high"}


def rewritten(body: str, quirk: Quirk) -> str:
    document = read_document(body.encode(), unique=DEFAULT_DIALECT.fields.read)
    return rewrite_document(
        document, model="m", cut=GATEWAY_KEYS, cut_metadata=PLANO_METADATA_KEYS, quirk=quirk
    ).decode()


DROP = Quirk(drop=frozenset({"a", "b"}))
RENAME = Quirk(rename={"max_tokens": "limit"})
VALUES = Quirk(values={"effort": EFFORT, "temperature": {1: 1}})
ADD = Quirk(drop=frozenset({"a"}), add={"key": "k", "é": "\u2028"})


@pytest.mark.parametrize(
    ("quirk", "body", "expected"),
    [
        (DROP, '{"a":1,"model":"m"}', '{"model":"m"}'),
        (DROP, '{"model":"m", "b" : [1,{"a":2}] , "c":3}', '{"model":"m" , "c":3}'),
        (DROP, '{"a":1,"b":2}', '{"model": "m"}'),
        (DROP, '{"a":1,"b":2,"c":3}', '{"model": "m", "c":3}'),
        (DROP, '{"c":3,"a":1,"models":[],"b":2}', '{"model": "m", "c":3}'),
        (DROP, '{"\\u0061":1,"c":{"a":1}}', '{"model": "m", "c":{"a":1}}'),
        (DROP, '{"a":1,"c":3,"a":2}', '{"model": "m", "c":3}'),
        (RENAME, '{"model":"m","max_tokens" : 1e2}', '{"model":"m","limit" : 1e2}'),
        (RENAME, '{"max_tokens":5}', '{"model": "m", "limit":5}'),
        (RENAME, '{"models":[],"max_tokens":5}', '{"model": "m", "limit":5}'),
        (RENAME, '{"model":"m","max\\u005ftokens":null}', '{"model":"m","limit":null}'),
        (RENAME, '{"max_tokens":5,"model":"m","limit":6}', '{"model":"m","limit":6}'),
        (RENAME, '{"limit":6,"model":"m"}', '{"limit":6,"model":"m"}'),
        (RENAME, '{"max_tokens":5,"model":"m","max_tokens":6}', '{"limit":5,"model":"m","limit":6}'),
        (VALUES, '{"model":"m","effort" : "none" }', '{"model":"m","effort" : "low" }'),
        (VALUES, '{"model":"m","effort":"l\\u006fw"}', '{"model":"m","effort":"l\\u006fw"}'),
        (VALUES, '{"model":"m","effort":"huge"}', '{"model":"m"}'),
        (VALUES, '{"effort":null,"model":"m"}', '{"model":"m"}'),
        (VALUES, '{"effort":["low"],"model":"m"}', '{"model":"m"}'),
        (VALUES, '{"effort":{"low":1},"model":"m"}', '{"model":"m"}'),
        (VALUES, '{"model":"m","temperature":1.0}', '{"model":"m","temperature":1.0}'),
        (VALUES, '{"model":"m","temperature":1}', '{"model":"m","temperature":1}'),
        (VALUES, '{"model":"m","temperature":0.7}', '{"model":"m"}'),
        (VALUES, '{"model":"m","temperature":true}', '{"model":"m"}'),
        (VALUES, '{"effort":"none","model":"m","effort":"max"}', '{"effort":"none","model":"m","effort":"high"}'),
        (VALUES, '{"effort":"max","model":"m","effort":"huge"}', '{"model":"m"}'),
        (ADD, '{ "model" : "x" , "b":1 }', '{"key": "k", "\\u00e9": "\\u2028",  "model" : "m" , "b":1 }'),
        (ADD, '{"é":1,"model":"x"}', '{"key": "k", "é":1,"model":"m"}'),
        (ADD, '{"é":null,"b":1,"key":2}', '{"model": "m", "é":null,"b":1,"key":2}'),
        (ADD, '{"a":1,"b":2}', '{"key": "k", "\\u00e9": "\\u2028", "model": "m", "b":2}'),
        (ADD, '{"a":1}', '{"key": "k", "\\u00e9": "\\u2028", "model": "m"}'),
        (ADD, '{"a":1,"models":[],"model":"x"}', '{"key": "k", "\\u00e9": "\\u2028", "model":"m"}'),
        (NO_QUIRK, '{"a":1,"model":"m","effort":"huge"}', '{"a":1,"model":"m","effort":"huge"}'),
    ],
)  # fmt: skip
def test_quirk_edits_named_keys(quirk: Quirk, body: str, expected: str) -> None:
    """A quirk drops, renames or maps its keys, however they are spelled, and keeps the rest."""
    assert rewritten(body, quirk) == expected


def test_quirk_may_drop_metadata() -> None:
    """A quirk may drop or rename metadata that the rewrite edits as well."""
    body = '{"model":"m","metadata":{"plano_preference_config":"x","user":"u"},"n":1}'
    assert rewritten(body, Quirk(drop=frozenset({"metadata"}))) == '{"model":"m","n":1}'
    renamed = rewritten(body, Quirk(rename={"metadata": "tags"}))
    assert renamed == '{"model":"m","tags":{"user":"u"},"n":1}'


NAMES = ["a", "b", "c", "d", "new", "model", "models"]
WRITTEN = {name: [json.dumps(name), f'"\\u{ord(name[0]):04x}{name[1:]}"'] for name in NAMES}
SCALAR = st.sampled_from(["1", "1.0", '"x"', '"y"', "true", "null", '"\\u0078"'])
TAKEN: dict[str | float, str | float] = {"x": "x", "y": "z", 1: 1}


@st.composite
def quirks(draw: st.DrawFn) -> Quirk:
    """Any quirk of four keys, each in at most one part of it."""
    parts = draw(st.lists(st.sampled_from("drv-"), min_size=4, max_size=4))
    by_part = {part: [k for k, p in zip("abcd", parts, strict=True) if p == part] for part in "drv"}
    return Quirk(
        frozenset(by_part["d"]),
        dict.fromkeys(by_part["r"][:1], "new"),
        dict.fromkeys(by_part["v"], TAKEN),
    )


@st.composite
def documents(draw: st.DrawFn) -> list[tuple[str, str, str]]:
    """Members in any spelling as (name, text up to the value, value)."""
    drawn: list[tuple[str, str, str]] = []
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=8)):
        if name in {"model", "models"} and any(name == other for other, _, _ in drawn):
            continue
        key = draw(st.sampled_from(WRITTEN[name]))
        value = draw(st.one_of(SCALAR, VALUE))
        drawn.append((name, f"{key}{draw(SPACE)}:{draw(SPACE)}", value))
    return drawn


def expected(
    members: list[tuple[str, str, str]], quirk: Quirk
) -> list[tuple[str, str, str, Json, dict[str, str]]]:
    """The members that are kept: name, text before the value, value, parsed value, changes."""
    last = {name: json.loads(value) for name, _, value in members}
    positions = {name: index for index, (name, _, _) in enumerate(members)}
    gone = {*quirk.drop, "models"}
    gone |= {name for name, new in quirk.rename.items() if new in last}
    mapped = {}
    for name, taken in quirk.values.items():
        parsed = last.get(name)
        fits = [new for old, new in taken.items() if type(parsed) is not bool and old == parsed]
        mapped[name] = fits[0] if fits else None
        gone |= set() if fits else {name}
    kept: list[tuple[str, str, str, Json, dict[str, str]]] = []
    for index, (name, head, value) in enumerate(members):
        if name in gone:
            continue
        changes = {}
        meaning = "m" if name == "model" else json.loads(value)
        if name == "model":
            changes["value"] = '"m"'
        elif name in quirk.rename:
            changes["key"] = quirk.rename[name]
        elif name in quirk.values and positions[name] == index and mapped[name] != meaning:
            meaning = mapped[name]
            changes["value"] = json.dumps(meaning)
        kept.append((name, head, value, meaning, changes))
    return kept


@settings(max_examples=150)
@given(documents(), quirks(), st.lists(SPACE, min_size=3, max_size=3))
@example([("a", '"a":', "1"), ("models", '"models":', "1"), ("b", '"b":', "2")], DROP, ["", "", ""])
def test_quirk_changes_named_members_only(
    members: list[tuple[str, str, str]], quirk: Quirk, space: list[str]
) -> None:
    """The result parses to the expected object, and every other member keeps its bytes and its
    order.
    """
    text = ",".join(f"{space[0]}{head}{value}{space[1]}" for _, head, value in members)
    body = rewritten(f"{{{text}}}{space[2]}", quirk)
    kept = expected(members, quirk)
    pairs = [(changes.get("key", name), meaning) for name, _, _, meaning, changes in kept]
    if "model" not in {name for name, _, _ in members}:
        pairs.insert(0, ("model", "m"))
    assert repr(json.loads(body, object_pairs_hook=list)) == repr(_as_pairs(pairs, kept))
    at = 0
    for name, head, value, _, changes in kept:
        if "key" in changes:
            head = json.dumps(changes["key"]) + head[head.index('"', 1) + 1 :]  # noqa: PLW2901
        written = head + changes.get("value", value)
        assert written in body[at:], name
        at = body.index(written, at) + len(written)


def _as_pairs(pairs: list[tuple[str, Json]], kept: list[Json]) -> list[tuple[str, Json]]:
    """The result of a parser that keeps pairs, inside values too."""
    inner = [
        meaning if changes.get("value") else json.loads(value, object_pairs_hook=list)
        for _, _, value, meaning, changes in kept
    ]
    front = [pairs[0]] if len(pairs) > len(kept) else []
    return front + [
        (name, value) for (name, _), value in zip(pairs[len(front) :], inner, strict=True)
    ]


@settings(max_examples=60)
@given(documents())
def test_quirk_without_matching_keys_changes_nothing(members: list[tuple[str, str, str]]) -> None:
    """If none of a quirk's keys is present, the body equals that for a model without quirks."""
    body = "{" + ",".join(f"{head}{value}" for _, head, value in members) + "}"
    foreign = Quirk(frozenset({"x"}), {"y": "z"}, {"w": {1: 1}})
    assert rewritten(body, foreign) == rewritten(body, NO_QUIRK)
